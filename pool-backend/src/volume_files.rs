//! Files of a workspace as the node sees them in its volume: what stands there, lists, and
//! streaming reads, without waking anybody.
//!
//! The volume's content belongs to strangers. Each path is resolved by the kernel beneath the
//! volume's root (`RESOLVE_BENEATH`), so that no symlink, however it is swapped meanwhile, leads
//! out; nothing but regular files is ever read.
//!
//! Must never happen here: a write, a whole file in memory, or a path joined and opened by name.

mod links;
pub(crate) mod obstacles;
mod reading;
pub(crate) mod tree;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind};
use crate::workspaces::path::VolumePath;
use crate::workspaces::{FileInfo, FileKind};
pub use reading::OpenFile;

/// Blocking file operations at once, over all workspaces.
const CONCURRENT: usize = 32;
/// Longest list.
const MAX_ENTRIES: usize = 100_000;
/// Deepest directory that a recursive list enters.
const MAX_DEPTH: usize = 64;
/// The package directory at the volume's root: listed only when asked for by its path.
const HOME: &str = ".home";
/// The kernel gives up a resolution that raced with a rename; it is then tried again.
const RACES: usize = 16;

/// Reads volumes, with a bound on what goes on at once.
#[derive(Clone)]
pub(crate) struct VolumeFiles {
    permits: Arc<Semaphore>,
}

impl VolumeFiles {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }

    /// What stands at `path`, without following a symlink there.
    pub(crate) async fn stat(&self, root: &Path, path: &VolumePath) -> Result<FileInfo, Error> {
        let (root, path) = (root.to_owned(), path.clone());
        self.blocking(move || stat(&root, &path)).await
    }

    /// The entries of a directory, by path; the entry itself for anything else.
    pub(crate) async fn list(
        &self,
        root: &Path,
        path: &VolumePath,
        recursive: bool,
        hidden: bool,
    ) -> Result<Vec<FileInfo>, Error> {
        let (root, path) = (root.to_owned(), path.clone());
        self.blocking(move || list(&root, &path, recursive, hidden))
            .await
    }

    /// A regular file, to be read.
    pub(crate) async fn open(&self, root: &Path, path: &VolumePath) -> Result<OpenFile, Error> {
        let (root, path) = (root.to_owned(), path.clone());
        let (info, version, file) = self.blocking(move || open_file(&root, &path)).await?;
        Ok(OpenFile {
            info,
            version,
            files: self.clone(),
            file: Arc::new(file),
        })
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|closed| Error::caused(ErrorKind::Internal, "shutting down", closed))?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(|failed| Error::caused(ErrorKind::Internal, "a file operation failed", failed))?
    }
}

fn stat(root: &Path, path: &VolumePath) -> Result<FileInfo, Error> {
    let found = open_beneath(
        &open_root(root)?,
        path.as_relative(),
        OFlags::PATH | OFlags::NOFOLLOW,
    )
    .map_err(refused)?;
    let status = statx(&found, "").map_err(refused)?;
    Ok(info(path.as_str().to_owned(), &status))
}

fn open_file(root: &Path, path: &VolumePath) -> Result<(FileInfo, String, std::fs::File), Error> {
    // Never waits for a FIFO's writer, never becomes a controlling terminal.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_beneath(&open_root(root)?, path.as_relative(), flags).map_err(refused)?;
    let status = statx(&file, "").map_err(refused)?;
    let info = info(path.as_str().to_owned(), &status);
    match info.kind {
        FileKind::File => Ok((info, version(&status), std::fs::File::from(file))),
        FileKind::Directory => Err(wrong_type("the path is a directory")),
        FileKind::Symlink | FileKind::Other => Err(wrong_type("the path is not a regular file")),
    }
}

