//! `fleeks exec`: a command in a workspace, its output as it comes, its exit code as ours.
//!
//! It runs as a job that is followed: a lost connection loses nothing, and what ends us ends the command
//! as well. Who waits for a command uses the workspace, so it is kept awake meanwhile.
//!
//! Must never happen here: a command left running behind us, unless --detach says so.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::process::ExitCode;

use fleet::timing;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Outcome;
use super::logs::{self, Part};
use super::printer::Printer;
use super::stream::Stream;
use crate::args::ExecArgs;
use crate::client::{ClientError, encode};
use crate::report;
use crate::session::{Failure, Session};
use crate::show::{field, plain};

/// As shells report a command that ran out of time.
const TIMED_OUT: u8 = 124;
/// As shells report the signals that end us: 128 and the signal.
const HUNG_UP: u8 = 129;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Runs the command.
pub async fn run(session: &Session, args: &ExecArgs) -> Outcome {
    let environment: serde_json::Map<String, Value> = args
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let mut body = json!({
        "project_id": args.name,
        "command": shell_line(&args.command),
        "working_dir": args.workdir,
        "environment": environment,
    });
    if let Some(seconds) = args.timeout {
        body["timeout_seconds"] = seconds.into();
    }
    // From here on: a job that began must not be left behind.
    let mut ends = Ends::listen()?;
    let starting = session.post("/api/v1/sdk/terminal/background", &body);
    let started = session
        .patiently(&format!("waking {}", args.name), starting)
        .await?;
    let job = started["job_id"]
        .as_str()
        .ok_or(Failure::Answer("job_id"))?;
    if args.detach {
        match session.json {
            true => session.document(&started)?,
            false => writeln!(io::stdout(), "{job}")?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::select! {
        ended = follow(session, &args.name, job) => ended,
        never = keep_awake(session, &args.name) => match never {},
        code = ends.next() => {
            end(session, &args.name, job).await?;
            return Ok(ExitCode::from(code));
        }
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            // Nobody reads it any more, or nobody can. Why is what is told, not what this comes to.
            if end(session, &args.name, job).await.is_err() && !session.json {
                let (name, job) = (plain(&args.name), plain(job));
                report::error(&format!("it may go on there: fleeks logs {name} {job}"));
            }
            return Err(failure);
        }
    };
    if session.json {
        session.document(&ended)?;
    }
    Ok(code(&ended))
}

/// Ends the job; one that has ended, or went with its container, is no fault.
async fn end(session: &Session, name: &str, job: &str) -> Result<(), Failure> {
    let (name, job) = (encode(name), encode(job));
    let path = format!("/api/v1/sdk/terminal/jobs/{job}?project_id={name}");
    match session.delete(&path).await {
        Err(Failure::Client(ClientError::Refused { status: 404, .. })) | Ok(_) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Signals that end us.
struct Ends {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Our exit code after the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.hangup.recv() => HUNG_UP,
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
        }
    }
}

/// Until it ended. With --json its output is kept for the document, else printed.
async fn follow(session: &Session, name: &str, job: &str) -> Result<Value, Failure> {
    let mut stream = Stream::of_begun(session, logs::follow_path(name, job));
    let mut printer = Printer::start();
    let mut kept = Part::default();
    loop {
        // Also while it is silent: nobody may be there any more to read what comes next.
        let event = tokio::select! {
            event = stream.next() => event?,
            failure = printer.failed() => return Err(failure),
        };
        let mut part = Part::of(&event)?;
        // What is fast loses something again and again: it is told once, at the end.
        kept.skipped += std::mem::take(&mut part.skipped);
        let (ended, status, code) = (part.ended, part.status.clone(), part.exit_code);
        if session.json {
            kept.stdout.extend_from_slice(&part.stdout);
            kept.stderr.extend_from_slice(&part.stderr);
        } else {
            printer.print(part).await?;
        }
        if !ended {
            continue;
        }
        if !session.json {
            let skipped = Part {
                skipped: kept.skipped,
                ..Part::default()
            };
            printer.print(skipped).await?;
            printer.end().await?;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Ok(json!({
            "job_id": job,
            "status": status,
            "exit_code": code,
            "stdout": text(&kept.stdout),
            "stderr": text(&kept.stderr),
            "skipped_bytes": kept.skipped,
        }));
    }
}

/// Says now and then that the workspace is in use. Following a job is none: a command that is silent
/// for long would be put to sleep under who waits for it.
async fn keep_awake(session: &Session, name: &str) -> Infallible {
    loop {
        tokio::time::sleep(timing::HEARTBEAT).await;
        // Whatever is wrong with the workspace, who follows is told.
        let _ = heartbeat(session, name).await;
    }
}

async fn heartbeat(session: &Session, name: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/sdk/workspaces/{}", encode(name));
    let workspace = session.get(&path).await?;
    let container = field(&workspace, "container_id");
    let path = format!("/api/v1/sdk/containers/{}/heartbeat", encode(container));
    session.post(&path, &json!({})).await?;
    Ok(())
}

fn code(ended: &Value) -> ExitCode {
    if ended["status"] == "timeout" {
        return ExitCode::from(TIMED_OUT);
    }
    let code = ended["exit_code"]
        .as_i64()
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// One word is a shell line as it is; several are quoted, so that they arrive as they are.
pub(super) fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@%+".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_are() {
        let line = |words: &[&str]| {
            shell_line(
                &words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(line(&["echo $HOME | wc"]), "echo $HOME | wc");
        assert_eq!(
            line(&["python", "-c", "print('a b')"]),
            r"python -c 'print('\''a b'\'')'"
        );
        assert_eq!(line(&["touch", ""]), "touch ''");
        assert_eq!(line(&["ls", "-la", "/tmp"]), "ls -la /tmp");
    }

    #[test]
    fn the_command_s_code_is_ours() {
        assert_eq!(
            code(&json!({"status": "failed", "exit_code": 3})),
            ExitCode::from(3)
        );
        assert_eq!(
            code(&json!({"status": "timeout", "exit_code": 143})),
            ExitCode::from(124)
        );
        assert_eq!(
            code(&json!({"status": "failed", "exit_code": null})),
            ExitCode::FAILURE
        );
    }
}
