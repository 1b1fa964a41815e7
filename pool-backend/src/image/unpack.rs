//! One layer of an image, unpacked over those below it.
//!
//! Layers are a stranger's. Names are taken apart here and opened below the root only, where links
//! lead to places in the root as they will in a container; `..`, absolute names, devices and pipes
//! are refused; owners, extended attributes and set-user-id bits are dropped; sizes, counts, depths
//! and what a header may make us keep in memory are bounded.
//!
//! Must never happen here: anything read or written outside the root.

mod place;
mod stream;

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::ImageError;
use place::{Name, Place, Root};

/// All files of an image together.
const MOST_BYTES: u64 = 16 << 30;
/// All entries of all its layers together.
const MOST_ENTRIES: u64 = 1_000_000;
/// Headers between two files: long names, extended ones.
const MOST_HEADERS: u64 = 1 << 20;
/// What may follow the last entry.
const MOST_PADDING: u64 = 64 << 20;
/// Files are copied in pieces of this size.
const PIECE: usize = 128 << 10;
/// A whiteout is a file of this name and what it hides.
const WHITEOUT: &[u8] = b".wh.";
/// Whose directory hides all that is below it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Notes of one storage driver to itself.
const PRIVATE: &[u8] = b".wh..wh.";

/// What an image may still need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    bytes: u64,
    entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: MOST_BYTES,
            entries: MOST_ENTRIES,
        }
    }
}

/// A layer to unpack.
pub(super) struct Work {
    /// As it came, checked. Removed in any case.
    pub(super) layer: PathBuf,
    /// Over what.
    pub(super) root: PathBuf,
    /// What it is when decompressed, `sha256:…`.
    pub(super) digest: String,
    /// Which one, for people.
    pub(super) number: usize,
    pub(super) budget: Budget,
    pub(super) ended: CancellationToken,
}

impl Work {
    /// Does it; says what is left of the budget. Blocks: all of the layer is written.
    ///
    /// # Errors
    /// [`ImageError`]: what is in the root is worth nothing then.
    pub(super) fn run(self) -> Result<Budget, ImageError> {
        let file = File::open(&self.layer)?;
        std::fs::remove_file(&self.layer)?;
        let root = Root::open(&self.root)?;
        let number = self.number;
        let unpacked = Layer {
            root,
            of_this: HashSet::new(),
            budget: self.budget,
            ended: self.ended,
        }
        .unpack(file, &self.digest);
        unpacked.map_err(|error| match error {
            ImageError::Unfit(problem) => ImageError::Unfit(format!("layer {number}: {problem}")),
            ImageError::Tampered { .. } => ImageError::Tampered {
                what: format!("layer {number}, decompressed,"),
            },
            // What the disk says is about us, what the kernel says of a name is about the layer.
            ImageError::Io(error) if is_about_the_layer(&error) => {
                ImageError::Unfit(format!("layer {number}: {error}"))
            }
            other => other,
        })
    }
}

fn is_about_the_layer(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(errno) => matches!(
            errno,
            Errno::NAMETOOLONG
                | Errno::LOOP
                | Errno::NOTDIR
                | Errno::NOENT
                | Errno::MLINK
                | Errno::EXIST
        ),
        None => matches!(
            error.kind(),
            InvalidData | InvalidInput | Other | UnexpectedEof
        ),
    }
}

struct Layer {
    root: Root,
    /// What came with this layer, and so is not hidden by it.
    of_this: HashSet<Name>,
    budget: Budget,
    ended: CancellationToken,
}

impl Layer {
    fn unpack(mut self, mut file: File, digest: &str) -> Result<Budget, ImageError> {
        let mut start = [0; 4];
        let read = read_up_to(&mut file, &mut start)?;
        file.rewind()?;
        let plain = stream::decompressed(file, &start[..read])?;
        let allowed = Rc::new(Cell::new(MOST_HEADERS));
        let hashed = stream::Hashed::new(plain, Rc::clone(&allowed));
        let mut archive = tar::Archive::new(hashed);
        for entry in archive.entries()? {
            let mut entry = entry?;
            self.count(&entry)?;
            // Read or skipped; and the headers of the next one.
            let size = entry.size();
            allowed.set(size.saturating_add(MOST_HEADERS));
            self.take(&mut entry)?;
        }
        let mut hashed = archive.into_inner();
        allowed.set(MOST_PADDING);
        io::copy(&mut hashed, &mut io::sink())?;
        if hashed.digest() != digest {
            return Err(ImageError::Tampered {
                what: String::new(),
            });
        }
        Ok(self.budget)
    }

