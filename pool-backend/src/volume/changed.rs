//! What in a volume is not as it was at a certain moment, as far as the file system can tell: what
//! was written, made or renamed shows by its times, what was removed only by its directory's.
//!
//! Must never happen here: a link followed, or a list without a bound.

use std::path::Path;
use std::time::Instant;

use fleet::timing;
use init_protocol::HOME;
use rustix::fs::{AtFlags, FileType, StatxFlags};

use super::mark::Mark;
use super::tree::{Next, Seen, walk_named};

/// Most that is listed.
const MAX_FOUND: usize = 4096;

/// See the module. The default: nothing is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// What was found, directories before what is in them.
    pub found: Vec<Found>,
    /// Nothing else changed.
    pub complete: bool,
}

/// Something that was changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the top; what is not text in it is replaced.
    pub path: String,
    /// It is a directory.
    pub directory: bool,
    /// It was not there before.
    pub new: bool,
}

/// Blocking; costs a walk, at most `timing::VOLUME_LOOK`.
pub(super) fn since(top: &Path, mark: &Mark) -> Changed {
    let mut changed = Changed::default();
    let began = Instant::now();
    if !mark.is_comparable() {
        return changed;
    }
    // A directory whose names changed: what went is not seen.
    let mut names_changed = names(&std::fs::symlink_metadata(top), mark);
    let walked = walk_named(top, &mut |seen| {
        if began.elapsed() > timing::VOLUME_LOOK || changed.found.len() >= MAX_FOUND {
            return Next::Enough;
        }
        let name = seen.name.to_bytes();
        if seen.within.is_empty() && name == HOME.as_bytes() || name.starts_with(b".fleeks-") {
            return Next::Pass;
        }
        let nanos = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
        let stat = seen.stat;
        if mark.is_after(stat.st_ctime, nanos(stat.st_ctime_nsec)) {
            return Next::GoOn;
        }
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let new = is_new(&seen, mark);
        if directory && !new && !mark.is_after(stat.st_mtime, nanos(stat.st_mtime_nsec)) {
            names_changed = true;
        }
        if !directory || new {
            changed.found.push(Found {
                path: path(&seen),
                directory,
                new,
            });
        }
        Next::GoOn
    });
    changed.complete = walked.unwrap_or(false) && !names_changed;
    changed
}

fn names(about: &std::io::Result<std::fs::Metadata>, mark: &Mark) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let before = |about: &std::fs::Metadata| mark.is_after(about.mtime(), about.mtime_nsec());
    !about.as_ref().is_ok_and(before)
}

fn is_new(seen: &Seen<'_>, mark: &Mark) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let about = rustix::fs::statx(seen.directory, seen.name, flags, StatxFlags::BTIME);
    about.is_ok_and(|about| {
        let known = about.stx_mask & StatxFlags::BTIME.bits() != 0;
        known && !mark.is_after(about.stx_btime.tv_sec, about.stx_btime.tv_nsec.into())
    })
}

fn path(seen: &Seen<'_>) -> String {
    let mut path = seen.within.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(seen.name.to_bytes());
    String::from_utf8_lossy(&path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::mark;
    use super::*;

    #[test]
    fn what_is_new_or_changed_is_found_and_what_went_is_said_to_be_missing() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("data");
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::create_dir(top.join(HOME)).unwrap();
        for name in ["a/b/same", "a/b/written", "a/b/doomed"] {
            std::fs::write(top.join(name), "x").unwrap();
        }
        // Past the tick of the file system's clock.
        #[expect(
            clippy::disallowed_methods,
            reason = "no executor here, and nothing to wait for"
        )]
        let settle = || std::thread::sleep(std::time::Duration::from_millis(30));
        let found = |mark| {
            let changed = since(&top, &mark);
            let word = |found: Found| format!("{}{}", if found.new { "+" } else { "" }, found.path);
            let mut words: Vec<_> = changed.found.into_iter().map(word).collect();
            words.sort();
            (words.join(" "), changed.complete)
        };
        settle();
        let mark = mark::take(home.path(), ".glance").unwrap();
        assert_eq!(found(mark), (String::new(), true));
        settle();
        std::fs::write(top.join("a/b/written"), "y").unwrap();
        std::fs::write(top.join(HOME).join("hidden"), "y").unwrap();
        assert_eq!(found(mark), ("a/b/written".to_owned(), true));
        std::fs::create_dir(top.join("a/new")).unwrap();
        std::fs::write(top.join("a/new/file"), "y").unwrap();
        let expected = "+a/new +a/new/file a/b/written".to_owned();
        assert_eq!(found(mark), (expected, false));
        settle();
        let mark = mark::take(home.path(), ".glance").unwrap();
        settle();
        std::fs::remove_file(top.join("a/b/doomed")).unwrap();
        assert_eq!(found(mark), (String::new(), false));
    }
}
