//! Walks over trees that strangers made, by directory handle and name, never by path: whatever
//! their depth, it takes two open files and no stack.
//!
//! Must never happen here: a link followed.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// What `st_blocks` counts in.
const BLOCK: u64 = 512;

/// What a volume takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeUsage {
    /// Disk space; a file with two names counts once.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

/// Removes a tree, or whatever stands at `path`. Idempotent.
///
/// Deep trees are made flat first: each directory found is moved up to the top, and emptied there.
///
/// # Errors
/// What the file system said.
pub fn remove(path: &Path) -> io::Result<()> {
    let top = match fs::open(path, OPEN, Mode::empty()) {
        Ok(top) => top,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return std::fs::remove_file(path);
        }
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0u64;
    loop {
        let names = names_in(&top)?;
        if names.is_empty() {
            return std::fs::remove_dir(path);
        }
        for name in names {
            if unlink(&top, &name)? {
                continue;
            }
            let directory = fs::openat(&top, &name, OPEN, Mode::empty())?;
            // Its own bits may forbid even its owner to change it.
            fs::fchmod(&directory, Mode::RWXU)?;
            for child in names_in(&directory)? {
                if !unlink(&directory, &child)? {
                    let place = free_name(&top, &mut moved)?;
                    fs::renameat(&directory, &child, &top, &place)?;
                }
            }
            fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// A name that nothing at the top has; the stranger may have guessed some.
fn free_name(top: &OwnedFd, moved: &mut u64) -> io::Result<CString> {
    loop {
        *moved += 1;
        let name = CString::new(format!(".moved-{moved}"))?;
        match fs::statat(top, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(name),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
}

/// Whether the name is gone now; a directory with something in it is not.
fn unlink(directory: &OwnedFd, name: &CString) -> io::Result<bool> {
    use rustix::io::Errno;
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Counts a tree while others may change it: what moves meanwhile is counted or not.
///
/// # Errors
/// What the file system said of the top.
pub fn usage(path: &Path) -> io::Result<VolumeUsage> {
    let mut usage = VolumeUsage::default();
    let mut linked = HashSet::new();
    walk(path, &mut |stat| {
        usage.entries += 1;
        let first_name = stat.st_nlink == 1
            || FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            || linked.insert((stat.st_dev, stat.st_ino));
        if first_name {
            usage.bytes += blocks(stat) * BLOCK;
        }
        true
    })?;
    Ok(usage)
}

/// Shows everything below a directory, until `see` has seen enough. False if it has, or if
/// something may not have been shown, because it moved meanwhile.
///
/// # Errors
/// What the file system said of the top.
pub fn walk(path: &Path, see: &mut dyn FnMut(&Stat) -> bool) -> io::Result<bool> {
    walk_named(path, &mut |seen| match see(seen.stat) {
        true => Next::GoOn,
        false => Next::Enough,
    })
}

/// Something below the top of a walk.
pub struct Seen<'a> {
    /// Where it stands.
    pub directory: &'a OwnedFd,
    /// Under which name.
    pub name: &'a CString,
    /// Where that directory is, relative to the top.
    pub within: &'a [u8],
    /// About it.
    pub stat: &'a Stat,
}

/// How a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Into it, if it is a directory.
    GoOn,
    /// Past it.
    Pass,
    /// No further.
    Enough,
}

/// [`walk`] with names.
///
/// # Errors
/// As there.
pub fn walk_named(path: &Path, see: &mut dyn FnMut(Seen<'_>) -> Next) -> io::Result<bool> {
    let mut within = Vec::new();
    let mut here = fs::open(path, OPEN, Mode::empty())?;
    let mut complete = true;
    let mut levels = vec![Level::default()];
    if !levels[0].fill(&here, &within, see)? {
        return Ok(false);
    }
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.directories.pop() else {
            if let Some(left) = levels.pop() {
                within.truncate(left.above);
            }
            let Some(above) = levels.last() else { break };
            // Up by `..`: an open handle per level would run out. If the directory was moved
            // meanwhile this is not where we came from; what is left is then not shown.
            here = fs::openat(&here, c"..", OPEN, Mode::empty())?;
            let stat = fs::fstat(&here)?;
            if (stat.st_dev, stat.st_ino) != above.identity {
                return Ok(false);
            }
            continue;
        };
        // Gone meanwhile, or no directory any more.
        let Ok(below) = fs::openat(&here, &name, OPEN, Mode::empty()) else {
            complete = false;
            continue;
        };
        let mut level = Level {
            above: within.len(),
            ..Level::default()
        };
        if !within.is_empty() {
            within.push(b'/');
        }
        within.extend_from_slice(name.as_bytes());
        if !level.fill(&below, &within, see)? {
            return Ok(false);
        }
        levels.push(level);
        here = below;
    }
    Ok(complete)
}

/// A directory on the way down.
#[derive(Default)]
struct Level {
    identity: (u64, u64),
    directories: Vec<CString>,
    /// Length of the path above it.
    above: usize,
}

impl Level {
    /// Shows what stands in a directory, and notes the directories among it.
    fn fill(
        &mut self,
        directory: &OwnedFd,
        within: &[u8],
        see: &mut dyn FnMut(Seen<'_>) -> Next,
    ) -> io::Result<bool> {
        let own = fs::fstat(directory)?;
        self.identity = (own.st_dev, own.st_ino);
        for name in names_in(directory)? {
            let Ok(stat) = fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match see(Seen {
                directory,
                name: &name,
                within,
                stat: &stat,
            }) {
                Next::GoOn => {}
                Next::Pass => continue,
                Next::Enough => return Ok(false),
            }
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            // Another file system is none of the volume's business.
            if is_directory && stat.st_dev == own.st_dev {
                self.directories.push(name);
            }
        }
        Ok(true)
    }
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0)
}

fn names_in(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// Deeper than any path may be long.
    fn deep_tree(top: &Path, depth: usize) {
        let mut here = fs::open(top, OPEN, Mode::empty()).unwrap();
        for _ in 0..depth {
            fs::mkdirat(&here, c"d", Mode::RWXU).unwrap();
            here = fs::openat(&here, c"d", OPEN, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn links_are_removed_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let doomed = directory.path().join("doomed");
        std::fs::create_dir(&doomed).unwrap();
        symlink(&outside, doomed.join("link")).unwrap();
        symlink("/", doomed.join("root")).unwrap();
        remove(&doomed).unwrap();
        assert!(outside.join("kept").exists());
        assert!(!doomed.exists());
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_only_removed() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        let link = directory.path().join("link");
        symlink(&kept, &link).unwrap();
        remove(&link).unwrap();
        assert!(kept.exists() && !link.exists());
        remove(&link).unwrap();
    }

    #[test]
    fn depth_and_hostile_names_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let doomed = directory.path().join("doomed");
        std::fs::create_dir(&doomed).unwrap();
        deep_tree(&doomed, 3000);
        for name in [&b".moved-1"[..], b"\xff\xfe", b"new\nline", b"-rf"] {
            let path = doomed.join(std::ffi::OsStr::from_bytes(name));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("f"), "x").unwrap();
        }
        let locked = doomed.join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::create_dir_all(locked.join("in/side")).unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(usage(&doomed).unwrap().entries, 3000 + 8 + 3);
        remove(&doomed).unwrap();
        assert!(!doomed.exists());
    }

    #[test]
    fn a_second_name_costs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, vec![1; 1 << 20]).unwrap();
        let one = usage(directory.path()).unwrap();
        std::fs::hard_link(&file, directory.path().join("b")).unwrap();
        let two = usage(directory.path()).unwrap();
        assert_eq!(one.bytes, two.bytes);
        assert_eq!(two.entries, 2);
        assert!(one.bytes >= 1 << 20);
    }
}
