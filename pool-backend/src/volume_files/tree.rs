//! All that is in a directory of a volume, for an archive: names as bytes, links with where they
//! lead.
//!
//! Must never happen here: a link followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, Statx};
use rustix::io::Errno;
use time::OffsetDateTime;

use super::{
    HOME, MAX_DEPTH, MAX_ENTRIES, OpenFile, VolumeFiles, info, open_beneath, open_no_links,
    open_root, refused, statx, version,
};
use crate::error::{Error, ErrorKind};
use crate::workspaces::FileKind;
use crate::workspaces::path::VolumePath;

/// One thing in a tree.
#[derive(Debug, Clone)]
pub(crate) struct TreeEntry {
    /// Below the tree's root.
    pub(crate) path: PathBuf,
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) modified_at: OffsetDateTime,
    /// Of a symlink.
    pub(crate) target: Option<Vec<u8>>,
}

/// A tree that was looked through.
#[derive(Clone)]
pub(crate) struct Tree {
    base: Arc<std::os::fd::OwnedFd>,
    /// Directories before what is in them.
    pub(crate) entries: Vec<TreeEntry>,
}

impl VolumeFiles {
    /// All below `path`, hidden names too but for the package directory at the volume's root; or
    /// the one file that it names.
    pub(crate) async fn tree(&self, root: &Path, path: &VolumePath) -> Result<Tree, Error> {
        let (root, path) = (root.to_owned(), path.clone());
        self.blocking(move || walk(&root, &path)).await
    }

    /// A regular file of the tree; none when it is not there any more, or not a file any more.
    pub(crate) async fn open_in(
        &self,
        tree: &Tree,
        path: &Path,
    ) -> Result<Option<OpenFile>, Error> {
        let (base, path) = (Arc::clone(&tree.base), path.to_owned());
        let opened = self.blocking(move || {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
            let file = match open_no_links(&base, &path, flags) {
                Ok(file) => file,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => {
                    return Ok(None);
                }
                Err(error) => return Err(refused(error)),
            };
            let status = statx(&file, "").map_err(refused)?;
            let info = info(path.to_string_lossy().into_owned(), &status);
            let is_file = info.kind == FileKind::File;
            let opened = (info, version(&status), std::fs::File::from(file));
            Ok(is_file.then_some(opened))
        });
        let Some((info, version, file)) = opened.await? else {
            return Ok(None);
        };
        Ok(Some(OpenFile {
            info,
            version,
            files: self.clone(),
            file: Arc::new(file),
        }))
    }
}

fn walk(root: &Path, path: &VolumePath) -> Result<Tree, Error> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let base = match open_beneath(&open_root(root)?, path.as_relative(), directory) {
        Ok(base) => base,
        Err(Errno::NOTDIR) => return alone(root, path),
        Err(error) => return Err(refused(error)),
    };
    let mut entries = Vec::new();
    let mut pending = vec![(PathBuf::new(), 0_usize)];
    while let Some((below, depth)) = pending.pop() {
        let here = if depth == 0 { Path::new(".") } else { &below };
        let Ok(handle) = open_no_links(&base, here, directory) else {
            continue; // Gone or replaced since it was listed.
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&handle).map_err(refused)? {
            let Ok(entry) = entry else { break };
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            let is_home = path.is_root() && depth == 0 && name == HOME;
            if name == "." || name == ".." || is_home {
                continue;
            }
            if entries.len() + found.len() >= MAX_ENTRIES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    "more than 100000 entries; take a directory below",
                ));
            }
            found.push(name);
        }
        found.sort();
        let mut directories = Vec::new();
        for name in found {
            let Ok(status) = statx(&handle, &*name) else {
                continue; // Gone since it was read.
            };
            let child = below.join(&name);
            let entry = entry(&handle, &name, child.clone(), &status);
            if entry.kind == FileKind::Directory {
                if depth + 1 >= MAX_DEPTH {
                    let message = format!("directories deeper than {MAX_DEPTH}");
                    return Err(Error::new(ErrorKind::TooLarge, message));
                }
                directories.push((child, depth + 1));
            }
            entries.push(entry);
        }
        pending.extend(directories.into_iter().rev());
    }
    Ok(Tree {
        base: Arc::new(base),
        entries,
    })
}

/// A tree of the one file.
fn alone(root: &Path, path: &VolumePath) -> Result<Tree, Error> {
    let parent = path.parent();
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let base = open_beneath(&open_root(root)?, parent.as_relative(), directory).map_err(refused)?;
    let name = OsStr::new(path.name());
    let status = statx(&base, name).map_err(refused)?;
    let entries = vec![entry(&base, name, PathBuf::from(name), &status)];
    Ok(Tree {
        base: Arc::new(base),
        entries,
    })
}

fn entry(
    directory: &std::os::fd::OwnedFd,
    name: &OsStr,
    path: PathBuf,
    status: &Statx,
) -> TreeEntry {
    let known = info(String::new(), status);
    let target = (known.kind == FileKind::Symlink)
        .then(|| rustix::fs::readlinkat(directory, name, Vec::new()).ok())
        .flatten()
        .map(|target| target.into_bytes());
    TreeEntry {
        path,
        kind: known.kind,
        mode: known.mode,
        modified_at: known.modified_at,
        target,
    }
}
