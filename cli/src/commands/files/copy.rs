//! `fleeks files cp`: one file or one directory, in or out.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::partial::Partial;
use super::plan::Meta;
use super::{End, archive, at, fetch, files_path, tree};
use crate::client::{ClientError, RequestBody};
use crate::session::{Failure, Session};
use crate::show::{bytes, plain};

/// Runs the command.
pub async fn run(session: &Session, source: &str, target: &str) -> Result<(), Failure> {
    let moved = match (End::parse(source), End::parse(target)) {
        (End::Here(from), End::There { name, path }) if Path::new(from).is_dir() => {
            return archive::send(session, from, name, &below(path, from)).await;
        }
        (End::Here(from), End::There { name, path }) => {
            let path = match from {
                "-" => path.to_owned(),
                from => into(path, from),
            };
            send_file(session, from, name, &path).await?
        }
        (
            End::There {
                name,
                path: "" | "/" | ".",
            },
            End::Here(to),
        ) => {
            let to = match to {
                "-" => return Err(usage("a directory has no place on standard output")),
                to if Path::new(to).is_dir() || to.ends_with('/') => Path::new(to).join(name),
                to => PathBuf::from(to),
            };
            return archive::receive(session, name, "/", &to).await;
        }
        (End::There { name, path }, End::Here(to)) => {
            match receive(session, name, path, to).await {
                Err(Failure::Client(ClientError::Refused { detail, .. }))
                    if to != "-" && detail.contains("is a directory") =>
                {
                    let to = place(path, to).unwrap_or_else(|| PathBuf::from(to));
                    return archive::receive(session, name, path, &to).await;
                }
                received => received?,
            }
        }
        (End::Here(_), End::Here(_)) => return Err(usage("one of them must be NAME:PATH")),
        (End::There { .. }, End::There { .. }) => {
            return Err(usage("one of them must be on this machine; copy twice"));
        }
    };
    // Standard output is the file's then.
    if target == "-" {
        return Ok(());
    }
    if session.json {
        return session.document(&json!({ "source": source, "target": target, "bytes": moved }));
    }
    let size = bytes(moved as f64);
    let (source, target) = (plain(source), plain(target));
    writeln!(anstream::stdout(), "{source} → {target}  {size}")?;
    Ok(())
}

fn usage(text: &str) -> Failure {
    Failure::Usage(format!("{text}, e.g. fleeks files cp app.py demo:src/"))
}

/// The target file: in a directory (an end with a slash, or nothing) it keeps its name.
fn into(path: &str, from: &str) -> String {
    if !path.is_empty() && !path.ends_with('/') {
        return path.to_owned();
    }
    let name = Path::new(from).file_name().and_then(|name| name.to_str());
    format!("{path}{}", name.unwrap_or_default())
}

/// The target directory of a directory, by the same rule.
fn below(path: &str, from: &str) -> String {
    match Path::new(from).canonicalize() {
        Ok(whole) => into(path, &whole.to_string_lossy()),
        Err(_) => into(path, from),
    }
}

/// Bytes from a file, or from standard input.
async fn send_file(session: &Session, from: &str, name: &str, path: &str) -> Result<u64, Failure> {
    let stdin = from == "-";
    let from = if stdin { "/dev/stdin" } else { from };
    let failed = at(Path::new(from));
    let file = tokio::fs::File::open(from).await.map_err(&failed)?;
    let found = file.metadata().await.map_err(&failed)?;
    if found.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let mode = (!stdin).then(|| found.permissions().mode());
    let sending = send(session, file, name, path, mode);
    session
        .patiently(&format!("sending {}", plain(from)), sending)
        .await
}

/// Writes a file of a workspace.
pub(super) async fn send(
    session: &Session,
    content: impl AsyncRead + Send + 'static,
    name: &str,
    path: &str,
    mode: Option<u32>,
) -> Result<u64, Failure> {
    let parts = ReaderStream::with_capacity(content, 1 << 16).map(|part| part.map(Frame::data));
    let body: RequestBody = StreamBody::new(parts).boxed_unsync();
    let mut path = files_path(name, "/raw", path);
    if let Some(mode) = mode {
        path.push_str(&format!("&permissions={:04o}", mode & 0o777));
    }
    let response = session.client.send(Method::PUT, &path, body).await?;
    let answer = crate::client::json(response).await?;
    answer["size_bytes"]
        .as_u64()
        .ok_or(Failure::Answer("size_bytes"))
}

async fn receive(session: &Session, name: &str, path: &str, to: &str) -> Result<u64, Failure> {
    if to == "-" {
        let mut out = io::stdout().lock();
        let count = fetch(session, name, path, &mut out).await?;
        out.flush()?;
        return Ok(count);
    }
    let target = place(path, to).unwrap_or_else(|| PathBuf::from(to));
    receive_file(session, name, path, &target, None).await
}

/// Where it goes: into a directory under its own name, if it has one.
fn place(path: &str, to: &str) -> Option<PathBuf> {
    let target = Path::new(to);
    if !target.is_dir() && !to.ends_with('/') {
        return Some(target.to_owned());
    }
    let name = path.trim_end_matches('/').rsplit('/').next();
    let name = name.filter(|name| !matches!(*name, "" | "." | ".."))?;
    Some(target.join(name))
}

/// Whole or not at all, with its permission bits. With what is `known` of it also its time, so that
/// it does not look newer here than there.
pub(super) async fn receive_file(
    session: &Session,
    name: &str,
    path: &str,
    target: &Path,
    known: Option<&Meta>,
) -> Result<u64, Failure> {
    let failed = at(target);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(&failed)?;
    }
    let fetched = async {
        let mut file = Partial::new(target)?;
        let count = fetch(session, name, path, &mut file).await?;
        if let Some(file) = file.own() {
            let mode = match known {
                Some(meta) => Some(meta.mode),
                None => tree::one(session, name, path).await.map(|meta| meta.mode),
            };
            if let Some(mode) = mode {
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(&failed)?;
            }
            if let Some(meta) = known {
                let changed = i128::from(meta.changed) * 1000;
                let changed = OffsetDateTime::from_unix_timestamp_nanos(changed);
                let changed = changed.unwrap_or(OffsetDateTime::UNIX_EPOCH);
                file.set_modified(changed.into()).map_err(&failed)?;
            }
        }
        file.finish()?;
        Ok(count)
    };
    session
        .patiently(&format!("fetching {}", plain(path)), fetched)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_takes_files_under_their_names() {
        assert_eq!(into("src/", "dir/app.py"), "src/app.py");
        assert_eq!(into("", "dir/app.py"), "app.py");
        assert_eq!(into("other.py", "dir/app.py"), "other.py");
    }
}
