//! Archives on their way in and out of a volume: tar, tar.gz and zip.
//!
//! What comes in was made by strangers. It is read twice: once to its end, to find anything that
//! makes it unfit ([`plan`]), and only then again to write it. What goes out is made as it is
//! sent.
//!
//! Must never happen here: a name that leads out, a device, a set-uid bit, a whole file in memory,
//! memory or disk set aside because an archive says so.

mod incoming;
pub(crate) mod outgoing;
pub(crate) mod plan;
mod tar_in;
mod zip_in;

use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

pub(crate) use incoming::{Archive, changes};
pub(crate) use plan::{Plan, What};

/// How an archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not compressed.
    Tar,
    /// The usual one.
    TarGz,
    /// For those who have nothing else.
    Zip,
}

impl Format {
    /// Its ending, without a dot.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::Zip => "zip",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::TarGz => "application/gzip",
            Self::Zip => "application/zip",
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tar" => Ok(Self::Tar),
            "tar.gz" | "tgz" => Ok(Self::TarGz),
            "zip" => Ok(Self::Zip),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                "format must be tar, tar.gz or zip",
            )),
        }
    }
}

/// What an archive may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes as it comes.
    pub(crate) packed: u64,
    /// Bytes of all that is in it.
    pub(crate) unpacked: u64,
    /// Files, directories and links.
    pub(crate) entries: usize,
    /// Directories on the way to a file.
    pub(crate) depth: usize,
    /// Times that it may grow, once it is larger than [`Limits::small`].
    pub(crate) ratio: u64,
    /// Bytes of which nobody asks how well they were compressed.
    pub(crate) small: u64,
}

/// Of everybody's.
pub(crate) const LIMITS: Limits = Limits {
    packed: 2 << 30,
    unpacked: 4 << 30,
    entries: 100_000,
    depth: 64,
    ratio: 200,
    small: 64 << 20,
};

/// A name of an archive in an error: cut, and without control characters.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text
        .chars()
        .take(120)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(120).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a link at `path`, below a root, that leads to `target` stays below the root: by its
/// words, whatever other links there are.
pub fn stays_inside(path: &Path, target: &Path) -> bool {
    use std::path::Component;
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn too_large(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::TooLarge, message)
}

#[cfg(test)]
mod tests;
