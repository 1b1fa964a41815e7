//! The data dir: private, used by one process at a time, and with an identity that lasts.
//!
//! ```text
//! DATA/lock            held as long as the process uses the directory; names its pid
//! DATA/instance.json   the ids that outlive processes
//! ```
//!
//! Must never happen here: a second identity for a directory that has one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::id::{InstanceId, NodeId};

/// An open data dir. It is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Closing it releases the lock; children do not inherit it.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    instance: InstanceId,
    node: NodeId,
}

/// Why a data dir cannot be used, and what helps. For the operator, not for API callers.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each means")]
pub enum DataDirError {
    #[error("{} is not a directory; choose another --data-dir", .path.display())]
    NotADirectory { path: PathBuf },
    #[error(
        "{} may be read by others (mode {mode:03o}), and it holds keys; fix: chmod 700 {}",
        .path.display(), .path.display()
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error(
        "{} belongs to uid {owner}, not to uid {me} that runs this; fix: run as its owner, or \
         choose another --data-dir",
        .path.display()
    )]
    Foreign { path: PathBuf, owner: u32, me: u32 },
    #[error(
        "{} is in use by {}; stop it first, or choose another --data-dir",
        .path.display(), .pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error(
        "{} is damaged ({why}). It names what this data dir owns on the machine, so it is not \
         replaced; fix: restore it, or start with a new --data-dir",
        .path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes the directory if it is missing, checks that it is private, takes its lock, and loads
    /// its identity or gives it one. Blocking; for the start.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        if fs::symlink_metadata(path).is_err() {
            durable::make_dir(path).map_err(failed(path))?;
        }
        let path = fs::canonicalize(path).map_err(failed(path))?;
        check_private(&path)?;
        let lock = take_lock(&path)?;
        let identity = load_or_mint(&path.join("instance.json"))?;
        Ok(Self {
            path,
            identity,
            _lock: lock,
        })
    }

    /// The directory, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that prefixes everything of ours on this machine.
    pub fn instance(&self) -> &InstanceId {
        &self.identity.instance
    }

    /// The id of the node that runs from this directory.
    pub fn node(&self) -> &NodeId {
        &self.identity.node
    }
}

/// The id of a data dir that another process may have open; none if it was never opened.
///
/// # Errors
/// See [`DataDirError`].
pub fn instance_of(path: &Path) -> Result<Option<InstanceId>, DataDirError> {
    let identity = load(&path.join("instance.json"))?;
    Ok(identity.map(|identity| identity.instance))
}

fn check_private(path: &Path) -> Result<(), DataDirError> {
    let path = path.to_owned();
    let about = match fs::metadata(&path) {
        Ok(about) => about,
        Err(source) => return Err(DataDirError::Io { path, source }),
    };
    let me = rustix::process::geteuid().as_raw();
    let (owner, mode) = (about.uid(), about.mode() & 0o7777);
    if !about.is_dir() {
        return Err(DataDirError::NotADirectory { path });
    }
    if owner != me {
        return Err(DataDirError::Foreign { path, owner, me });
    }
    if mode & 0o077 != 0 {
        return Err(DataDirError::TooOpen { path, mode });
    }
    Ok(())
}

fn take_lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    let failed = |source| DataDirError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = (&file).take(32).read_to_string(&mut holder);
            return Err(DataDirError::InUse {
                path: dir.to_owned(),
                pid: read.ok().and_then(|_| holder.trim().parse().ok()),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // Only a hint for the message above; the lock itself needs no content.
    let noted = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.map_err(failed)?;
    Ok(file)
}

fn load_or_mint(path: &Path) -> Result<Identity, DataDirError> {
    if let Some(identity) = load(path)? {
        return Ok(identity);
    }
    let identity = Identity {
        instance: InstanceId::mint(),
        node: NodeId::mint(),
    };
    let content = serde_json::to_vec_pretty(&identity).map_err(io::Error::from);
    let written = content.and_then(|content| durable::write(path, &content));
    written.map_err(|source| DataDirError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(identity)
}

fn load(path: &Path) -> Result<Option<Identity>, DataDirError> {
    let content = match durable::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(DataDirError::Io { path, source });
        }
    };
    let parsed = serde_json::from_slice(&content);
    parsed.map(Some).map_err(|error| DataDirError::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_identity_lasts_and_the_directory_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/data");
        let first = DataDir::open(&path).unwrap();
        let ids = (first.instance().clone(), first.node().clone());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(instance_of(&path).unwrap().as_ref(), Some(first.instance()));
        assert_eq!(instance_of(parent.path()).unwrap(), None);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("lock")), 0o600);
        assert_eq!(mode(&path.join("instance.json")), 0o600);
        drop(first);
        let second = DataDir::open(&path).unwrap();
        assert_eq!((second.instance().clone(), second.node().clone()), ids);
    }

    #[test]
    fn a_second_user_is_told_who_has_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err();
        let me = std::process::id();
        assert!(matches!(refused, DataDirError::InUse { pid, .. } if pid == Some(me)));
        assert!(refused.to_string().contains(&format!("process {me}")));
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_read_is_refused_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o750, 0o701, 0o777] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = DataDir::open(dir.path()).unwrap_err();
            assert!(refused.to_string().contains("fix: chmod 700 "), "{refused}");
        }
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = DataDir::open(&file).unwrap_err();
        assert!(matches!(refused, DataDirError::NotADirectory { .. }));
    }

    #[test]
    fn a_damaged_identity_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        drop(DataDir::open(&dir).unwrap());
        let path = dir.join("instance.json");
        for content in ["", "{}", r#"{"instance":"f","node":"../x"}"#] {
            fs::write(&path, content).unwrap();
            let refused = DataDir::open(&dir).unwrap_err();
            assert!(matches!(refused, DataDirError::Damaged { .. }), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
