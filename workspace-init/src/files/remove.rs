//! Removes a file or a whole tree, without following symlinks, with few file descriptors however
//! deep the tree is, and without keeping other calls waiting.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use init_protocol::RefusalKind;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::refusal::Refusal;
use crate::timing;

/// Levels held open at once; what is deeper is moved up to the top of the tree first.
const MAX_DEPTH: usize = 32;
/// Entries between two turns of other calls.
const BATCH: u32 = 64;

pub async fn remove(parent: &OwnedFd, name: &OsStr) -> Result<(), Refusal> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
    }
    let mut tree = Tree {
        levels: vec![Level::open(parent, name)?],
        moved: 0,
    };
    let started = Instant::now();
    let mut done = 0_u32;
    while tree.step(parent)? {
        done += 1;
        if done.is_multiple_of(BATCH) {
            if started.elapsed() > timing::REMOVE {
                return Err(Refusal::new(RefusalKind::Other, "removing took too long"));
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

struct Tree {
    /// From the top down; never empty until all is removed.
    levels: Vec<Level>,
    moved: u64,
}

struct Level {
    fd: OwnedFd,
    name: OsString,
    entries: Dir,
    /// Something was removed since `entries` was last at its start.
    progress: bool,
}

impl Tree {
    /// One entry further; false when the top is gone.
    fn step(&mut self, parent: &OwnedFd) -> Result<bool, Refusal> {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else {
            return Ok(false);
        };
        let Some(entry) = level.entries.next() else {
            return self.leave(parent);
        };
        let entry = entry?;
        let name: CString = entry.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            return Ok(true);
        }
        let file = match entry.file_type() {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(&level.fd, &name, AtFlags::empty()),
        };
        match file {
            Ok(()) | Err(Errno::NOENT) => level.progress = true,
            Err(Errno::ISDIR) if depth < MAX_DEPTH => {
                let name = OsStr::from_bytes(name.as_bytes());
                let child = Level::open(&level.fd, name)?;
                level.progress = true;
                self.levels.push(child);
            }
            Err(Errno::ISDIR) => self.move_up(&name)?,
            Err(errno) => return Err(errno.into()),
        }
        Ok(true)
    }

    /// Removes the lowest level, or goes through it again when something is left.
    fn leave(&mut self, parent: &OwnedFd) -> Result<bool, Refusal> {
        let Some(mut level) = self.levels.pop() else {
            return Ok(false);
        };
        let above = self.levels.last().map_or(parent, |above| &above.fd);
        match rustix::fs::unlinkat(above, &level.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                if let Some(above) = self.levels.last_mut() {
                    above.progress = true;
                }
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.progress => {
                level.progress = false;
                level.entries.rewind();
                self.levels.push(level);
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(!self.levels.is_empty())
    }

    fn move_up(&mut self, name: &CString) -> Result<(), Refusal> {
        let (Some(top), Some(level)) = (self.levels.first(), self.levels.last()) else {
            return Ok(());
        };
        self.moved += 1;
        let free = format!(".fleeks-removed-{}", self.moved);
        match rustix::fs::renameat(&level.fd, name, &top.fd, &free) {
            // Someone had that name: it goes with the rest, and we come by again.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for level in &mut self.levels {
            level.progress = true;
        }
        Ok(())
    }
}

impl Level {
    fn open(parent: &OwnedFd, name: &OsStr) -> Result<Self, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
        let fd = match open() {
            // Its owner may be kept out and yet may let himself in.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
                open()?
            }
            opened => opened?,
        };
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if !mode.contains(Mode::RWXU) {
            // Read-only directories (caches of packages) are removed like others; if this is not
            // ours to change, the removal itself will say so.
            let _ = rustix::fs::fchmod(&fd, mode | Mode::RWXU);
        }
        let entries = Dir::read_from(&fd)?;
        Ok(Self {
            fd,
            name: name.to_owned(),
            entries,
            progress: false,
        })
    }
}
