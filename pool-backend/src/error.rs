//! The engine's one error: a kind that callers decide by, a text that users may see, and a cause
//! that only logs see.

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such workspace, job or file.
    NotFound,
    /// The request makes no sense as it is.
    Invalid,
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
}
