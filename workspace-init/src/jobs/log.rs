//! One output stream of one job: its head and tail in memory, its last 64 MiB in two files that
//! take turns, or the files alone once memory is wanted for newer jobs.
//!
//! Must never happen here: an error that stops a job. A full disk costs the files, no more.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use init_protocol::{OUTPUT_HEAD, OUTPUT_TAIL, OutputMeta};
use rustix::fd::OwnedFd;

use super::segments::Segments;

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

/// A part of what was printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Since {
    pub bytes: Vec<u8>,
    /// Bytes before it that are not kept.
    pub skipped: u64,
}

/// See the module.
pub struct Log {
    usage: Rc<Usage>,
    total: u64,
    memory: Option<Memory>,
    files: Option<Segments>,
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
            files: Some(Segments::new(usage.clone(), name)),
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
            files.close();
        }
    }

    /// What follows the first `from` bytes, at most `max` of it; from files it is read anew each
    /// time.
    pub fn since(&self, from: u64, max: usize) -> Since {
        if from >= self.total {
            return Since::default();
        }
        if let Some(memory) = &self.memory {
            let (first, second) = memory.tail.as_slices();
            return cut(self.total, [&memory.head, first, second], from, max);
        }
        let Kept { parts, .. } = self.kept();
        cut(self.total, [&parts[0], &parts[1], &[]], from, max)
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

/// Of a head, and a tail in two pieces that ends at `total`.
fn cut(total: u64, [head, first, second]: [&[u8]; 3], from: u64, max: usize) -> Since {
    let after = |piece: &[u8], begins: u64| {
        let skip = usize::try_from(from.saturating_sub(begins)).unwrap_or(usize::MAX);
        piece.get(skip..).unwrap_or_default().to_vec()
    };
    let head_ends = head.len() as u64;
    if from < head_ends {
        let mut bytes = after(head, 0);
        bytes.truncate(max);
        return Since { bytes, skipped: 0 };
    }
    let tail_begins = total - (first.len() + second.len()) as u64;
    let skipped = tail_begins.saturating_sub(from);
    let mut bytes = after(first, tail_begins);
    if bytes.len() < max {
        bytes.extend(after(second, tail_begins + first.len() as u64));
    }
    bytes.truncate(max);
    Since { bytes, skipped }
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

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags};

    use super::super::segments::SEGMENT;
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