    fn count<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> Result<(), ImageError> {
        if self.ended.is_cancelled() {
            return Err(ImageError::Ended);
        }
        let too_much = |what: &str| ImageError::Unfit(format!("all its {what} are too much"));
        let entries = self.budget.entries.checked_sub(1);
        self.budget.entries = entries.ok_or_else(|| too_much("files"))?;
        // Whatever kind it is: its bytes are gone through.
        let bytes = self.budget.bytes.checked_sub(entry.size());
        self.budget.bytes = bytes.ok_or_else(|| too_much("bytes"))?;
        Ok(())
    }

    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ImageError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = entry.path_bytes().into_owned();
        let names = place::names(&path)?;
        let Some((name, above)) = names.split_last() else {
            // The root itself.
            return Ok(());
        };
        if name.starts_with(WHITEOUT) {
            return self.hide(above, name);
        }
        let place = self.root.place(above, name)?;
        self.of_this.insert(place.identity());
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777);
        match kind {
            EntryType::Directory => make_directory(&mut self.root, &place, mode),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.root.clear(&place)?;
                write_file(&place, mode, entry)
            }
            EntryType::Symlink => {
                self.root.clear(&place)?;
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                fs::symlinkat(target, &place.parent, &place.name)
                    .map_err(|error| io::Error::from(error).into())
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.link(&place, &target)
            }
            other => Err(ImageError::Unfit(format!(
                "{:?} is a {}",
                String::from_utf8_lossy(&path),
                match other {
                    EntryType::Char | EntryType::Block => "device",
                    EntryType::Fifo => "pipe",
                    _ => "thing of a kind that is not known",
                }
            ))),
        }
    }

    fn link(&mut self, place: &Place, target: &[u8]) -> Result<(), ImageError> {
        let wrong = || {
            let target = String::from_utf8_lossy(target);
            ImageError::Unfit(format!("{target:?} is linked to, and no file of it"))
        };
        let names = place::names(target)?;
        let (name, above) = names.split_last().ok_or_else(wrong)?;
        let there = self.root.existing(above, name)?.ok_or_else(wrong)?;
        let found = there.stat()?.ok_or_else(wrong)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(wrong());
        }
        let same = |stat: fs::Stat| (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino);
        if place.stat()?.is_some_and(same) {
            return Ok(());
        }
        self.root.clear(place)?;
        fs::linkat(
            &there.parent,
            &there.name,
            &place.parent,
            &place.name,
            AtFlags::empty(),
        )
        .map_err(|error| match error {
            rustix::io::Errno::NOENT => wrong(),
            other => io::Error::from(other).into(),
        })
    }

    /// A whiteout, of one name or of all below a directory.
    fn hide(&mut self, above: &[&[u8]], name: &[u8]) -> Result<(), ImageError> {
        if name == OPAQUE {
            let Some((name, above)) = above.split_last() else {
                return self.root.hide_all(&self.of_this);
            };
            return match self.root.existing(above, name)? {
                Some(place) => self.root.hide_below(&place, &self.of_this),
                None => Ok(()),
            };
        }
        if name.starts_with(PRIVATE) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ImageError::Unfit(
                "it hides nothing that has a name".to_owned(),
            ));
        }
        match self.root.existing(above, hidden)? {
            Some(place) => self.root.hide(&place, &self.of_this),
            None => Ok(()),
        }
    }
}

fn make_directory(root: &mut Root, place: &Place, mode: Mode) -> Result<(), ImageError> {
    let there = place.stat()?;
    let is_one =
        there.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if !is_one {
        root.clear(place)?;
        fs::mkdirat(&place.parent, &place.name, Mode::RWXU).map_err(io::Error::from)?;
    }
    let made = open_directory(place)?;
    // Nobody inside may override what its owner may not.
    fs::fchmod(&made, mode | Mode::RUSR | Mode::XUSR).map_err(io::Error::from)?;
    Ok(())
}

fn open_directory(place: &Place) -> Result<OwnedFd, ImageError> {
    let opened = fs::openat(&place.parent, &place.name, place::DIRECTORY, Mode::empty());
    Ok(opened.map_err(io::Error::from)?)
}

fn write_file<R: Read>(
    place: &Place,
    mode: Mode,
    entry: &mut tar::Entry<'_, R>,
) -> Result<(), ImageError> {
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(&place.parent, &place.name, new, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(file.map_err(io::Error::from)?);
    let mut piece = vec![
        0;
        PIECE
            .min(usize::try_from(entry.size()).unwrap_or(PIECE))
            .max(1)
    ];
    loop {
        let read = match entry.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        file.write_all(&piece[..read])?;
    }
    fs::fchmod(&file, mode | Mode::RUSR).map_err(io::Error::from)?;
    // Compiled Python is only believed beside a source of the right age.
    let seconds = i64::try_from(entry.header().mtime()?).unwrap_or(0);
    let keep = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: keep,
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
    };
    match fs::futimens(&file, &times) {
        // A time that this file system does not know.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::RANGE) => Ok(()),
        other => Ok(other.map_err(io::Error::from)?),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
