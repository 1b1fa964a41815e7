//! What goes wrong with certificates.

use std::io;
use std::path::{Path, PathBuf};

/// For operators and logs; none of it is caused by a visitor.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file of ours cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Storage {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a file holds is no certificate with its key.
    #[error("not a usable certificate: {0}")]
    Malformed(String),
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The certificate is well-formed, and clients would refuse it.
    #[error("the certificate would be refused: {0}")]
    Refused(#[from] rustls::Error),
}

impl CertError {
    pub(crate) fn storage(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Storage { path, source }
    }

    pub(crate) fn malformed(why: impl ToString) -> Self {
        Self::Malformed(why.to_string())
    }
}
