//! The few files of this room: private, and replaced as a whole.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use tracing::warn;

use crate::CertError;

/// Makes a directory and those above it, 0700.
pub fn make_dir(path: &Path) -> Result<(), CertError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| CertError::storage(path, error))
}

/// The text of a file; none if there is none, or no text (then it is set aside).
pub fn read(path: &Path) -> Result<Option<String>, CertError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            set_aside(path, &error);
            Ok(None)
        }
        // A disk that fails for now is no reason to make a CA that nobody trusts yet.
        Err(error) => Err(CertError::storage(path, error)),
    }
}

/// Renames what cannot be used to `*.damaged`, for people to look at; the latest wins.
pub fn set_aside(path: &Path, why: &dyn std::fmt::Display) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let renamed = fs::rename(path, &aside);
    let path = path.display();
    match renamed {
        Ok(()) => warn!(%path, %why, "set aside as *.damaged and made anew"),
        Err(error) => warn!(%path, %why, %error, "made anew in its place"),
    }
}

/// Replaces a file that holds a key: mode 0600.
pub fn write_private(path: &Path, content: &str) -> Result<(), CertError> {
    write(path, content, 0o600)
}

/// Replaces a file that holds no secret: mode 0644.
pub fn write_public(path: &Path, content: &str) -> Result<(), CertError> {
    write(path, content, 0o644)
}

fn write(path: &Path, content: &str, mode: u32) -> Result<(), CertError> {
    let write = || {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Made with mode 0600, so that it is private from its first byte.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(content.as_bytes())?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| CertError::storage(path, error))
}
