//! Whole directories as archives: `fleeks files archive` and `unpack`, and what `cp` does with
//! directories.
//!
//! An archive from a workspace was made of what strangers wrote: of its names none leads out of the
//! directory here, links that would are left out, and what is neither file, directory nor link is.
//!
//! Must never happen here: an archive in memory.

mod pieces;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::Method;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use self::pieces::{Incoming, Outgoing};
use super::partial::Partial;
use super::path::clean;
use super::{End, at, files_path};
use crate::client::{RequestBody, encode, next_part};
use crate::session::{Failure, Session};
use crate::show::{bytes, plain};

/// Pieces between the thread that reads or writes files and the connection.
const AHEAD: usize = 4;
/// Bytes of such a piece.
const PIECE: usize = 128 * 1024;

/// What moved so far.
#[derive(Debug, Default)]
pub struct Moved {
    files: AtomicU64,
    bytes: AtomicU64,
    left_out: AtomicU64,
}

impl Moved {
    fn told(&self, what: &str) -> String {
        let (files, size) = (self.files(), bytes(self.bytes() as f64));
        format!("{what}  {files} files, {size}")
    }

    fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// `fleeks files archive`: what is at a path, as a file here or on standard output.
pub async fn down(
    session: &Session,
    name: &str,
    path: &str,
    output: Option<&str>,
    format: &str,
) -> Result<(), Failure> {
    let file = format!("{name}.{format}");
    let output = output.unwrap_or(&file);
    let moved = Arc::new(Moved::default());
    let fetching = async {
        let mut body = get(session, name, path, format, &moved).await?;
        if output == "-" {
            return write(&mut body, &mut io::stdout().lock(), &moved).await;
        }
        let mut target = Partial::new(Path::new(output))?;
        match write(&mut body, &mut target, &moved).await {
            // Of the file, not of a terminal.
            Err(Failure::Print(error)) => Err(at(Path::new(output))(error)),
            written => written.and_then(|()| target.finish()),
        }
    };
    let what = format!("fetching {}", plain(output));
    let said = || format!("{what}  {}", bytes(moved.bytes() as f64));
    session.progress(said, fetching).await?;
    if output == "-" {
        return tell_left_out(moved.left_out());
    }
    if session.json {
        let (bytes, left_out) = (moved.bytes(), moved.left_out());
        let done = json!({ "file": output, "bytes": bytes, "left_out": left_out });
        return session.document(&done);
    }
    tell_left_out(moved.left_out())?;
    let size = bytes(moved.bytes() as f64);
    writeln!(anstream::stdout(), "{}  {size}", plain(output))?;
    Ok(())
}

async fn write(
    body: &mut hyper::body::Incoming,
    target: &mut impl io::Write,
    moved: &Moved,
) -> Result<(), Failure> {
    while let Some(part) = next_part(body).await? {
        target.write_all(&part)?;
        moved.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    target.flush()?;
    Ok(())
}

/// `fleeks files unpack`: an archive from here, or from standard input, below a path.
pub async fn up(session: &Session, file: &str, target: &str, keep: bool) -> Result<(), Failure> {
    let (name, path) = match End::parse(target) {
        End::There { name, path } => (name, path),
        End::Here(name) => (name, ""),
    };
    let file = if file == "-" { "/dev/stdin" } else { file };
    let opened = tokio::fs::File::open(file).await;
    let content = opened.map_err(at(Path::new(file)))?;
    let moved = Arc::new(Moved::default());
    let counted = Arc::clone(&moved);
    let parts = ReaderStream::with_capacity(content, PIECE);
    let parts = futures_util::StreamExt::map(parts, move |part| {
        part.map(|part: Bytes| {
            counted
                .bytes
                .fetch_add(part.len() as u64, Ordering::Relaxed);
            Frame::data(part)
        })
    });
    let sending = put(
        session,
        name,
        path,
        StreamBody::new(parts).boxed_unsync(),
        keep,
    );
    let what = format!("sending {}", plain(file));
    let said = || format!("{what}  {}", bytes(moved.bytes() as f64));
    let done = session.progress(said, sending).await?;
    tell(session, &done, file, target)
}

/// A directory of this machine below a path of a workspace.
pub async fn send(session: &Session, from: &str, name: &str, path: &str) -> Result<(), Failure> {
    let moved = Arc::new(Moved::default());
    let (out, pieces) = mpsc::channel(AHEAD);
    let (root, counted) = (PathBuf::from(from), Arc::clone(&moved));
    let packing = tokio::task::spawn_blocking(move || pack(&root, out, &counted));
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        let piece: io::Result<Bytes> = pieces.recv().await?;
        Some((piece.map(Frame::data), pieces))
    });
    let sending = put(
        session,
        name,
        path,
        StreamBody::new(pieces).boxed_unsync(),
        false,
    );
    let what = format!("sending {}", plain(from));
    let sent = session.progress(|| moved.told(&what), sending).await;
    // Why it could not be read comes before that it was not taken.
    match packing.await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(at(Path::new(from))(error));
        }
        _ => {}
    }
    let mut sent = sent?;
    let is_none = |what: &str| sent[what].as_u64().unwrap_or_default() == 0;
    if ["files", "directories", "links"].into_iter().all(is_none) {
        // Nothing in an archive says that the directory itself is.
        let call = format!("/api/v1/sdk/files/{}/directories", encode(name));
        let wish = json!({ "path": path, "parents": true });
        if clean(path).is_none_or(|path| !path.is_empty()) {
            session.post(&call, &wish).await?;
        }
    }
    sent["left_out"] = moved.left_out().into();
    tell(session, &sent, from, &format!("{name}:{path}"))
}

