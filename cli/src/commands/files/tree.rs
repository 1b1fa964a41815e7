//! What is below a directory, here or in a workspace, as far as `sync` compares it.
//!
//! Must never happen here: a link followed, or a name from a workspace that leads out of a
//! directory here.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::path::join;
use super::plan::{Kind, LeftOut, Meta, Tree, excluded};
use super::{at, files_path, named};
use crate::client::ClientError;
use crate::session::{Failure, Session};
use crate::show::field;

/// What was found.
#[derive(Debug, Default)]
pub struct Look {
    /// By their paths.
    pub tree: Tree,
    /// What cannot be copied for its name.
    pub left_out: LeftOut,
}

/// Which end of a copy is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It must be there.
    Source,
    /// It may still be made.
    Target,
}

/// What is below a directory of this machine.
pub fn local(root: &Path, exclude: &[String], role: Role) -> Result<Look, Failure> {
    let mut look = Look::default();
    match (std::fs::metadata(root), role) {
        (Ok(found), Role::Source) if !found.is_dir() => {
            let text = format!("{} is no directory", root.display());
            return Err(Failure::Absent(text));
        }
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => match role {
            Role::Source => {
                let text = format!("{}: no such directory", root.display());
                return Err(Failure::Absent(text));
            }
            Role::Target => return Ok(look),
        },
        _ => {}
    }
    let mut left = vec![String::new()];
    while let Some(below) = left.pop() {
        let directory = root.join(&below);
        for entry in std::fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let name = entry.file_name();
            let path = join(&below, &name.to_string_lossy());
            if excluded(&path, exclude).is_some() {
                look.tree.insert(path, Meta::of(Kind::Excluded));
                continue;
            }
            if name.to_str().is_none() {
                look.tree.insert(path.clone(), Meta::of(Kind::Excluded));
                look.left_out.insert(path, "its name is not UTF-8");
                continue;
            }
            // Gone since it was listed, mostly.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let kind = match found.file_type() {
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_file() => Kind::File,
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::Other,
            };
            if kind == Kind::Directory {
                left.push(path.clone());
            }
            let meta = Meta {
                kind,
                size: found.len(),
                changed: micros(found.mtime(), found.mtime_nsec()),
                mode: found.permissions().mode() & 0o777,
            };
            look.tree.insert(path, meta);
        }
    }
    Ok(look)
}

/// What is below a directory of a workspace. `path` is [`super::path::clean`].
pub async fn remote(
    session: &Session,
    name: &str,
    path: &str,
    exclude: &[String],
    role: Role,
) -> Result<Look, Failure> {
    let place = format!("{name}:{path}");
    let call = files_path(name, "", &format!("/{path}")) + "&recursive=true&include_hidden=true";
    let listed = match session.get(&call).await {
        // A target is made with its first file; but the workspace must be there.
        Err(Failure::Client(ClientError::Refused { status: 404, .. }))
            if role == Role::Target && !path.is_empty() =>
        {
            session.workspace(name).await?;
            return Ok(Look::default());
        }
        listed => listed.map_err(named(&place))?,
    };
    let files = listed["files"].as_array().ok_or(Failure::Answer("files"))?;
    // Of what is no directory the one entry is itself.
    if files.iter().any(|file| field(file, "path") == path) {
        let text = format!("{place} is no directory");
        return Err(match role {
            Role::Source => Failure::Absent(text),
            Role::Target => Failure::Other(text),
        });
    }
    Ok(below(files, path, exclude))
}

/// The entries of a listing by their paths below `path`: pure.
fn below(files: &[Value], path: &str, exclude: &[String]) -> Look {
    let mut look = Look::default();
    let prefix = join(path, "");
    for file in files {
        let whole = field(file, "path");
        let Some(below) = whole.strip_prefix(&prefix) else {
            look.left_out
                .insert(whole.to_owned(), "it is somewhere else");
            continue;
        };
        if let Some(at) = excluded(below, exclude) {
            look.tree.insert(at.to_owned(), Meta::of(Kind::Excluded));
            continue;
        }
        // It becomes a path of this machine; and what is not UTF-8 is told with this letter, by
        // which it cannot be asked for.
        let is_odd = |part| matches!(part, "" | "." | "..");
        let odd = match below {
            below if below.split('/').any(is_odd) => Some("it is no name"),
            below if below.contains(char::REPLACEMENT_CHARACTER) => Some("its name is not UTF-8"),
            _ => None,
        };
        if let Some(why) = odd {
            look.tree.insert(below.to_owned(), Meta::of(Kind::Excluded));
            look.left_out.insert(below.to_owned(), why);
            continue;
        }
        look.tree.insert(below.to_owned(), meta(file));
    }
    look
}

