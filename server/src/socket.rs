//! The Unix socket: 0600, in a directory of 0700.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use fleet::durable;
use tokio::net::UnixListener;

use crate::ServerError;

/// Binds; removes a socket that an earlier process left. The caller holds the data dir's lock, so
/// nobody else serves there.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, ServerError> {
    let wrong = |problem: &str| ServerError::Socket {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let failed = |error: io::Error| wrong(&error.to_string());
    let dir = path.parent().ok_or_else(|| wrong("has no directory"))?;
    durable::make_dir(dir).map_err(failed)?;
    let mode = fs::metadata(dir).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong("its directory is open to others; make it mode 0700"));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(wrong("something that is not a socket is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
