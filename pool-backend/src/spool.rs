//! Where content is kept that is not complete yet: beside the volume, so that it goes with the
//! workspace and counts for its owner, and out of reach of what runs in it.
//!
//! Must never happen here: a file that outlives its use.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, ErrorKind};
use crate::volume::Volume;

/// A file without a name: gone with its last descriptor, and with a crash. Blocks.
pub(crate) fn nameless(volume: &Volume) -> Result<File, Error> {
    let made = directory(volume).and_then(|()| {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::open(volume.uploads(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(File::from(file)),
            Err(error) => Err(error.into()),
        }
    });
    made.map_err(|error| Error::from_io("nothing can be kept", error))
}

/// Makes the directory.
pub(crate) fn directory(volume: &Volume) -> io::Result<()> {
    match std::fs::metadata(volume.root()) {
        // Deleted meanwhile: must not come back.
        Err(error) => Err(error),
        Ok(_) => fleet::durable::make_dir(&volume.uploads()),
    }
}

/// Work on files, off the threads that serve others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|failed| Error::caused(ErrorKind::Internal, "a file operation failed", failed))?
}
