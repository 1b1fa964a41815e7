//! `fleeks hibernate | wake`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use super::Outcome;
use crate::session::Session;
use crate::show::{bold, field, plain};

/// Puts a workspace on disk, with its processes.
pub async fn hibernate(session: &Session, name: &str) -> Outcome {
    act(session, name, "hibernate", "hibernating").await
}

/// Wakes a workspace, also where visits may not.
pub async fn wake(session: &Session, name: &str) -> Outcome {
    act(session, name, "wake", "waking").await
}

async fn act(session: &Session, name: &str, call: &str, doing: &str) -> Outcome {
    let path = session.container_path(name, call).await?;
    let began = Instant::now();
    let acting = session.post(&path, &Value::Null);
    let done = session
        .patiently(&format!("{doing} {name}"), acting)
        .await?;
    if session.json {
        session.document(&done)?;
    } else {
        let took = began.elapsed().as_millis();
        let message = plain(field(&done, "message"));
        writeln!(anstream::stdout(), "{}: {message} ({took} ms)", bold(name))?;
    }
    Ok(ExitCode::SUCCESS)
}
