//! One output stream of one job: its head and tail in memory, its last 64 MiB in two files that
//! take turns, or the files alone once memory is wanted for newer jobs.
//!
//! Must never happen here: an error that stops a job. A full disk costs the files, no more.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use init_protocol::{OUTPUT_HEAD, OUTPUT_TAIL, OutputMeta};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};

/// Bytes of each of the two files.
pub const SEGMENT: u64 = 32 * 1024 * 1024;

/// What all logs use together.
pub struct Usage {
    /// Where the files are.
    pub dir: OwnedFd,
    pub memory: Cell<usize>,
    pub disk: Cell<u64>,
    /// The disk's share is used up by jobs that run: files do not grow.
    pub disk_full: Cell<bool>,
}

/// What is kept, copied out.
pub struct Kept {
    pub meta: OutputMeta,
    /// Head and tail.
    pub parts: [Vec<u8>; 2],
}

/// See the module.
pub struct Log {
    usage: Rc<Usage>,
    total: u64,
    memory: Option<Memory>,
    files: Option<Files>,
}

#[derive(Default)]
struct Memory {
    head: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Log {
    /// `name` is that of its files, but for their endings.
    pub fn new(usage: Rc<Usage>, name: String) -> Self {
        Self {
            files: Some(Files::new(usage.clone(), name)),
            usage,
            total: 0,
            memory: Some(Memory::default()),
        }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if let Some(memory) = &mut self.memory {
            let before = memory.bytes();
            memory.append(bytes);
            let used = self.usage.memory.get() + memory.bytes() - before;
            self.usage.memory.set(used);
        }
        if let Some(files) = &mut self.files {
            files.append(bytes);
        }
    }

    /// Gives the memory back; what is kept is in the files.
    pub fn spill(&mut self) {
        if let Some(memory) = self.memory.take() {
            let used = self.usage.memory.get().saturating_sub(memory.bytes());
            self.usage.memory.set(used);
        }
    }

    /// Removes the files.
    pub fn remove_files(&mut self) {
        self.files = None;
    }

    /// Closes the file; nothing more will come.
    pub fn close(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.head.shrink_to_fit();
            memory.tail.shrink_to_fit();
        }
        if let Some(files) = &mut self.files {
            files.open = None;
        }
    }

    pub fn kept(&self) -> Kept {
        let parts = match (&self.memory, &self.files) {
            (Some(memory), _) => {
                let (first, second) = memory.tail.as_slices();
                [memory.head.clone(), [first, second].concat()]
            }
            (None, Some(files)) => files.kept(self.total),
            (None, None) => Default::default(),
        };
        Kept {
            meta: OutputMeta {
                total: self.total,
                head: parts[0].len() as u64,
                tail: parts[1].len() as u64,
            },
            parts,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.spill();
    }
}

impl Memory {
    fn bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn append(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(OUTPUT_HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(OUTPUT_TAIL)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(OUTPUT_TAIL);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }
}

/// `<name>.0` and `<name>.1`, and `<name>.head` once the start of the first is lost.
/// Removed when dropped.
struct Files {
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

impl Files {
    fn new(usage: Rc<Usage>, name: String) -> Self {
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

    fn append(&mut self, bytes: &[u8]) {
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
    fn kept(&self, total: u64) -> [Vec<u8>; 2] {
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

impl Drop for Files {
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

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    fn usage(dir: &tempfile::TempDir) -> Rc<Usage> {
        let dir = rustix::fs::openat(CWD, dir.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        Rc::new(Usage {
            dir,
            memory: Cell::default(),
            disk: Cell::default(),
            disk_full: Cell::default(),
        })
    }

    /// Byte `n` of a stream in which every stretch is recognisable.
    fn byte(n: u64) -> u8 {
        (n ^ (n >> 8) ^ (n >> 16) ^ (n >> 24)) as u8
    }

    fn stretch(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(byte).collect()
    }

    fn fill(log: &mut Log, from: u64, to: u64, step: u64) {
        let mut at = from;
        while at < to {
            let next = (at + step).min(to);
            log.append(&stretch(at, next));
            at = next;
        }
    }

    fn check(log: &Log, total: u64) {
        let kept = log.kept();
        let head = total.min(OUTPUT_HEAD as u64);
        let tail = (total - head).min(OUTPUT_TAIL as u64);
        assert_eq!(kept.meta, OutputMeta { total, head, tail });
        assert!(kept.parts[0] == stretch(0, head), "head of {total}");
        assert!(
            kept.parts[1] == stretch(total - tail, total),
            "tail of {total}"
        );
    }

    #[test]
    fn head_and_tail_are_the_same_from_memory_and_from_files() {
        let mib = 1024 * 1024;
        let sizes = [
            0,
            1,
            70_000,
            mib - 1,
            mib,
            mib + 1,
            3 * mib,
            SEGMENT,
            SEGMENT + 100,
            2 * SEGMENT,
            2 * SEGMENT + 100,
            3 * SEGMENT + 5,
        ];
        for total in sizes {
            let dir = tempfile::tempdir().unwrap();
            let usage = usage(&dir);
            let mut log = Log::new(usage.clone(), "job.out".to_owned());
            fill(&mut log, 0, total, 65_536);
            check(&log, total);
            assert!(usage.memory.get() <= OUTPUT_HEAD + OUTPUT_TAIL);
            log.spill();
            assert_eq!(usage.memory.get(), 0);
            check(&log, total);
            // A log without memory goes on in its files.
            fill(&mut log, total, total + 100_000, 9_999);
            check(&log, total + 100_000);
            assert!(usage.disk.get() <= 2 * SEGMENT + OUTPUT_HEAD as u64);
            let on_disk: u64 = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len())
                .sum();
            assert_eq!(usage.disk.get(), on_disk);
            drop(log);
            assert_eq!(usage.disk.get(), 0);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_silent_stream_costs_no_file_and_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(usage(&dir), "job.out".to_owned());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(log.kept().meta, OutputMeta::default());
    }

    #[test]
    fn without_a_disk_memory_still_serves() {
        let dir = tempfile::tempdir().unwrap();
        let usage = usage(&dir);
        usage.disk_full.set(true);
        let mut log = Log::new(usage, "job.out".to_owned());
        fill(&mut log, 0, 100, 7);
        check(&log, 100);
        log.spill();
        let meta = log.kept().meta;
        assert_eq!(
            meta,
            OutputMeta {
                total: 100,
                head: 0,
                tail: 0
            }
        );
    }

    #[test]
    fn what_user_code_puts_in_place_of_the_files_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("job.out.0")).unwrap();
        let mut log = Log::new(usage(&dir), "job.out".to_owned());
        log.append(b"mine");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        log.spill();
        std::fs::remove_file(dir.path().join("job.out.0")).unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("job.out.0")).unwrap();
        assert_eq!(log.kept().meta.head, 0);
    }
}
