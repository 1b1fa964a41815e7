//! What becomes of a failure: its sentence, what to do about it, a document for scripts, an exit code.
//!
//! Must never happen here: a failure that ends with exit code 0, but for a reader that left.

use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::client::ClientError;
use crate::report;
use crate::session::Failure;

/// Says why, and what to do. A reader that left got what it wanted: that is a quiet end.
pub fn end(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_quiet(error) {
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<Failure>() {
        Some(failure) => {
            tell(failure, json);
            exit_code(failure)
        }
        None => {
            match json {
                true => report::error_document(&json!({ "error": whole(error) })),
                false => report::error(&whole(error)),
            }
            ExitCode::FAILURE
        }
    }
}

fn is_quiet(error: &anyhow::Error) -> bool {
    let failed = match error.downcast_ref::<Failure>() {
        Some(Failure::Print(failed)) => Some(failed),
        Some(_) => None,
        None => error.downcast_ref::<io::Error>(),
    };
    failed.is_some_and(|failed| failed.kind() == io::ErrorKind::BrokenPipe)
}

/// An error and what led to it. Some name their cause themselves; it is not said again.
fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.is_empty() {
            true => cause,
            false if said.ends_with(&cause) => said,
            false => format!("{said}: {cause}"),
        }
    })
}

fn tell(failure: &Failure, json: bool) {
    if json {
        return report::error_document(&document(failure));
    }
    report::error(&failure.to_string());
    if let Some(advice) = advice(failure) {
        report::advice(advice);
    }
}

/// Faults of a command that goes on with the others.
pub struct Faults {
    json: bool,
    first: Option<ExitCode>,
    /// For the document that the command prints.
    pub documents: Vec<Value>,
}

impl Faults {
    /// None yet.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            first: None,
            documents: Vec::new(),
        }
    }

    /// Says one, now, and which one of many it was (`field` names what that is).
    pub fn note(&mut self, field: &str, which: &str, failure: &Failure) {
        let mut document = document(failure);
        document[field] = which.into();
        match self.json {
            true => report::error_document(&document),
            false => tell(failure, false),
        }
        self.documents.push(document);
        self.first.get_or_insert_with(|| exit_code(failure));
    }

    /// The first one's.
    pub fn code(&self) -> ExitCode {
        self.first.unwrap_or(ExitCode::SUCCESS)
    }
}

/// What a shell is told. `docs/cli.md` lists them.
fn exit_code(failure: &Failure) -> ExitCode {
    let code = match failure {
        Failure::Usage(_) | Failure::Client(ClientError::Address { .. }) => 2,
        Failure::Client(ClientError::Refused { status, .. }) => match status {
            404 => 3,
            401 | 403 => 4,
            409 | 429 | 503 => 5,
            408 | 504 => 6,
            _ => 1,
        },
        Failure::Absent(_) => 3,
        Failure::Key(_) | Failure::Client(ClientError::Key { .. }) => 4,
        Failure::Client(
            ClientError::Unreachable { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Broken(_),
        ) => 6,
        _ => 1,
    };
    ExitCode::from(code)
}

/// The same for scripts.
fn document(failure: &Failure) -> Value {
    let mut error = json!({ "error": failure.to_string() });
    if let Failure::Client(ClientError::Refused {
        status,
        detail,
        request_id,
    }) = failure
    {
        error["status"] = (*status).into();
        error["detail"] = detail.as_str().into();
        error["request_id"] = request_id.as_str().into();
    }
    if let Some(advice) = advice(failure) {
        error["advice"] = advice.into();
    }
    error
}

/// What to do about it.
fn advice(failure: &Failure) -> Option<&'static str> {
    let Failure::Client(error) = failure else {
        return None;
    };
    match error {
        ClientError::Unreachable { .. } => {
            Some("is `fleeks up` running? another platform: --api URL, or FLEEKS_BASE_URL")
        }
        ClientError::Untrusted {
            unknown_issuer: true,
            ..
        } => Some(
            "a development CA is trusted with --ca FILE, or FLEEKS_CA; `fleeks ca` on the platform's \
             machine says where it is",
        ),
        ClientError::Key { .. } => Some(
            "the first `fleeks up` writes it; another place: --data-dir DIR; another key: --key KEY, \
             or FLEEKS_API_KEY",
        ),
        ClientError::Refused { status, detail, .. } => match status {
            401 => {
                Some("give a valid key with --key or FLEEKS_API_KEY; `fleeks keys list` knows them")
            }
            404 if detail.contains("workspace") => Some("`fleeks ws list` shows what there is"),
            409 if detail.contains("auto_wake") => Some("`fleeks wake NAME` wakes it all the same"),
            429 | 503 => Some("try again in a moment"),
            507 => Some("delete files or workspaces: `fleeks ws rm NAME`"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_codes_and_advice() {
        let refused = |status, detail: &str| {
            Failure::Client(ClientError::Refused {
                status,
                detail: detail.to_owned(),
                request_id: "r".to_owned(),
            })
        };
        let lost = refused(404, "no such workspace");
        assert_eq!(exit_code(&lost), ExitCode::from(3));
        assert!(advice(&lost).is_some_and(|advice| advice.contains("ws list")));
        assert_eq!(exit_code(&refused(409, "busy")), ExitCode::from(5));
        assert_eq!(exit_code(&refused(401, "")), ExitCode::from(4));
        assert_eq!(exit_code(&refused(500, "")), ExitCode::from(1));
        assert_eq!(exit_code(&Failure::Usage(String::new())), ExitCode::from(2));
        assert_eq!(
            exit_code(&Failure::Absent(String::new())),
            ExitCode::from(3)
        );
        assert_eq!(exit_code(&Failure::Key(String::new())), ExitCode::from(4));
        let untrusted = |unknown_issuer| {
            Failure::Client(ClientError::Untrusted {
                authority: "a".to_owned(),
                problem: "p".to_owned(),
                unknown_issuer,
            })
        };
        assert_eq!(exit_code(&untrusted(true)), ExitCode::from(6));
        assert!(advice(&untrusted(true)).is_some_and(|advice| advice.contains("--ca")));
        assert_eq!(advice(&untrusted(false)), None);
    }

    #[test]
    fn the_first_of_many_faults_gives_the_code() {
        let mut faults = Faults::new(true);
        assert_eq!(faults.code(), ExitCode::SUCCESS);
        faults.note("name", "a", &Failure::Absent("not there".to_owned()));
        faults.note("name", "b", &Failure::Key("no key".to_owned()));
        assert_eq!(faults.code(), ExitCode::from(3));
        let expected = json!([
            { "name": "a", "error": "not there" }, { "name": "b", "error": "no key" },
        ]);
        assert_eq!(Value::from(faults.documents), expected);
    }

    #[test]
    fn nothing_is_said_twice() {
        let lost = || io::Error::from(io::ErrorKind::NotFound);
        let file = Failure::File {
            path: "x".to_owned(),
            source: lost(),
        };
        let text = format!("x: {}", lost());
        assert_eq!(whole(&anyhow::Error::from(file)), text);
        let context = anyhow::Error::from(lost()).context("x");
        assert_eq!(whole(&context), text);
    }

    #[test]
    fn a_reader_that_left_is_no_fault() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_quiet(&broken().into()));
        assert!(is_quiet(&Failure::Print(broken()).into()));
        assert!(!is_quiet(&Failure::Other("broken pipe".to_owned()).into()));
    }
}
