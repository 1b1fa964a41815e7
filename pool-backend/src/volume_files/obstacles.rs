//! What stands in the way of many files that are to be written: looked for before the first of them
//! is, so that a wrong archive is refused as a whole. What is put in the way later is found when it
//! is met.
//!
//! Must never happen here: a link followed out.

use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{open_beneath, open_root, refused, statx};
use crate::error::{Error, ErrorKind};

/// Something that is to be there.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    pub(crate) directory: bool,
}

/// Blocks: one look for each.
///
/// # Errors
/// `WrongFileType`, `Conflict` (where `exclusive`, for whatever is there), `Invalid`.
pub(crate) fn check<'a>(
    root: &Path,
    wanted: impl Iterator<Item = Wanted<'a>>,
    exclusive: bool,
) -> Result<(), Error> {
    let root = open_root(root)?;
    for Wanted { path, directory } in wanted {
        let in_the_way = |what: &str| {
            let path = crate::archive::shown(path.as_bytes());
            Error::new(ErrorKind::WrongFileType, format!("{path}: {what}"))
        };
        let found = match open_beneath(&root, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTDIR) => return Err(in_the_way("a file is where a directory has to be")),
            Err(error) => return Err(refused(error)),
        };
        let status = statx(&found, "").map_err(refused)?;
        match FileType::from_raw_mode(status.stx_mode.into()) {
            // A link to a directory does as well; init sees where it leads.
            FileType::Directory | FileType::Symlink if directory => {}
            _ if directory => return Err(in_the_way("a file is where a directory has to be")),
            FileType::Directory => return Err(in_the_way("a directory is there")),
            FileType::RegularFile | FileType::Symlink if !exclusive => {}
            FileType::RegularFile | FileType::Symlink => {
                let path = crate::archive::shown(path.as_bytes());
                let message = format!("{path}: something is there");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            _ => return Err(in_the_way("what is there is not a regular file")),
        }
    }
    Ok(())
}
