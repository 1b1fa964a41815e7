//! Why init does not do something: the one place where a system error becomes a kind.

use std::borrow::Cow;

use init_protocol::RefusalKind;
use rustix::io::Errno;

/// Becomes `Reply::Refused`.
#[derive(Debug)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub fn new(kind: RefusalKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn bad(message: &'static str) -> Self {
        Self::new(RefusalKind::BadCall, message)
    }

    pub fn denied(message: &'static str) -> Self {
        Self::new(RefusalKind::Denied, message)
    }

    /// `what` could not be done: the system says so.
    pub fn failed(what: &'static str, error: &std::io::Error) -> Self {
        let kind = error.raw_os_error().map_or(RefusalKind::Other, |code| {
            kind(Errno::from_raw_os_error(code))
        });
        Self::new(kind, format!("{what}: {error}"))
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::new(kind(errno), std::io::Error::from(errno).to_string())
    }
}

fn kind(errno: Errno) -> RefusalKind {
    match errno {
        Errno::NOENT => RefusalKind::NotFound,
        Errno::EXIST | Errno::NOTEMPTY => RefusalKind::Exists,
        Errno::NOTDIR => RefusalKind::NotDirectory,
        Errno::ISDIR => RefusalKind::IsDirectory,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP | Errno::XDEV => {
            RefusalKind::Denied
        }
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => RefusalKind::NoSpace,
        Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
            RefusalKind::TooMany
        }
        Errno::NAMETOOLONG | Errno::INVAL => RefusalKind::BadCall,
        _ => RefusalKind::Other,
    }
}
