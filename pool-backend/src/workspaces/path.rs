//! Paths as users write them, made into one form: relative to `/workspace`, without `.`, `..` or
//! doubled slashes. Pure; what a path meets on disk is decided by `volume_files`.
//!
//! Must never happen here: I/O, or a path that names something outside of the volume.

use crate::error::{Error, ErrorKind};

/// Longest path taken, in bytes (Linux' own PATH_MAX).
const MAX_PATH: usize = 4096;
/// Longest component taken, in bytes (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// Where the volume is mounted inside.
const MOUNT: &str = "/workspace";

/// A path relative to the volume's root; the root itself is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumePath(String);

impl VolumePath {
    /// `a`, `/a`, `./a` and `/workspace/a` are one path.
    ///
    /// # Errors
    /// `Invalid` for a NUL, a `..` that leaves the root, and what is longer than Linux allows.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_PATH {
            return Err(invalid("the path is longer than 4096 bytes"));
        }
        if text.contains('\0') {
            return Err(invalid("the path contains a NUL byte"));
        }
        let inside = match text.strip_prefix(MOUNT) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => text,
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in inside.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() {
                        return Err(invalid("the path leads out of the workspace"));
                    }
                }
                _ if part.len() > MAX_COMPONENT => {
                    return Err(invalid("a name in the path is longer than 255 bytes"));
                }
                _ => parts.push(part),
            }
        }
        Ok(Self(parts.join("/")))
    }

    /// As [`VolumePath::parse`], for calls that make no sense on the root.
    ///
    /// # Errors
    /// `Invalid`, for the root too.
    pub(crate) fn parse_below_root(text: &str) -> Result<Self, Error> {
        let path = Self::parse(text)?;
        if path.is_root() {
            return Err(invalid("the path names the workspace itself"));
        }
        Ok(path)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// What is `below` this one.
    ///
    /// # Errors
    /// `Invalid` when that is too long.
    pub(crate) fn join(&self, below: &Self) -> Result<Self, Error> {
        match (self.is_root(), below.is_root()) {
            (true, _) => Ok(below.clone()),
            (_, true) => Ok(self.clone()),
            _ if self.0.len() + 1 + below.0.len() > MAX_PATH => {
                Err(invalid("the path is longer than 4096 bytes"))
            }
            _ => Ok(Self(format!("{}/{}", self.0, below.0))),
        }
    }

    /// The directory that it is in; of the root the root.
    pub(crate) fn parent(&self) -> Self {
        let parent = self.0.rsplit_once('/').map_or("", |(parent, _)| parent);
        Self(parent.to_owned())
    }

    /// Its last component; of the root nothing.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// For `openat`: the root is `.`.
    pub(crate) fn as_relative(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }
}

/// The absolute directory inside the container in which a command runs.
///
/// # Errors
/// `Invalid` for a NUL or an over-long path.
pub(crate) fn working_dir(text: &str) -> Result<String, Error> {
    if text.len() > MAX_PATH {
        return Err(invalid("the working directory is longer than 4096 bytes"));
    }
    if text.contains('\0') {
        return Err(invalid("the working directory contains a NUL byte"));
    }
    Ok(if text.starts_with('/') {
        text.to_owned()
    } else if text.is_empty() {
        MOUNT.to_owned()
    } else {
        format!("{MOUNT}/{text}")
    })
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        VolumePath::parse(text).unwrap().as_str().to_owned()
    }

    #[test]
    fn spellings_of_one_path() {
        for text in [
            "a/b",
            "/a/b",
            "./a/b",
            "/workspace/a/b",
            "a//b/",
            "x/../a/./b",
        ] {
            assert_eq!(normal(text), "a/b", "{text}");
        }
        for text in ["", "/", ".", "/workspace", "/workspace/", "a/.."] {
            assert_eq!(normal(text), "", "{text}");
        }
        assert_eq!(normal("/workspacex"), "workspacex");
        assert_eq!(normal("workspace/a"), "workspace/a");
    }

    #[test]
    fn refused() {
        let long_name = "n".repeat(256);
        let long_path = "a/".repeat(2049);
        for text in [
            "..",
            "/..",
            "a/../..",
            "/workspace/../etc",
            "a\0b",
            &long_name,
            &long_path,
        ] {
            let error = VolumePath::parse(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{text:?}");
        }
        assert!(VolumePath::parse_below_root("/").is_err());
        assert!(VolumePath::parse_below_root("a/..").is_err());
    }

    #[test]
    fn working_dirs() {
        assert_eq!(working_dir("").unwrap(), "/workspace");
        assert_eq!(working_dir("src").unwrap(), "/workspace/src");
        assert_eq!(working_dir("/tmp").unwrap(), "/tmp");
        assert!(working_dir("a\0").is_err());
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_inside(text in "[a-z./\u{e9} -]{0,80}") {
            if let Ok(path) = VolumePath::parse(&text) {
                prop_assert!(!path.as_str().starts_with('/'));
                prop_assert!(path.as_str().split('/').all(|part| part != ".." && part != "."));
                prop_assert!(!path.as_str().contains("//"));
                // Stable: the one form is its own form (unless it begins with the mount's name).
                prop_assert_eq!(VolumePath::parse(path.as_str()).unwrap(), path);
            }
        }

        #[test]
        fn a_prefix_changes_nothing(text in "[a-z][a-z/.]{0,40}") {
            let plain = VolumePath::parse(&text).map(|p| p.as_str().to_owned()).ok();
            for prefix in ["/", "./", "/workspace/", "//"] {
                let with = VolumePath::parse(&format!("{prefix}{text}")).map(|p| p.as_str().to_owned()).ok();
                prop_assert_eq!(&plain, &with);
            }
        }
    }
}
