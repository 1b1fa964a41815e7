//! The engine's one error: a kind that callers decide by, a text that users may see, and a cause
//! that only logs see.

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such workspace, job or file.
    NotFound,
    /// The request makes no sense as it is.
    Invalid,
    /// More than the owner may have.
    Forbidden,
    /// Something is there already, or is used by another.
    Conflict,
    /// A file was wanted and a directory is there, or the other way round.
    WrongFileType,
    /// Larger than allowed.
    TooLarge,
    /// More of something than allowed; try again later.
    TooMany,
    /// The command or call took too long.
    TimedOut,
    /// The volume or machine is full.
    NoSpace,
    /// The workspace could not be started or does not answer; worth a retry.
    NotReady,
    /// Our fault.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed a moment later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::TooMany | Self::NotReady)
    }
}

/// See the module.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For decisions and metrics.
    pub kind: ErrorKind,
    /// Safe to show: no host path, no other owner's name.
    pub message: String,
    /// For logs only.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// An error whose cause goes to the log.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: Some(cause.into()),
        }
    }

    /// An error of the file system: full is told apart, the rest is our fault.
    pub(crate) fn from_io(message: &str, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::StorageFull | Io::QuotaExceeded => {
                Self::caused(ErrorKind::NoSpace, "no space is left", error)
            }
            _ => Self::caused(ErrorKind::Internal, message, error),
        }
    }

    /// The chain of causes, for logs.
    pub(crate) fn cause_text(&self) -> String {
        let mut texts = Vec::new();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
        texts.join(": ")
    }
}