fn meta(file: &Value) -> Meta {
    let changed = OffsetDateTime::parse(field(file, "modified_at"), &Rfc3339);
    let changed = changed.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mode = u32::from_str_radix(field(file, "permissions"), 8);
    Meta {
        kind: match field(file, "type") {
            "file" => Kind::File,
            "directory" => Kind::Directory,
            "symlink" => Kind::Link,
            _ => Kind::Other,
        },
        size: file["size_bytes"].as_u64().unwrap_or_default(),
        changed: micros(changed.unix_timestamp(), changed.nanosecond().into()),
        mode: mode.unwrap_or(0o644) & 0o777,
    }
}

/// Both sides cut what is finer, as the API does.
fn micros(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000) + nanos / 1000
}

/// What the API tells of one file; none if it is not a file, or not there any more.
pub async fn one(session: &Session, name: &str, path: &str) -> Option<Meta> {
    let path = super::path::clean(path)?;
    let listed = session.get(&files_path(name, "", &path)).await.ok()?;
    let files = listed["files"].as_array()?;
    let file = files.iter().find(|file| field(file, "path") == path)?;
    let meta = meta(file);
    (meta.kind == Kind::File).then_some(meta)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listing_becomes_a_tree() {
        let file = |path: &str, kind: &str| {
            json!({ "path": path, "type": kind, "size_bytes": 3, "permissions": "0755",
                "modified_at": "1970-01-01T00:00:01.000002Z" })
        };
        let files = [
            file("app/app/f", "file"),
            file("app/app", "directory"),
            file("app/l", "symlink"),
            file("app/.git/config", "file"),
            file("app/../x", "file"),
            file("app/\u{fffd}", "file"),
        ];
        let look = below(&files, "app", &[]);
        let kinds: Vec<_> = look
            .tree
            .iter()
            .map(|(p, m)| (p.as_str(), m.kind))
            .collect();
        let expected = [
            ("../x", Kind::Excluded),
            (".git", Kind::Excluded),
            ("app", Kind::Directory),
            ("app/f", Kind::File),
            ("l", Kind::Link),
            ("\u{fffd}", Kind::Excluded),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(look.left_out.len(), 2);
        assert_eq!(look.tree["app/f"].changed, 1_000_002);
        assert_eq!(look.tree["app/f"].mode, 0o755);
        assert_eq!(below(&files[..2], "", &[]).tree.len(), 2);
    }

    #[test]
    fn a_directory_here_becomes_a_tree() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path();
        std::fs::create_dir_all(root.join("d/.git")).unwrap();
        std::fs::write(root.join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("f", root.join("d/l")).unwrap();
        use std::os::unix::ffi::OsStrExt as _;
        let odd = std::ffi::OsStr::from_bytes(b"\xff");
        std::fs::write(root.join(odd), "x").unwrap();
        let look = local(root, &[], Role::Source).unwrap();
        let kinds: Vec<_> = look
            .tree
            .iter()
            .map(|(p, m)| (p.as_str(), m.kind))
            .collect();
        let expected = [
            ("d", Kind::Directory),
            ("d/.git", Kind::Excluded),
            ("d/f", Kind::File),
            ("d/l", Kind::Link),
            ("\u{fffd}", Kind::Excluded),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(look.left_out.len(), 1);
        let nowhere = root.join("nowhere");
        assert!(local(&nowhere, &[], Role::Source).is_err());
        assert!(local(&nowhere, &[], Role::Target).unwrap().tree.is_empty());
        assert!(local(&root.join("d/f"), &[], Role::Source).is_err());
    }
}
