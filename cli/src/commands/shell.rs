//! `fleeks shell`: an interactive terminal in a workspace, at this one.
//!
//! The terminal lives in the workspace: a connection that is lost is made again, and what was
//! printed meanwhile follows. Who detaches can come back.
//!
//! Must never happen here: a local terminal left in raw mode.

mod escape;
mod local;
mod talk;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use fleet::timing;
use serde_json::{Value, json};
use tokio::time::sleep;

use self::local::{Keys, Raw};
use self::talk::{End, Talk};
use super::Outcome;
use super::exec::shell_line;
use crate::args::ShellArgs;
use crate::client::{ClientError, encode};
use crate::session::{Failure, Session, workspace_path};
use crate::show::{field, plain};

/// Runs the command.
pub async fn run(session: &Session, args: &ShellArgs) -> Outcome {
    let terminals = format!("{}/terminals", workspace_path(&args.name));
    if args.list {
        return list(session, &terminals).await;
    }
    if let Some(id) = &args.end {
        let ended = session
            .delete(&format!("{terminals}/{}", encode(id)))
            .await?;
        if session.json {
            session.document(&ended)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if session.json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Usage(format!(
            "a shell needs a terminal; without one: fleeks exec {} -- COMMAND",
            args.name
        )));
    }
    let id = match &args.attach {
        Some(id) => id.clone(),
        None => open(session, args, &terminals).await?,
    };
    let ended = converse(session, &terminals, &id).await?;
    match ended {
        End::Exited(code) => Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)),
        End::Gone => {
            say("the terminal is gone: the workspace's processes were ended");
            Ok(ExitCode::FAILURE)
        }
        End::Detached => {
            let name = &args.name;
            say(&format!(
                "detached; come back with: fleeks shell {name} --attach {id}"
            ));
            Ok(ExitCode::SUCCESS)
        }
        End::Refused { code, reason } => Err(Failure::Client(ClientError::Refused {
            status: status(code),
            detail: reason,
            request_id: "websocket".to_owned(),
        })),
        End::Lost(problem) => Err(Failure::Client(ClientError::Broken(problem))),
    }
}

/// The status that a close code stands for.
fn status(code: u16) -> u16 {
    match code {
        4400..=4499 => code - 4000,
        1013 => 503,
        _ => 500,
    }
}

async fn list(session: &Session, terminals: &str) -> Outcome {
    let listed = session.get(terminals).await?;
    if session.json {
        session.document(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = io::stdout();
    let terminals = listed["terminals"].as_array().into_iter().flatten();
    // What has ended is for scripts only: nobody can come back to it.
    for terminal in terminals.filter(|one| one["status"] != "exited") {
        let text = |name: &str| plain(field(terminal, name));
        let size = format!("{}x{}", terminal["cols"], terminal["rows"]);
        writeln!(
            stdout,
            "{}  {:<10}  {size:<8}  {}  {}",
            text("terminal_id"),
            text("status"),
            text("created_at"),
            text("command"),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(session: &Session, args: &ShellArgs, terminals: &str) -> Result<String, Failure> {
    let environment: serde_json::Map<String, Value> = args
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let size = local::size();
    let mut body = json!({
        "cols": size.cols,
        "rows": size.rows,
        "working_dir": args.workdir,
        "environment": environment,
    });
    if !args.command.is_empty() {
        body["command"] = shell_line(&args.command).into();
    }
    let opening = session.post(terminals, &body);
    let opened = session
        .patiently(&format!("waking {}", args.name), opening)
        .await?;
    let id = opened["terminal_id"].as_str();
    Ok(id.ok_or(Failure::Answer("terminal_id"))?.to_owned())
}

/// Until it is over; a connection that is lost is made again.
async fn converse(session: &Session, terminals: &str, id: &str) -> Result<End, Failure> {
    let raw = Raw::enter()?;
    let mut talk = Talk::new(Keys::read());
    let mut lost_since = None;
    let mut pause = timing::RECONNECT;
    loop {
        let offset = talk
            .offset
            .map_or(String::new(), |at| format!("?offset={at}"));
        let path = format!("{terminals}/{}/ws{offset}", encode(id));
        let problem = match session.client.websocket(&path).await {
            Ok(socket) => {
                if lost_since.take().is_some() {
                    notice("connected again");
                }
                pause = timing::RECONNECT;
                match talk.follow(socket).await {
                    End::Lost(problem) => problem,
                    end => {
                        if !matches!(end, End::Exited(_)) {
                            local::calm();
                        }
                        drop(raw);
                        return Ok(end);
                    }
                }
            }
            Err(
                error @ ClientError::Refused {
                    status: 502..=504, ..
                },
            ) => error.to_string(),
            Err(error @ ClientError::Refused { .. }) => return Err(error.into()),
            // It never began: there is nothing to come back to.
            Err(error) if talk.offset.is_none() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        let since = *lost_since.get_or_insert_with(|| {
            notice("connection lost; connecting again (Enter ~ . detaches)");
            Instant::now()
        });
        if since.elapsed() > timing::RECONNECT_FOR {
            local::calm();
            return Ok(End::Lost(problem));
        }
        tokio::select! {
            () = sleep(pause) => {}
            end = talk.only_detach() => {
                local::calm();
                return Ok(end);
            }
        }
        pause = (pause * 2).min(timing::RECONNECT_MAX);
    }
}

/// A last word, for who is still there: with its window the terminal is gone.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line of ours among the terminal's.
fn notice(text: &str) {
    let _ = write!(io::stderr(), "\r\n[{text}]\r\n");
}
