//! Symlinks that are absolute inside (`/workspace/…`): the kernel's `RESOLVE_BENEATH` denies them,
//! though they stay in the volume, and init follows them. They are walked here into a path without
//! links, which the kernel then opens following none: what is swapped meanwhile fails, it does not
//! lead out.
//!
//! Must never happen here: a descriptor handed out for anything but a path without links.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{open_no_links, statx};

/// Where the volume is mounted inside.
const MOUNT: &str = "/workspace";
/// As many symlinks as the kernel follows.
const MAX_LINKS: usize = 40;
/// Components looked at.
const MAX_STEPS: usize = 1024;

/// `path`, below `root`, without links; of a link at its end the link itself, unless `follow_last`.
///
/// # Errors
/// `XDEV` if it leads out, `LOOP` for too many links, and what the kernel says.
pub(super) fn walked(root: &OwnedFd, path: &str, follow_last: bool) -> rustix::io::Result<PathBuf> {
    let mut done = PathBuf::new();
    let mut ahead: Vec<OsString> = Vec::new();
    push(&mut ahead, Path::new(path))?;
    let mut links = 0;
    for _ in 0..MAX_STEPS {
        let Some(name) = ahead.pop() else {
            if done.as_os_str().is_empty() {
                done.push(".");
            }
            return Ok(done);
        };
        if name == ".." {
            if !done.pop() {
                return Err(Errno::XDEV);
            }
            continue;
        }
        let next = done.join(&name);
        let found = open_no_links(root, &next, OFlags::PATH | OFlags::NOFOLLOW)?;
        let mode = u32::from(statx(&found, "")?.stx_mode);
        let is_link = FileType::from_raw_mode(mode) == FileType::Symlink;
        if !is_link || ahead.is_empty() && !follow_last {
            done = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
        let mut target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            target = target.strip_prefix(MOUNT).map_err(|_| Errno::XDEV)?;
            done = PathBuf::new();
        }
        push(&mut ahead, target)?;
    }
    Err(Errno::LOOP)
}

/// Puts the components of `path` ahead, the first on top.
fn push(ahead: &mut Vec<OsString>, path: &Path) -> rustix::io::Result<()> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push(name.to_owned()),
            Component::ParentDir => ahead.push("..".into()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(Errno::XDEV),
        }
    }
    if ahead.len() > MAX_STEPS {
        return Err(Errno::NAMETOOLONG);
    }
    Ok(())
}
