//! The files of one output stream: `<name>.0` and `<name>.1` take turns, so that the last 32 to
//! 64 MiB are there, and `<name>.head` has the start once the first file is begun again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use init_protocol::{OUTPUT_HEAD, OUTPUT_TAIL};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::log::Usage;

/// Bytes of each of the two files.
pub const SEGMENT: u64 = 32 * 1024 * 1024;

/// See the module. Removed when dropped.
pub struct Segments {
    usage: Rc<Usage>,
    name: String,
    /// The file that grows; none before the first byte.
    open: Option<File>,
    /// Bytes in the file that grows.
    filled: u64,
    /// Files begun so far: the last one has the number `begun - 1`, modulo two.
    begun: u64,
    /// A write failed or was left out: the files do not grow, and have no tail.
    failed: bool,
    /// What is counted in `usage`.
    counted: u64,
}

impl Segments {
    pub fn new(usage: Rc<Usage>, name: String) -> Self {
        Self {
            usage,
            name,
            open: None,
            filled: 0,
            begun: 0,
            failed: false,
            counted: 0,
        }
    }

    /// Closes the file that grows; nothing more will come.
    pub fn close(&mut self) {
        self.open = None;
    }

    pub fn append(&mut self, bytes: &[u8]) {
        if self.failed || bytes.is_empty() {
            return;
        }
        if self.usage.disk_full.get() || self.try_append(bytes).is_err() {
            self.failed = true;
            self.open = None;
        }
    }

    fn try_append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.open.is_none() || self.filled == SEGMENT {
                self.turn()?;
            }
            let Some(file) = &mut self.open else {
                return Ok(());
            };
            let room = usize::try_from(SEGMENT - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            file.write_all(now)?;
            self.filled += now.len() as u64;
            self.count(now.len() as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Begins the next file, over the older one.
    fn turn(&mut self) -> io::Result<()> {
        if self.begun == 2 {
            let mut head = self.create("head")?;
            let copied = io::copy(&mut self.read("0")?.take(OUTPUT_HEAD as u64), &mut head)?;
            self.count(copied);
        }
        if self.begun >= 2 {
            self.discount(SEGMENT);
        }
        self.open = Some(self.create(ending(self.begun))?);
        self.begun += 1;
        self.filled = 0;
        Ok(())
    }

    /// Head and tail, as far as they can be read: user code can reach these files.
    pub fn kept(&self, total: u64) -> [Vec<u8>; 2] {
        let head_bytes = total.min(OUTPUT_HEAD as u64);
        let tail_bytes = (total - head_bytes).min(OUTPUT_TAIL as u64);
        let mut head = Vec::new();
        let first = if self.begun > 2 { "head" } else { "0" };
        let read = self
            .read(first)
            .and_then(|file| file.take(head_bytes).read_to_end(&mut head));
        if read.is_err() {
            head.clear();
        }
        let tail = if self.failed {
            Vec::new()
        } else {
            self.tail(tail_bytes).unwrap_or_default()
        };
        [head, tail]
    }

    fn tail(&self, bytes: u64) -> io::Result<Vec<u8>> {
        let from_last = bytes.min(self.filled);
        let from_before = bytes - from_last;
        let mut tail = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let (before, last) = tail.split_at_mut(usize::try_from(from_before).unwrap_or(0));
        if !before.is_empty() {
            let file = self.read(ending(self.begun))?;
            file.read_exact_at(before, SEGMENT - from_before)?;
        }
        if !last.is_empty() {
            let file = self.read(ending(self.begun + 1))?;
            file.read_exact_at(last, self.filled - from_last)?;
        }
        Ok(tail)
    }

    fn create(&self, ending: &str) -> io::Result<File> {
        let name = self.file(ending);
        // A new file, whatever stands there: user code may have put a link or a FIFO.
        let _ = rustix::fs::unlinkat(&self.usage.dir, &name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | COMMON;
        Ok(rustix::fs::openat(&self.usage.dir, &name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    fn read(&self, ending: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | COMMON;
        let name = self.file(ending);
        let file: File = rustix::fs::openat(&self.usage.dir, &name, flags, Mode::empty())?.into();
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn file(&self, ending: &str) -> OsString {
        format!("{}.{ending}", self.name).into()
    }

    fn count(&mut self, bytes: u64) {
        self.counted += bytes;
        self.usage.disk.set(self.usage.disk.get() + bytes);
    }

    fn discount(&mut self, bytes: u64) {
        self.counted = self.counted.saturating_sub(bytes);
        let disk = self.usage.disk.get().saturating_sub(bytes);
        self.usage.disk.set(disk);
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let files: &[&str] = match self.begun {
            0 => &[],
            1 => &["0"],
            2 => &["0", "1"],
            _ => &["0", "1", "head"],
        };
        for ending in files {
            let _ = rustix::fs::unlinkat(&self.usage.dir, self.file(ending), AtFlags::empty());
        }
        self.discount(self.counted);
    }
}

const COMMON: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

fn ending(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "0" } else { "1" }
}
