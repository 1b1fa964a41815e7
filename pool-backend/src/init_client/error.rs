//! What can go wrong with a call to init, and what that means to the engine's callers.

use std::io;

use init_protocol::RefusalKind;
use init_protocol::codec::CodecError;

use crate::error::{Error, ErrorKind};

/// Longest text of init's that is shown.
const MAX_MESSAGE: usize = 300;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// No connection, or it broke.
    #[error("the container does not answer: {0}")]
    Unreachable(#[source] io::Error),
    /// Init did not do it.
    #[error("{message}")]
    Refused {
        /// Why.
        kind: RefusalKind,
        /// Init's words: cut, and without control characters.
        message: String,
    },
    /// It answered what no init of ours answers.
    #[error("the container's answer is not understood: {0}")]
    Protocol(&'static str),
    /// It took too long.
    #[error("the container took too long")]
    TimedOut,
    /// What was to be written could not be read.
    #[error("the content ended early: {0}")]
    Source(#[source] io::Error),
}

impl InitError {
    pub(super) fn refused(kind: RefusalKind, message: &str) -> Self {
        let message = message.chars().map(|letter| match letter {
            letter if letter.is_control() => ' ',
            letter => letter,
        });
        Self::Refused {
            kind,
            message: message.take(MAX_MESSAGE).collect(),
        }
    }
}

impl From<CodecError> for InitError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Io(error) => Self::Unreachable(error),
            CodecError::Ended => Self::Unreachable(io::ErrorKind::UnexpectedEof.into()),
            CodecError::TooLong(_) => Self::Protocol("a frame is too long"),
            CodecError::UnknownKind(_) => Self::Protocol("an unknown frame"),
            CodecError::Unexpected(_) => Self::Protocol("a frame out of place"),
            CodecError::Malformed(_) => Self::Protocol("malformed JSON"),
        }
    }
}

impl From<InitError> for Error {
    fn from(error: InitError) -> Self {
        let (kind, message) = match &error {
            InitError::Unreachable(_) => (ErrorKind::NotReady, "the workspace does not answer"),
            InitError::TimedOut => (ErrorKind::TimedOut, "the workspace took too long"),
            InitError::Protocol(_) => (
                ErrorKind::Internal,
                "the workspace's answer is not understood",
            ),
            InitError::Source(_) => (ErrorKind::Invalid, "the content ended early"),
            InitError::Refused { kind, message } => match kind {
                RefusalKind::Stranger => (ErrorKind::Internal, "the workspace refuses its node"),
                kind => (refused(*kind), message.as_str()),
            },
        };
        Self::caused(kind, message.to_owned(), error)
    }
}

fn refused(kind: RefusalKind) -> ErrorKind {
    match kind {
        RefusalKind::NotFound | RefusalKind::NotListening => ErrorKind::NotFound,
        RefusalKind::Exists => ErrorKind::Conflict,
        RefusalKind::NotDirectory | RefusalKind::IsDirectory => ErrorKind::WrongFileType,
        RefusalKind::BadCall | RefusalKind::Denied => ErrorKind::Invalid,
        RefusalKind::NoSpace => ErrorKind::NoSpace,
        RefusalKind::TooMany => ErrorKind::TooMany,
        RefusalKind::Stranger | RefusalKind::Other => ErrorKind::Internal,
    }
}
