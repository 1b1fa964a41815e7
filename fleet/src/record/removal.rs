//! Removes a directory tree that strangers filled: any depth, any names, links that lead out.
//!
//! It neither recurses nor keeps a descriptor per level (a tree may be a million levels deep):
//! each directory found inside is moved to the top and emptied there. No link is followed.
//!
//! Must never happen here: an absolute path below the top, or a symlink followed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Removes `path` and all below it; fine if it is not there. Blocking, and long for large trees.
///
/// # Errors
/// What the file system says; what was removed until then is gone, and a second call goes on.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match open_dir(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0;
    // Directories moved up while a pass goes on may or may not be seen by it: look again.
    while empty_once(top.as_fd(), |name| {
        let inner = open_dir(&top, name)?;
        while empty_once(inner.as_fd(), |deeper| {
            move_up(inner.as_fd(), deeper, top.as_fd(), &mut moved)
        })? {}
        rustix::fs::unlinkat(&top, name, AtFlags::REMOVEDIR)
    })? {}
    std::fs::remove_dir(path)
}

/// One pass over a directory: unlinks what is no directory, hands directories to `take_away`.
/// False if there was nothing left.
fn empty_once(
    dir: BorrowedFd<'_>,
    mut take_away: impl FnMut(&std::ffi::CStr) -> rustix::io::Result<()>,
) -> rustix::io::Result<bool> {
    let mut found = false;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        found = true;
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => take_away(name)?,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn move_up(
    from: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    loop {
        *moved += 1;
        let new_name = format!("{moved}");
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(from, name, top, new_name.as_str(), flags) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
}

fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_of_any_shape_goes_and_nothing_outside_it() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let tree = dir.path().join("tree");
        // Names like those that the removal gives, at several levels.
        for path in ["1/1/1", "2/1", "1/2/3/4", "3", "a/b/c"] {
            fs::create_dir_all(tree.join(path)).unwrap();
            fs::write(tree.join(path).join("file"), "x").unwrap();
            symlink(&outside, tree.join(path).join("out")).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_itself() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let link = dir.path().join("link");
        symlink(&outside, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(outside.exists() && !link.is_symlink());
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Deeper than any path may be long: made from the inside, as a stranger would.
        let mut at = open_dir(CWD, &tree).unwrap();
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from(0o700)).unwrap();
            at = open_dir(&at, "d").unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
