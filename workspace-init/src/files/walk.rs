//! From a path of a call to a directory, held open, and a name in it.
//!
//! Component by component, each opened without following symlinks, so that nothing that user code
//! swaps meanwhile leads out. Symlinks are read and walked by us: those that stay in the workspace
//! are followed, relative or absolute, those that leave it are denied. `openat2` would be one call,
//! but gVisor lacks it, and `RESOLVE_BENEATH` denies absolute links that stay inside.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};
use std::rc::Rc;

use init_protocol::RefusalKind;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use crate::refusal::Refusal;

/// As many symlinks as the kernel follows.
const MAX_LINKS: u32 = 40;
/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4096;
/// Components looked at, `..` of symlinks walked again included.
const MAX_STEPS: u32 = 8 * MAX_PATH as u32;

/// Where something is or will be: `name` is not a symlink when the last component was followed.
pub struct Place {
    pub dir: Rc<OwnedFd>,
    pub name: OsString,
    /// The mode of what is there, if somebody looked: none of nothing.
    pub there: Option<Option<RawMode>>,
    /// No link was on the way.
    is_plain: bool,
    /// Names from the root to `dir`.
    walked: Vec<OsString>,
}

impl Place {
    /// Relative to the root, as text.
    pub fn path(&self) -> String {
        let mut path = self.walked.join(OsStr::new("/"));
        if !path.is_empty() {
            path.push("/");
        }
        path.push(&self.name);
        path.to_string_lossy().into_owned()
    }
}

/// The directory of the last path, for many in a row: most are in the same one, and on gVisor each
/// component on the way is a call out of the sandbox. It was beneath the workspace when it was
/// walked to, and cannot have left it: nothing else is on its file system.
#[derive(Default)]
pub struct Recent(Option<Known>);

struct Known {
    /// As the path of a call has it.
    parent: String,
    dir: Rc<OwnedFd>,
    walked: Vec<OsString>,
}

impl Recent {
    /// [`resolve`] with missing parents made and a link at the end followed.
    pub fn resolve(&mut self, root: &Path, path: &str) -> Result<Place, Refusal> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Of `a/` and `a/.` the last component is `a`, whose directory is not `a`.
        let is_named = !matches!(name, "" | "." | "..");
        if let Some(Known {
            parent: known,
            dir,
            walked,
        }) = &self.0
            && known == parent
            && is_named
        {
            let there = match rustix::fs::statat(&**dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat.st_mode),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(errno.into()),
            };
            let is_link = |mode| FileType::from_raw_mode(mode) == FileType::Symlink;
            if !there.is_some_and(is_link) {
                return Ok(Place {
                    dir: Rc::clone(dir),
                    name: name.into(),
                    there: Some(there),
                    is_plain: true,
                    walked: walked.clone(),
                });
            }
        }
        let place = resolve(root, path, Parents::Make, Last::Follow)?;
        self.0 = (place.is_plain && is_named).then(|| Known {
            parent: parent.to_owned(),
            dir: Rc::clone(&place.dir),
            walked: place.walked.clone(),
        });
        Ok(place)
    }

    /// What is known may be true no more.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// What to do about missing directories on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    Make,
    MustExist,
}

/// What to do about a symlink at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Follow,
    Keep,
}

/// See the module. The workspace itself is no place: `IsDirectory`.
pub fn resolve(root: &Path, path: &str, parents: Parents, last: Last) -> Result<Place, Refusal> {
    let mut walk = Walk {
        root,
        dir: open_root(root)?,
        walked: Vec::new(),
        ahead: components(path)?,
        links: 0,
    };
    for _ in 0..MAX_STEPS {
        if let Some(name) = walk.step(parents, last)? {
            return Ok(Place {
                dir: Rc::new(walk.dir),
                name,
                there: None,
                is_plain: walk.links == 0,
                walked: walk.walked,
            });
        }
    }
    Err(Refusal::denied("too many symlinks"))
}

struct Walk<'a> {
    root: &'a Path,
    dir: OwnedFd,
    /// Names from the root to `dir`.
    walked: Vec<OsString>,
    /// What is still to go, next one last. `..` comes from symlinks only.
    ahead: Vec<OsString>,
    links: u32,
}

impl Walk<'_> {
    /// One component further; the last one's name when `dir` is where it belongs.
    fn step(&mut self, parents: Parents, last: Last) -> Result<Option<OsString>, Refusal> {
        let Some(name) = self.ahead.pop() else {
            return Err(Refusal::new(
                RefusalKind::IsDirectory,
                "the workspace itself",
            ));
        };
        if name == ".." {
            if self.walked.pop().is_none() {
                return Err(escapes());
            }
            // Again from the top: a directory moved meanwhile has another parent.
            self.ahead.extend(self.walked.drain(..).rev());
            self.dir = open_root(self.root)?;
            return Ok(None);
        }
        if self.ahead.is_empty() {
            if last == Last::Follow && self.is_symlink(&name)? {
                self.follow(&name)?;
                return Ok(None);
            }
            return Ok(Some(name));
        }
        match open_dir(&self.dir, &name) {
            Ok(dir) => {
                self.dir = dir;
                self.walked.push(name);
            }
            Err(Errno::NOTDIR | Errno::LOOP) if self.is_symlink(&name)? => self.follow(&name)?,
            Err(Errno::NOENT) if parents == Parents::Make => {
                match rustix::fs::mkdirat(&self.dir, &name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => self.ahead.push(name),
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(None)
    }

    fn is_symlink(&self, name: &OsStr) -> Result<bool, Refusal> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts the components of the symlink's target ahead.
    fn follow(&mut self, name: &OsStr) -> Result<(), Refusal> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Refusal::denied("too many symlinks"));
        }
        let target = rustix::fs::readlinkat(&self.dir, name, Vec::new())?;
        let mut target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            target = target.strip_prefix(self.root).map_err(|_| escapes())?;
            self.walked.clear();
            self.dir = open_root(self.root)?;
        }
        for component in target.components().rev() {
            match component {
                Component::Normal(name) => self.ahead.push(name.to_owned()),
                Component::ParentDir => self.ahead.push("..".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn components(path: &str) -> Result<Vec<OsString>, Refusal> {
    if path.len() >= MAX_PATH || path.contains('\0') || path.starts_with('/') {
        return Err(Refusal::bad("not a path within the workspace"));
    }
    let mut names = Vec::new();
    for name in path.split('/').rev() {
        match name {
            "" | "." => {}
            ".." => return Err(Refusal::bad("'..' in a path")),
            name => names.push(name.into()),
        }
    }
    Ok(names)
}

fn open_root(root: &Path) -> Result<OwnedFd, Refusal> {
    Ok(rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?)
}

fn open_dir(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn escapes() -> Refusal {
    Refusal::denied("a symlink leads out of the workspace")
}
