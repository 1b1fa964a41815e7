//! Paths of a workspace as people write them, made into the one form that the platform answers
//! with: pure.
//!
//! Must never happen here: I/O, or a path that leads out of the workspace.

/// Where a workspace is mounted inside.
const MOUNT: &str = "/workspace";

/// `a`, `/a`, `./a`, `d/../a` and `/workspace/a` are one; the workspace itself is empty. None for
/// a `..` that leads out.
pub fn clean(path: &str) -> Option<String> {
    let inside = match path.strip_prefix(MOUNT) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    let mut parts = Vec::new();
    for part in inside.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What is at `file` below `path`.
pub fn join(path: &str, file: &str) -> String {
    match path {
        "" => file.to_owned(),
        path => format!("{path}/{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_path() {
        for same in ["a/b", "/a/b/", "./a//b", "c/../a/b/.", "/workspace/a/b"] {
            assert_eq!(clean(same).as_deref(), Some("a/b"), "{same}");
        }
        for root in ["", "/", ".", "a/..", "/workspace", "/workspace/"] {
            assert_eq!(clean(root).as_deref(), Some(""), "{root}");
        }
        assert_eq!(
            clean("/workspace/workspace/a").as_deref(),
            Some("workspace/a")
        );
        assert_eq!(clean("workspace/a").as_deref(), Some("workspace/a"));
        assert_eq!(clean("/workspaces").as_deref(), Some("workspaces"));
        for out in ["..", "a/../..", "/workspace/../x"] {
            assert_eq!(clean(out), None, "{out}");
        }
    }
}