/// A directory of a workspace below one of this machine.
pub async fn receive(session: &Session, name: &str, path: &str, to: &Path) -> Result<(), Failure> {
    let moved = Arc::new(Moved::default());
    let (pieces, taken) = mpsc::channel::<Bytes>(AHEAD);
    let (root, counted) = (to.to_owned(), Arc::clone(&moved));
    let fetching = async {
        // First: what is not there leaves no empty directory here.
        let mut body = get(session, name, path, "tar", &moved).await?;
        let unpacking =
            tokio::task::spawn_blocking(move || unpack(Incoming::new(taken), &root, &counted));
        while let Some(part) = next_part(&mut body).await? {
            if pieces.send(part).await.is_err() {
                break; // It says why itself.
            }
        }
        drop(pieces);
        let unpacked = unpacking.await.map_err(io::Error::other)?;
        unpacked.map_err(at(to))
    };
    let what = format!("fetching {name}:{}", plain(path));
    session.progress(|| moved.told(&what), fetching).await?;
    let (files, size) = (moved.files(), moved.bytes());
    let source = format!("{name}:{path}");
    let done = json!({ "files": files, "bytes": size, "left_out": moved.left_out() });
    tell(session, &done, &source, &to.display().to_string())
}

async fn get(
    session: &Session,
    name: &str,
    path: &str,
    format: &str,
    moved: &Moved,
) -> Result<hyper::body::Incoming, Failure> {
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let path = files_path(name, "/archive", path) + &format!("&format={format}");
    let response = session.client.send(Method::GET, &path, nothing).await?;
    let left_out = response.headers().get("x-left-out");
    let left_out = left_out.and_then(|count| count.to_str().ok()?.parse().ok());
    moved
        .left_out
        .fetch_add(left_out.unwrap_or(0), Ordering::Relaxed);
    Ok(response.into_body())
}

async fn put(
    session: &Session,
    name: &str,
    path: &str,
    body: RequestBody,
    keep: bool,
) -> Result<Value, Failure> {
    let path = files_path(name, "/archive", path) + &format!("&overwrite={}", !keep);
    let response = session.client.send(Method::PUT, &path, body).await?;
    Ok(crate::client::json(response).await?)
}

fn tell(session: &Session, done: &Value, source: &str, target: &str) -> Result<(), Failure> {
    if session.json {
        let mut done = done.clone();
        done["source"] = source.into();
        done["target"] = target.into();
        return session.document(&done);
    }
    let number = |name: &str| done[name].as_u64().unwrap_or_default();
    tell_left_out(number("left_out"))?;
    let (files, size) = (number("files"), bytes(number("bytes") as f64));
    let (source, target) = (plain(source), plain(target));
    writeln!(
        anstream::stdout(),
        "{source} → {target}  {files} files, {size}"
    )?;
    Ok(())
}

fn tell_left_out(count: u64) -> Result<(), Failure> {
    if count > 0 {
        let what = "links that lead out of the directory, sockets, FIFOs or devices";
        writeln!(anstream::stderr(), "left out: {count} ({what})")?;
    }
    Ok(())
}

/// Writes what is in a directory as a tar.gz. Links stay links.
fn pack(root: &Path, out: mpsc::Sender<io::Result<Bytes>>, moved: &Moved) -> io::Result<()> {
    let outgoing = Outgoing::new(out.clone());
    let packing = flate2::write::GzEncoder::new(outgoing, flate2::Compression::fast());
    let mut tar = tar::Builder::new(packing);
    tar.follow_symlinks(false);
    let packed = add(&mut tar, root, Path::new(""), moved)
        .and_then(|()| tar.into_inner())
        .and_then(flate2::write::GzEncoder::finish)
        .and_then(|mut outgoing| outgoing.flush());
    if let Err(error) = &packed {
        // Ends the request without an end: the platform writes nothing then.
        let _ = out.blocking_send(Err(error.kind().into()));
    }
    packed
}

fn add(
    tar: &mut tar::Builder<impl io::Write>,
    root: &Path,
    below: &Path,
    moved: &Moved,
) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(below))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tar.append_dir(&name, &path)?;
            add(tar, root, &name, moved)?;
        } else if kind.is_symlink() {
            tar.append_path_with_name(&path, &name)?;
        } else if kind.is_file() {
            let mut file = File::open(&path)?;
            let size = file.metadata()?.len();
            tar.append_file(&name, &mut file)?;
            moved.files.fetch_add(1, Ordering::Relaxed);
            moved.bytes.fetch_add(size, Ordering::Relaxed);
        } else {
            // Sockets, FIFOs and devices are nothing that could be sent.
            moved.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Writes what is in a tar below a directory. See the module.
fn unpack(content: impl Read, root: &Path, moved: &Moved) -> io::Result<()> {
    std::fs::create_dir_all(root)?;
    let mut archive = tar::Archive::new(content);
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !path.components().all(plain) {
            return Err(io::Error::other(format!(
                "a name leads out: {}",
                path.display()
            )));
        }
        let kind = entry.header().entry_type();
        let taken = match kind {
            tar::EntryType::Regular | tar::EntryType::Directory => true,
            tar::EntryType::Symlink => entry
                .link_name()?
                .is_some_and(|target| pool_backend::stays_inside(&path, &target)),
            _ => false,
        };
        if !taken || !entry.unpack_in(root)? {
            moved.left_out.fetch_add(1, Ordering::Relaxed);
        } else if kind == tar::EntryType::Regular {
            moved.files.fetch_add(1, Ordering::Relaxed);
            moved.bytes.fetch_add(entry.size(), Ordering::Relaxed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
