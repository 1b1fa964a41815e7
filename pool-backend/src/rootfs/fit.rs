//! Makes a directory that others filled a root that containers can start on: the places where
//! mounts go.
//!
//! Must never happen here: a link of the root followed out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{IMAGE_DIRECTORIES, IMAGE_FILES};

/// No link on the way: what a runtime mounts there must be there.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Makes what is missing, and replaces links and files that are in the way. All of the root is on
/// disk when it returns. True if it has a bash. Blocks.
///
/// # Errors
/// `InvalidData` with what is in the way; what the file system said.
pub fn fit(root: &Path) -> io::Result<bool> {
    let root = fs::open(root, DIRECTORY, Mode::empty())?;
    for place in IMAGE_DIRECTORIES {
        make(&root, place, FileType::Directory, false)?;
    }
    for place in IMAGE_FILES {
        make(&root, place, FileType::RegularFile, false)?;
    }
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let bash = fs::openat2(&root, "bin/bash", OFlags::PATH, Mode::empty(), within);
    // Everything on disk, and the same after a power cut, before the image gets its name.
    fs::syncfs(&root)?;
    Ok(bash.is_ok())
}

fn make(root: &OwnedFd, place: &str, kind: FileType, is_parent: bool) -> io::Result<()> {
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
    let parent = match parent {
        "" => fs::openat(root, ".", DIRECTORY, Mode::empty()),
        parent => {
            make(root, parent, FileType::Directory, true)?;
            fs::openat2(root, parent, DIRECTORY, Mode::empty(), PLAIN)
        }
    };
    let parent = parent?;
    match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => {
            let found = FileType::from_raw_mode(there.st_mode);
            if found == kind {
                return Ok(());
            }
            let wrong = match found {
                FileType::Directory => Some("a directory"),
                // What lies behind it would be lost.
                _ if is_parent => Some("no directory"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let problem = format!("/{place} is {wrong} in it");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            fs::unlinkat(&parent, name, AtFlags::empty())?;
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let made = match kind {
        FileType::Directory => fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
        _ => fs::openat(
            &parent,
            name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(drop),
    };
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn places_for_mounts_are_plain() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (
            directory.path().join("root"),
            directory.path().join("outside"),
        );
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink("/var/run", root.join("run")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        std::fs::write(root.join("tmp"), "a file").unwrap();
        assert!(!fit(&root).unwrap());
        std::fs::write(root.join("usr/bin/bash"), "").unwrap();
        assert!(fit(&root).unwrap());
        for place in IMAGE_DIRECTORIES {
            let metadata = std::fs::symlink_metadata(root.join(place)).unwrap();
            assert!(metadata.is_dir(), "{place}");
        }
        for place in IMAGE_FILES {
            let metadata = std::fs::symlink_metadata(root.join(place)).unwrap();
            assert!(metadata.is_file(), "{place}");
        }
        std::fs::remove_file(root.join("etc/hosts")).unwrap();
        std::fs::create_dir(root.join("etc/hosts")).unwrap();
        assert!(fit(&root).unwrap_err().to_string().contains("/etc/hosts"));
        std::fs::remove_dir_all(root.join("etc")).unwrap();
        symlink(&outside, root.join("etc")).unwrap();
        assert!(fit(&root).unwrap_err().to_string().contains("/etc is"));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}
