//! Whether anything in a volume was changed after a certain moment, by the times of change that the
//! file system keeps of each file and that nobody inside can set.
//!
//! Must never happen here: a volume called unchanged that is not.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use fleet::timing;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::tree;

/// What the machine's clock may have been set by without us noticing; more, and times of before
/// and after cannot be compared.
const CLOCK_SET_MS: i64 = 500;

/// A moment, by the clock of the volume's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    seconds: i64,
    nanos: i64,
    /// By how much the machine's clock was ahead of the time since it booted.
    clock_ms: i64,
}

/// Takes a mark in a directory of the volume's file system. Blocking, short. Whoever takes one at
/// the same time uses another `name`.
///
/// # Errors
/// What the file system said.
pub fn take(directory: &Path, name: &str) -> io::Result<Mark> {
    let path = directory.join(name);
    let taken = File::create(&path).and_then(|file| file.metadata());
    let removed = std::fs::remove_file(&path);
    let about = taken?;
    removed?;
    Ok(Mark {
        seconds: about.ctime(),
        nanos: about.ctime_nsec(),
        clock_ms: clock_ms()?,
    })
}

/// Whether everything below `top`, itself included, surely is as it was at the mark. Blocking;
/// costs a walk, at most `timing::VOLUME_LOOK`.
pub fn is_unchanged(top: &Path, mark: &Mark) -> bool {
    let since = Instant::now();
    if !mark.is_comparable() {
        return false;
    }
    let before = |seconds: i64, nanos: i64| mark.is_after(seconds, nanos);
    let own = std::fs::symlink_metadata(top);
    if !own.is_ok_and(|own| before(own.ctime(), own.ctime_nsec())) {
        return false;
    }
    let all = tree::walk(top, &mut |stat| {
        let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX);
        before(stat.st_ctime, nanos) && since.elapsed() < timing::VOLUME_LOOK
    });
    all.unwrap_or(false)
}

impl Mark {
    /// Nobody has set the clock since.
    pub fn is_comparable(&self) -> bool {
        clock_ms().is_ok_and(|clock| (clock - self.clock_ms).abs() <= CLOCK_SET_MS)
    }

    /// Whether that moment was before it for sure.
    pub fn is_after(&self, seconds: i64, nanos: i64) -> bool {
        (seconds, nanos) < (self.seconds, self.nanos)
    }
}

/// Changes only when somebody sets the clock.
fn clock_ms() -> io::Result<i64> {
    let (real, boot) = (
        clock_gettime(ClockId::CLOCK_REALTIME)?,
        clock_gettime(ClockId::CLOCK_BOOTTIME)?,
    );
    let seconds = real.tv_sec() - boot.tv_sec();
    Ok(seconds * 1000 + (real.tv_nsec() - boot.tv_nsec()) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file system's clock has gone on.
    fn later(directory: &Path, than: &Mark) -> Mark {
        loop {
            let now = take(directory, ".mark").unwrap();
            if (now.seconds, now.nanos) > (than.seconds, than.nanos) {
                return now;
            }
        }
    }

    #[test]
    fn every_kind_of_change_is_seen_and_reading_is_none() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("data");
        let deep = top.join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "content").unwrap();
        std::fs::write(top.join("doomed"), "content").unwrap();
        let begin = take(home.path(), ".mark").unwrap();
        let changes: [&dyn Fn() -> io::Result<()>; 5] = [
            &|| std::fs::write(deep.join("file"), "changed"),
            &|| std::fs::write(top.join("new"), ""),
            &|| std::fs::remove_file(top.join("doomed")),
            &|| std::fs::rename(top.join("new"), deep.join("moved")),
            &|| File::open(deep.join("file"))?.set_modified(std::time::UNIX_EPOCH),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mark = later(home.path(), &begin);
            let mark = later(home.path(), &mark);
            assert!(is_unchanged(&top, &mark), "before change {number}");
            std::fs::read(deep.join("file")).unwrap();
            assert!(is_unchanged(&top, &mark), "read before change {number}");
            change().unwrap();
            assert!(!is_unchanged(&top, &mark), "change {number}");
            later(home.path(), &mark);
        }
    }

    #[test]
    fn a_clock_that_was_set_or_a_volume_that_is_gone_says_nothing() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("data");
        std::fs::create_dir(&top).unwrap();
        let mark = take(home.path(), ".mark").unwrap();
        let mark = later(home.path(), &mark);
        assert!(is_unchanged(&top, &mark));
        let set = Mark {
            clock_ms: mark.clock_ms + 3_600_000,
            ..mark
        };
        assert!(!is_unchanged(&top, &set));
        assert!(!is_unchanged(&home.path().join("gone"), &mark));
    }
}
