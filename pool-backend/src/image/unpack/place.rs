//! Places below a root, by directory handle and name. On the way to a place links are followed as
//! a container follows them: they cannot lead out of the root. The last name is never followed.
//!
//! Must never happen here: a path given to the kernel that is not held below the root.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::image::ImageError;

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// Directories in directories: deeper ones are nobody's root.
const DEEPEST: usize = 200;

/// A name in a directory: what identifies an entry whatever it is.
pub(super) type Name = (u64, CString);

/// The parts of a name in a layer.
///
/// # Errors
/// [`ImageError::Unfit`] for one that leads out.
pub(super) fn names(path: &[u8]) -> Result<Vec<&[u8]>, ImageError> {
    let refuse = |why: &str| {
        let shown = String::from_utf8_lossy(&path[..path.len().min(200)]);
        Err(ImageError::Unfit(format!("{shown:?} {why}")))
    };
    if path.first() == Some(&b'/') {
        return refuse("is absolute");
    }
    if path.contains(&0) {
        return refuse("is no name");
    }
    let parts = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = parts
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if names.contains(&b"..".as_slice()) {
        return refuse("leads upwards");
    }
    if names.len() > DEEPEST {
        return refuse("is too deep");
    }
    Ok(names)
}

/// An entry that is or will be there.
pub(super) struct Place {
    pub(super) parent: Rc<OwnedFd>,
    pub(super) name: CString,
    /// Of the parent.
    inode: u64,
}

impl Place {
    fn new(parent: Rc<OwnedFd>, name: &[u8]) -> io::Result<Self> {
        Ok(Self {
            inode: fs::fstat(&*parent)?.st_ino,
            name: CString::new(name)?,
            parent,
        })
    }

    pub(super) fn identity(&self) -> Name {
        (self.inode, self.name.clone())
    }

    /// What is there, if anything is.
    pub(super) fn stat(&self) -> io::Result<Option<Stat>> {
        match fs::statat(&*self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A root that grows.
pub(super) struct Root {
    top: Rc<OwnedFd>,
    /// The directory of the last place: most entries are in the same one.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let top = fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self {
            top: Rc::new(top),
            last: None,
        })
    }

    /// The place of that name, whose directories are made where they are missing.
    pub(super) fn place(&mut self, above: &[&[u8]], name: &[u8]) -> Result<Place, ImageError> {
        let path = above.join(&b'/');
        if let Some((last, parent)) = &self.last
            && *last == path
        {
            return Ok(Place::new(Rc::clone(parent), name)?);
        }
        let parent = match self.directory(above)? {
            Some(parent) => parent,
            None => self.make(above)?,
        };
        self.last = Some((path, Rc::clone(&parent)));
        Ok(Place::new(parent, name)?)
    }

    /// The place of that name, if its directory is there.
    pub(super) fn existing(
        &self,
        above: &[&[u8]],
        name: &[u8],
    ) -> Result<Option<Place>, ImageError> {
        match self.directory(above)? {
            Some(parent) => Ok(Some(Place::new(parent, name)?)),
            None => Ok(None),
        }
    }

    fn make(&self, names: &[&[u8]]) -> Result<Rc<OwnedFd>, ImageError> {
        for depth in 1..=names.len() {
            if self.directory(&names[..depth])?.is_some() {
                continue;
            }
            let within = self.directory(&names[..depth - 1])?.ok_or_else(gone)?;
            let name = CString::new(names[depth - 1]).map_err(io::Error::from)?;
            let mode = Mode::from_raw_mode(0o755);
            fs::mkdirat(&*within, name, mode).map_err(io::Error::from)?;
        }
        self.directory(names)?.ok_or_else(gone)
    }

    fn directory(&self, names: &[&[u8]]) -> io::Result<Option<Rc<OwnedFd>>> {
        if names.is_empty() {
            return Ok(Some(Rc::clone(&self.top)));
        }
        let path = CString::new(names.join(&b'/'))?;
        // Links on the way, and the last one too: a layer may put something into what was a link.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match fs::openat2(&*self.top, path, flags, Mode::empty(), WITHIN) {
            Ok(directory) => Ok(Some(Rc::new(directory))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away whatever is at the place.
    pub(super) fn clear(&mut self, place: &Place) -> Result<(), ImageError> {
        self.take_away(place, &HashSet::new())
    }

    /// Takes away what is at the place, but for what is `kept`.
    pub(super) fn hide(&mut self, place: &Place, kept: &HashSet<Name>) -> Result<(), ImageError> {
        if kept.contains(&place.identity()) {
            return self.hide_below(place, kept);
        }
        self.take_away(place, kept)
    }

    /// Takes away what is in the directory at the place, but for what is `kept`.
    pub(super) fn hide_below(
        &mut self,
        place: &Place,
        kept: &HashSet<Name>,
    ) -> Result<(), ImageError> {
        self.last = None;
        match fs::openat(&*place.parent, &place.name, DIRECTORY, Mode::empty()) {
            Ok(directory) => empty(&directory, kept, 0).map(|_| ()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Takes away all there is, but for what is `kept`.
    pub(super) fn hide_all(&mut self, kept: &HashSet<Name>) -> Result<(), ImageError> {
        self.last = None;
        empty(&self.top, kept, 0).map(|_| ())
    }

    fn take_away(&mut self, place: &Place, kept: &HashSet<Name>) -> Result<(), ImageError> {
        let Some(there) = place.stat()? else {
            return Ok(());
        };
        // A handle to what is taken away would still be written to.
        self.last = None;
        let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        if is_directory {
            let directory = fs::openat(&*place.parent, &place.name, DIRECTORY, Mode::empty());
            if empty(&directory.map_err(io::Error::from)?, kept, 0)? {
                return Ok(());
            }
        }
        remove(&place.parent, &place.name, is_directory)
    }
}

fn remove(parent: &OwnedFd, name: &CString, is_directory: bool) -> Result<(), ImageError> {
    let flags = match is_directory {
        true => AtFlags::REMOVEDIR,
        false => AtFlags::empty(),
    };
    Ok(fs::unlinkat(parent, name, flags).map_err(io::Error::from)?)
}

/// Empties a directory but for what is `kept`; whether something was.
fn empty(directory: &OwnedFd, kept: &HashSet<Name>, depth: usize) -> Result<bool, ImageError> {
    if depth > DEEPEST {
        return Err(ImageError::Unfit(
            "it has directories that are too deep".to_owned(),
        ));
    }
    let inode = fs::fstat(directory).map_err(io::Error::from)?.st_ino;
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(io::Error::from)? {
        let name = entry.map_err(io::Error::from)?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    let mut keeps = false;
    for name in names {
        let found = fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        let mode = found.map_err(io::Error::from)?.st_mode;
        let is_directory = FileType::from_raw_mode(mode) == FileType::Directory;
        let mut stays = false;
        if is_directory {
            let below = fs::openat(directory, &name, DIRECTORY, Mode::empty());
            stays = empty(&below.map_err(io::Error::from)?, kept, depth + 1)?;
        }
        if stays || kept.contains(&(inode, name.clone())) {
            keeps = true;
        } else {
            remove(directory, &name, is_directory)?;
        }
    }
    Ok(keeps)
}

fn gone() -> ImageError {
    ImageError::Unfit("a directory of it is none".to_owned())
}
