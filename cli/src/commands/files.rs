//! `fleeks files ls | cat | cp | archive | unpack | watch | sync`.

mod archive;
mod copy;
mod partial;
mod path;
mod plan;
mod sync;
mod tree;
mod watch;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use http_body_util::{BodyExt as _, Empty};
use hyper::Method;
use serde_json::Value;

use super::Outcome;
use crate::args::FilesCommand;
use crate::client::{ClientError, encode, next_part};
use crate::session::{Failure, Session};
use crate::show::{ago, bytes, field, plain, table};

/// Runs the command.
pub async fn run(session: &Session, command: &FilesCommand) -> Outcome {
    let work = perform(session, command);
    if writes_here(command) {
        return partial::interruptible(work).await;
    }
    work.await.map(|()| ExitCode::SUCCESS)
}

/// Whether there may be half a file here when it is ended. No other command waits for signals: one
/// that is stuck in a pipe would not see them.
fn writes_here(command: &FilesCommand) -> bool {
    match command {
        FilesCommand::Cp { target, .. } | FilesCommand::Sync { target, .. } => {
            target != "-" && matches!(End::parse(target), End::Here(_))
        }
        FilesCommand::Archive { output, .. } => output.as_deref() != Some("-"),
        _ => false,
    }
}

async fn perform(session: &Session, command: &FilesCommand) -> Result<(), Failure> {
    match command {
        FilesCommand::Ls {
            name,
            path,
            recursive,
            all,
        } => list(session, name, path, *recursive, *all).await?,
        FilesCommand::Cat { name, path } => cat(session, name, path).await?,
        FilesCommand::Cp { source, target, .. } => copy::run(session, source, target).await?,
        FilesCommand::Archive {
            name,
            path,
            output,
            format,
        } => archive::down(session, name, path, output.as_deref(), format).await?,
        FilesCommand::Unpack { file, target, keep } => {
            archive::up(session, file, target, *keep).await?;
        }
        FilesCommand::Watch {
            name,
            path,
            pattern,
        } => watch::run(session, name, path, pattern).await?,
        FilesCommand::Sync {
            source,
            target,
            delete,
            dry_run,
            exclude,
            watch,
        } => {
            let wish = sync::Wish {
                delete: *delete,
                dry_run: *dry_run,
                exclude,
                watch: *watch,
            };
            sync::run(session, source, target, &wish).await?;
        }
    }
    Ok(())
}

/// What stands at one end of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End<'a> {
    /// On this machine.
    Here(&'a str),
    /// In a workspace.
    There { name: &'a str, path: &'a str },
}

impl<'a> End<'a> {
    /// `NAME:PATH` is in a workspace; a path with a slash before its first colon is not.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !name.is_empty() && !name.contains('/') => {
                Self::There { name, path }
            }
            _ => Self::Here(text),
        }
    }
}

/// Path of a call on a workspace's files.
fn files_path(name: &str, end: &str, path: &str) -> String {
    let name = encode(name);
    format!("/api/v1/sdk/files/{name}{end}?path={}", encode(path))
}

/// What the system says of a file of this machine, with its name.
fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.display().to_string();
    move |source| Failure::File {
        path: path.clone(),
        source,
    }
}

/// What the platform says of a file, with its name.
fn named<E: Into<Failure>>(place: &str) -> impl Fn(E) -> Failure + use<E> {
    let place = plain(place);
    move |error| match error.into() {
        Failure::Client(ClientError::Refused {
            status,
            detail,
            request_id,
        }) => Failure::Client(ClientError::Refused {
            status,
            detail: format!("{place}: {detail}"),
            request_id,
        }),
        other => other,
    }
}

async fn list(
    session: &Session,
    name: &str,
    path: &str,
    recursive: bool,
    all: bool,
) -> Result<(), Failure> {
    let options = format!("&recursive={recursive}&include_hidden={all}");
    let path = files_path(name, "", path) + &options;
    let listed = session.get(&path).await?;
    if session.json {
        return session.document(&listed);
    }
    let files = listed["files"].as_array().ok_or(Failure::Answer("files"))?;
    let row = |file: &Value| {
        let name = plain(field(file, if recursive { "path" } else { "name" }));
        let (size, name) = match field(file, "type") {
            "directory" => (String::new(), name + "/"),
            "symlink" => (String::new(), name + "@"),
            _ => (bytes(file["size_bytes"].as_f64().unwrap_or_default()), name),
        };
        vec![
            plain(field(file, "permissions")),
            size,
            ago(field(file, "modified_at")),
            name,
        ]
    };
    let rows: Vec<_> = files.iter().map(row).collect();
    table(
        &mut anstream::stdout(),
        &["MODE", "SIZE", "CHANGED", "NAME"],
        &rows,
    )?;
    Ok(())
}

async fn cat(session: &Session, name: &str, path: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    fetch(session, name, path, &mut out).await?;
    out.flush()?;
    Ok(())
}

/// A file's bytes, as they come. How many there were.
async fn fetch(
    session: &Session,
    name: &str,
    path: &str,
    out: &mut impl io::Write,
) -> Result<u64, Failure> {
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let path = files_path(name, "/raw", path);
    let response = session.client.send(Method::GET, &path, nothing).await?;
    let mut body = response.into_body();
    let mut count = 0;
    while let Some(part) = next_part(&mut body).await? {
        out.write_all(&part)?;
        count += part.len() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let there = |name, path| End::There { name, path };
        assert_eq!(End::parse("demo:src/a.py"), there("demo", "src/a.py"));
        assert_eq!(End::parse("demo:"), there("demo", ""));
        assert_eq!(End::parse("demo:/a:b"), there("demo", "/a:b"));
        for here in ["a.py", "./a:b", "dir/a:b", ":x", "-"] {
            assert_eq!(End::parse(here), End::Here(here));
        }
    }
}
