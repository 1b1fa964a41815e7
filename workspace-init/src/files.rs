//! Changes to files of the workspace.
//!
//! Must never happen here: a path that leaves the workspace, a half-written file under its name.

mod remove;
mod walk;

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use init_protocol::{HOME, RefusalKind, Write};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::refusal::Refusal;
use crate::watch::{Way, Writes};
use walk::{Last, Parents, Place};

pub use walk::Recent;

/// In [`HOME`]: where content is until it is whole. Beside the file, an app that looks through its
/// directories would take it for one of its own.
const DRAFTS: &str = ".fleeks-drafts";
/// Drafts of an earlier init that are removed at the start, at most.
const OLD_DRAFTS: usize = 1000;
/// Attempts at a free name for a temporary file.
const NAMES: u32 = 16;
/// Longest target of a link, as the kernel has it.
const MAX_TARGET: usize = 4096;
/// Bits of a mode that callers may set: no set-uid, set-gid, sticky.
const SETTABLE: u32 = 0o777;

/// The workspace's files.
pub struct Files {
    root: PathBuf,
    umask: Mode,
    writes: Rc<Writes>,
    written: Cell<u64>,
    temporary: Cell<u64>,
}

impl Files {
    pub fn new(root: PathBuf, writes: Rc<Writes>) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        // Only a change tells what it is.
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        let files = Self {
            root,
            umask,
            writes,
            written: Cell::new(0),
            // Not what an earlier init of this volume counted from.
            temporary: Cell::new(now.tv_nsec as u64 ^ ((now.tv_sec as u64) << 30)),
        };
        files.forget_drafts();
        files
    }

    /// Opens a temporary file for the content.
    pub fn begin(&self, call: &Write) -> Result<Draft, Refusal> {
        let parents = if call.parents {
            Parents::Make
        } else {
            Parents::MustExist
        };
        let place = walk::resolve(&self.root, &call.path, parents, Last::Follow)?;
        self.draft(call, place)
    }

    /// [`Files::begin`] for one of many in a row; parents are made.
    pub fn begin_near(&self, call: &Write, recent: &mut Recent) -> Result<Draft, Refusal> {
        let place = recent.resolve(&self.root, &call.path)?;
        let drafted = self.draft(call, place);
        // Perhaps because its directory was removed since.
        if drafted
            .as_ref()
            .is_err_and(|refusal| refusal.kind == RefusalKind::NotFound)
        {
            recent.forget();
            let place = recent.resolve(&self.root, &call.path)?;
            return self.draft(call, place);
        }
        drafted
    }

    fn draft(&self, call: &Write, place: Place) -> Result<Draft, Refusal> {
        let look = || match rustix::fs::statat(&*place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW)
        {
            Ok(stat) => Ok(Some(stat.st_mode)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Refusal::from(errno)),
        };
        let there = place.there.map_or_else(look, Ok)?;
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
        let mode = Mode::from_raw_mode(call.mode.or(there).unwrap_or(0o644) & SETTABLE);
        let (file, drafts, temporary) = self.temporary(&place, mode)?;
        Ok(Draft {
            file,
            drafts,
            temporary: Some(temporary),
            place,
            masked: mode.intersects(self.umask).then_some(mode),
            exclusive: call.exclusive,
            makes_way: call.parents,
            replaces: there.is_some(),
        })
    }

    /// Puts the draft under its name.
    pub fn commit(&self, mut draft: Draft) -> Result<u64, Refusal> {
        let way = match draft.commit() {
            // Its directory was removed since.
            Err(refusal) if refusal.kind == RefusalKind::NotFound && draft.makes_way => {
                let path = draft.place.path();
                draft.place = walk::resolve(&self.root, &path, Parents::Make, Last::Follow)?;
                draft.commit()?
            }
            committed => committed?,
        };
        let id = self.next_write();
        self.writes.note(|| draft.place.path(), way, id);
        Ok(id)
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
        match rustix::fs::mkdirat(&*place.dir, &place.name, Mode::RWXU) {
            Ok(()) => {
                rustix::fs::chmodat(&*place.dir, &place.name, mode, AtFlags::empty())?;
                let id = self.next_write();
                self.writes.note(|| place.path(), Way::Made, id);
                Ok(id)
            }
            Err(Errno::EXIST) if parents => {
                let stat = rustix::fs::statat(&*place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
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

    /// In one step, as with a file: made under another name, then renamed.
    pub fn link(&self, path: &str, target: &str) -> Result<u64, Refusal> {
        if target.is_empty() || target.len() >= MAX_TARGET || target.contains('\0') {
            return Err(Refusal::bad("not a link's target"));
        }
        let place = walk::resolve(&self.root, path, Parents::Make, Last::Keep)?;
        let (dir, name) = (&*place.dir, &place.name);
        let way = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(Refusal::new(
                    RefusalKind::IsDirectory,
                    "a directory is there",
                ));
            }
            Ok(_) => Way::Replaced,
            Err(Errno::NOENT) => Way::Named,
            Err(errno) => return Err(errno.into()),
        };
        let drafts = self.drafts(&place);
        for _ in 0..NAMES {
            let temporary = self.temporary_name();
            match rustix::fs::symlinkat(target, &*drafts, &temporary) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if let Err(errno) = rustix::fs::renameat(&*drafts, &temporary, dir, name) {
                // Nothing is to be done when it cannot be removed.
                let _ = rustix::fs::unlinkat(&*drafts, &temporary, AtFlags::empty());
                return Err(errno.into());
            }
            let id = self.next_write();
            self.writes.note(|| place.path(), way, id);
            return Ok(id);
        }
        Err(Refusal::new(RefusalKind::Other, "no free temporary name"))
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

    fn temporary_name(&self) -> OsString {
        let number = self.temporary.get().wrapping_add(1);
        self.temporary.set(number);
        OsString::from(format!(".fleeks-{number:x}.tmp"))
    }

    fn temporary(&self, place: &Place, mode: Mode) -> Result<Drafted, Refusal> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.drafts(place);
        for _ in 0..NAMES {
            let name = self.temporary_name();
            match rustix::fs::openat(&*dir, &name, flags, mode) {
                Ok(file) => return Ok((file, dir, name)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Refusal::new(RefusalKind::Other, "no free temporary name"))
    }

    /// Where drafts are; beside the file if the user's code has made that impossible. Opened each
    /// time, since that code may remove it, and a checkpoint should meet no open directory that is gone.
    fn drafts(&self, place: &Place) -> Rc<OwnedFd> {
        self.open_drafts(Parents::Make)
            .map_or_else(|_| Rc::clone(&place.dir), Rc::new)
    }

    fn open_drafts(&self, missing: Parents) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = rustix::fs::openat(CWD, self.root.join(HOME), flags, Mode::empty())?;
        let open = || rustix::fs::openat(&home, DRAFTS, flags, Mode::empty());
        match open() {
            Err(Errno::NOENT) if missing == Parents::Make => {
                rustix::fs::mkdirat(&home, DRAFTS, Mode::RWXU)?;
                open()
            }
            opened => opened,
        }
    }

    /// Those that an earlier init of this volume did not bring to an end.
    fn forget_drafts(&self) {
        let Ok(drafts) = self.open_drafts(Parents::MustExist) else {
            return;
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = rustix::fs::openat(&drafts, ".", flags, Mode::empty()).and_then(Dir::new);
        for entry in entries.into_iter().flatten().flatten().take(OLD_DRAFTS) {
            // Nothing is to be done when it cannot be removed.
            let _ = rustix::fs::unlinkat(&drafts, entry.file_name(), AtFlags::empty());
        }
    }
}

/// An open file, its directory, and its name there.
type Drafted = (OwnedFd, Rc<OwnedFd>, OsString);

/// A file on its way; dropped before [`Files::commit`] it leaves nothing behind.
pub struct Draft {
    file: OwnedFd,
    /// Where it is until then, and its name there.
    drafts: Rc<OwnedFd>,
    temporary: Option<OsString>,
    place: Place,
    /// The mode to set, if the umask took something off it.
    masked: Option<Mode>,
    exclusive: bool,
    /// Directories on the way are made.
    makes_way: bool,
    /// A file was there when it was begun.
    replaces: bool,
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

    fn commit(&mut self) -> Result<Way, Refusal> {
        if let Some(mode) = self.masked {
            rustix::fs::fchmod(&self.file, mode)?;
        }
        let way = match self.replaces {
            true => Way::Replaced,
            false => Way::Named,
        };
        let Some(temporary) = &self.temporary else {
            return Ok(way);
        };
        let (from, draft) = (&*self.drafts, temporary);
        let (dir, name) = (&*self.place.dir, &self.place.name);
        if self.exclusive {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, draft, dir, name, flags) {
                // Not every file system, and not every gVisor, knows how: a link does it as well,
                // and the temporary name goes with the draft.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::linkat(from, draft, dir, name, AtFlags::empty())?;
                    return Ok(Way::Made);
                }
                renamed => renamed?,
            }
        } else {
            rustix::fs::renameat(from, draft, dir, name)?;
        }
        self.temporary = None;
        Ok(way)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            // Nothing is to be done when it cannot be removed.
            let _ = rustix::fs::unlinkat(&*self.drafts, name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests;
