//! Files that survive a crash: written beside their place, fsynced, renamed into it, and the
//! directory fsynced. A reader sees the old content or the new, whole; after the call returned,
//! the new survives a power cut.
//!
//! Blocking; a write takes two fsyncs. Must never happen here: a file changed in place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Larger than any file of ours; a bigger one is not ours.
const LARGEST: u64 = 1 << 20;

/// Replaces `path`, mode 0600. Two writers of one path must exclude each other: what a crashed
/// one left behind is overwritten by the next.
///
/// # Errors
/// What the file system says; `path` is then as before.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = unfinished_name(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&unfinished)?;
    // The mode above is for new files; this one may be left over from another umask.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_dir(parent(path)?)
}

/// The content of a file of ours; refuses anything but a plain file of reasonable size.
///
/// # Errors
/// What the file system says; `InvalidData` for what cannot be ours.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let about = file.metadata()?;
    let not_ours = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !about.is_file() {
        return not_ours("not a plain file");
    }
    if about.len() > LARGEST {
        return not_ours("larger than any file of ours");
    }
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content)?;
    Ok(content)
}

/// Makes a directory, mode 0700, and the missing ones above it. Those that exist stay as they are.
///
/// # Errors
/// What the file system says.
pub fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_dir(parent(path)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(parent(path)?)?;
            make_dir(path)
        }
        Err(error) => Err(error),
    }
}

/// Makes names in a directory (created, renamed, removed) survive a crash.
///
/// # Errors
/// What the file system says.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// `.name.unfinished` beside `path`: hidden from whoever lists the directory for records.
pub(crate) fn unfinished_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".unfinished");
    Ok(path.with_file_name(hidden))
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_private_and_content_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file.json");
        make_dir(parent(&path).unwrap()).unwrap();
        for content in [&b"first, longer"[..], b"second"] {
            write(&path, content).unwrap();
            assert_eq!(read(&path).unwrap(), content);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn links_and_fifos_are_not_followed_and_do_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(read(&link).is_err());
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = read(&fifo).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