fn list(
    root: &Path,
    path: &VolumePath,
    recursive: bool,
    hidden: bool,
) -> Result<Vec<FileInfo>, Error> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let base = match open_beneath(&open_root(root)?, path.as_relative(), directory) {
        Ok(base) => base,
        Err(Errno::NOTDIR) => return Ok(vec![stat(root, path)?]),
        Err(error) => return Err(refused(error)),
    };
    let mut entries = Vec::new();
    let mut pending = vec![(String::new(), 0_usize)];
    while let Some((below, depth)) = pending.pop() {
        let name = if below.is_empty() { "." } else { &below };
        let Ok(handle) = open_no_links(&base, name, directory) else {
            continue; // Gone or replaced since it was listed.
        };
        for (name, status) in read_directory(&handle)? {
            if name.starts_with('.')
                && (!hidden || (path.is_root() && below.is_empty() && name == HOME))
            {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    "more than 100000 entries; list a directory below",
                ));
            }
            let child = join(&below, &name);
            let entry = info(join(path.as_str(), &child), &status);
            if recursive && entry.kind == FileKind::Directory && depth < MAX_DEPTH {
                pending.push((child, depth + 1));
            }
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Names are decoded lossily: a name that is not UTF-8 is shown, but cannot be opened by it.
fn read_directory(directory: &OwnedFd) -> Result<Vec<(String, Statx)>, Error> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(refused)? {
        let Ok(entry) = entry else { break };
        let raw = entry.file_name();
        if matches!(raw.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(status) = statx(directory, raw) else {
            continue; // Gone since it was read.
        };
        entries.push((raw.to_string_lossy().into_owned(), status));
        if entries.len() > MAX_ENTRIES {
            break; // The caller's own count refuses it.
        }
    }
    Ok(entries)
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    }
}

fn open_root(root: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| Error::caused(ErrorKind::Internal, "the volume cannot be opened", error))
}

/// Follows links as long as they stay in the volume.
fn open_beneath(at: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match open_resolved(at, path, flags, ResolveFlags::empty()) {
        // Out of the volume, or absolute within it.
        Err(Errno::XDEV) => {
            let follow_last = !flags.contains(OFlags::NOFOLLOW);
            let path = links::walked(at, path, follow_last)?;
            open_no_links(at, path, flags)
        }
        outcome => outcome,
    }
}

fn open_no_links(
    at: &OwnedFd,
    path: impl AsRef<Path>,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    open_resolved(at, path.as_ref(), flags, ResolveFlags::NO_SYMLINKS)
}

fn open_resolved(
    at: &OwnedFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
    for _ in 0..RACES {
        match rustix::fs::openat2(
            at,
            path.as_ref(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}

fn statx(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(at, name, flags, mask)
}

fn info(path: String, status: &Statx) -> FileInfo {
    let mode = u32::from(status.stx_mode);
    let kind = match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::RegularFile => FileKind::File,
        rustix::fs::FileType::Directory => FileKind::Directory,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let has_birth = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
    let modified = moment(&status.stx_mtime);
    FileInfo {
        path,
        kind,
        size: status.stx_size,
        mode: mode & 0o7777,
        created_at: if has_birth {
            moment(&status.stx_btime)
        } else {
            modified
        },
        modified_at: modified,
        write_id: None,
    }
}

/// See [`OpenFile::version`].
fn version(status: &Statx) -> String {
    let (at, inode, size) = (&status.stx_ctime, status.stx_ino, status.stx_size);
    format!("{:x}-{:x}-{inode:x}-{size:x}", at.tv_sec, at.tv_nsec)
}

/// Times are whatever the owner set; those out of range become the epoch.
fn moment(stamp: &StatxTimestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(stamp.tv_sec)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .replace_nanosecond(stamp.tv_nsec)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn wrong_type(message: &str) -> Error {
    Error::new(ErrorKind::WrongFileType, message)
}

fn refused(error: Errno) -> Error {
    let (kind, message) = match error {
        Errno::NOENT | Errno::NOTDIR => (ErrorKind::NotFound, "no such file or directory"),
        Errno::XDEV => (ErrorKind::Invalid, "the path leads out of the workspace"),
        Errno::LOOP => (ErrorKind::Invalid, "too many symbolic links in the path"),
        Errno::NAMETOOLONG => (ErrorKind::Invalid, "the path is too long"),
        Errno::NXIO | Errno::NODEV => (ErrorKind::WrongFileType, "the path is not a regular file"),
        Errno::MFILE | Errno::NFILE | Errno::AGAIN => {
            (ErrorKind::TooMany, "too much goes on; try again")
        }
        _ => (ErrorKind::Internal, "the volume cannot be read"),
    };
    Error::caused(kind, message, error)
}

#[cfg(test)]
mod tests;
