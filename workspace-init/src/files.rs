//! Changes to files of the workspace.
//!
//! Must never happen here: a path that leaves the workspace, a half-written file under its name.

mod remove;
mod walk;

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;

use init_protocol::{RefusalKind, Write};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::refusal::Refusal;
use walk::{Last, Parents, Place};

/// Attempts at a free name for a temporary file.
const NAMES: u32 = 16;
/// Bits of a mode that callers may set: no set-uid, set-gid, sticky.
const SETTABLE: u32 = 0o777;

/// The workspace's files.
pub struct Files {
    root: PathBuf,
    written: Cell<u64>,
    temporary: Cell<u64>,
}

impl Files {
    pub fn new(root: PathBuf) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self {
            root,
            written: Cell::new(0),
            // Not what an earlier init of this volume counted from.
            temporary: Cell::new(now.tv_nsec as u64 ^ ((now.tv_sec as u64) << 30)),
        }
    }

    /// Opens a temporary file beside where the content will be.
    pub fn begin(&self, call: &Write) -> Result<Draft, Refusal> {
        let parents = if call.parents {
            Parents::Make
        } else {
            Parents::MustExist
        };
        let place = walk::resolve(&self.root, &call.path, parents, Last::Follow)?;
        let there = match rustix::fs::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat.st_mode),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        if let Some(there) = there {
            match FileType::from_raw_mode(there) {
                FileType::Directory => {
                    return Err(Refusal::new(
                        RefusalKind::IsDirectory,
                        "a directory is there",
                    ));
                }
                _ if call.exclusive => {
                    return Err(Refusal::new(RefusalKind::Exists, "something is there"));
                }
                FileType::RegularFile => {}
                _ => return Err(Refusal::denied("not a regular file")),
            }
        }
        let mode = call.mode.or(there).unwrap_or(0o644) & SETTABLE;
        let (file, temporary) = self.temporary(&place)?;
        Ok(Draft {
            file,
            temporary: Some(temporary),
            place,
            mode: Mode::from_raw_mode(mode),
            exclusive: call.exclusive,
        })
    }

    /// Puts the draft under its name.
    pub fn commit(&self, draft: Draft) -> Result<u64, Refusal> {
        draft.commit()?;
        Ok(self.next_write())
    }

    pub fn mkdir(&self, path: &str, parents: bool, mode: Option<u32>) -> Result<u64, Refusal> {
        let making = if parents {
            Parents::Make
        } else {
            Parents::MustExist
        };
        let place = match walk::resolve(&self.root, path, making, Last::Follow) {
            // The workspace itself: there already.
            Err(refusal) if refusal.kind == RefusalKind::IsDirectory && parents => {
                return Ok(self.next_write());
            }
            resolved => resolved?,
        };
        let mode = Mode::from_raw_mode(mode.unwrap_or(0o755) & SETTABLE);
        match rustix::fs::mkdirat(&place.dir, &place.name, Mode::RWXU) {
            Ok(()) => {
                rustix::fs::chmodat(&place.dir, &place.name, mode, AtFlags::empty())?;
                Ok(self.next_write())
            }
            Err(Errno::EXIST) if parents => {
                let stat = rustix::fs::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    Ok(self.next_write())
                } else {
                    Err(Refusal::new(
                        RefusalKind::Exists,
                        "not a directory is there",
                    ))
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    pub async fn remove(&self, path: &str) -> Result<(), Refusal> {
        let place = walk::resolve(&self.root, path, Parents::MustExist, Last::Keep)?;
        remove::remove(&place.dir, &place.name).await?;
        self.next_write();
        Ok(())
    }

    fn next_write(&self) -> u64 {
        self.written.set(self.written.get() + 1);
        self.written.get()
    }

    fn temporary(&self, place: &Place) -> Result<(OwnedFd, OsString), Refusal> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..NAMES {
            let number = self.temporary.get().wrapping_add(1);
            self.temporary.set(number);
            let name = OsString::from(format!(".fleeks-{number:x}.tmp"));
            match rustix::fs::openat(&place.dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((file, name)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Refusal::new(RefusalKind::Other, "no free temporary name"))
    }
}

/// A file on its way; dropped before [`Files::commit`] it leaves nothing behind.
pub struct Draft {
    file: OwnedFd,
    /// Its name until then.
    temporary: Option<OsString>,
    place: Place,
    mode: Mode,
    exclusive: bool,
}

impl Draft {
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn commit(mut self) -> Result<(), Refusal> {
        rustix::fs::fchmod(&self.file, self.mode)?;
        let Some(temporary) = &self.temporary else {
            return Ok(());
        };
        let (dir, name) = (&self.place.dir, &self.place.name);
        if self.exclusive {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(dir, temporary, dir, name, flags) {
                // Not every file system, and not every gVisor, knows how: a link does it as well,
                // and the temporary name goes with the draft.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::linkat(dir, temporary, dir, name, AtFlags::empty())?;
                    return Ok(());
                }
                renamed => renamed?,
            }
        } else {
            rustix::fs::renameat(dir, temporary, dir, name)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            // Nothing is to be done when it cannot be removed.
            let _ = rustix::fs::unlinkat(&self.place.dir, name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests;
