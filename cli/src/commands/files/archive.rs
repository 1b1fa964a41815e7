//! Whole directories as archives: `fleeks files archive` and `unpack`, and what `cp` does with
//! directories.
//!
//! An archive from a workspace was made of what strangers wrote: of its names none leads out of the
//! directory here, links that would are left out, and what is neither file, directory nor link is.
//!
//! Must never happen here: an archive in memory.

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

use super::{End, files_path};
use crate::client::{RequestBody, next_part};
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
        let mut body = get(session, name, path, format).await?;
        let mut target: Box<dyn io::Write> = match output {
            "-" => Box::new(io::stdout().lock()),
            output => Box::new(File::create(output).map_err(at(Path::new(output)))?),
        };
        while let Some(part) = next_part(&mut body).await? {
            target.write_all(&part)?;
            moved.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        target.flush()?;
        Ok::<_, Failure>(())
    };
    let what = format!("fetching {}", plain(output));
    let said = || format!("{what}  {}", bytes(moved.bytes() as f64));
    session.progress(said, fetching).await?;
    if output == "-" {
        return Ok(());
    }
    if session.json {
        return session.document(&json!({ "file": output, "bytes": moved.bytes() }));
    }
    let size = bytes(moved.bytes() as f64);
    writeln!(anstream::stdout(), "{}  {size}", plain(output))?;
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
    tell(session, &sent?, from, &format!("{name}:{path}"))
}

/// A directory of a workspace below one of this machine.
pub async fn receive(session: &Session, name: &str, path: &str, to: &Path) -> Result<(), Failure> {
    let moved = Arc::new(Moved::default());
    let (pieces, taken) = mpsc::channel::<Bytes>(AHEAD);
    let (root, counted) = (to.to_owned(), Arc::clone(&moved));
    let unpacking =
        tokio::task::spawn_blocking(move || unpack(Incoming::new(taken), &root, &counted));
    let fetching = async {
        let mut body = get(session, name, path, "tar").await?;
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
    let done = json!({ "files": files, "bytes": size });
    tell(session, &done, &source, &to.display().to_string())
}

async fn get(
    session: &Session,
    name: &str,
    path: &str,
    format: &str,
) -> Result<hyper::body::Incoming, Failure> {
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let path = files_path(name, "/archive", path) + &format!("&format={format}");
    let response = session.client.send(Method::GET, &path, nothing).await?;
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
    let (files, size) = (number("files"), bytes(number("bytes") as f64));
    let (source, target) = (plain(source), plain(target));
    writeln!(
        anstream::stdout(),
        "{source} → {target}  {files} files, {size}"
    )?;
    Ok(())
}

/// Writes what is in a directory as a tar.gz. Links stay links.
fn pack(root: &Path, out: mpsc::Sender<io::Result<Bytes>>, moved: &Moved) -> io::Result<()> {
    let outgoing = Outgoing {
        out: out.clone(),
        held: Vec::with_capacity(PIECE),
    };
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
        }
        // Sockets, FIFOs and devices are nothing that could be sent.
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
        if taken && entry.unpack_in(root)? && kind == tar::EntryType::Regular {
            moved.files.fetch_add(1, Ordering::Relaxed);
            moved.bytes.fetch_add(entry.size(), Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Pieces of a body, written from a thread.
struct Outgoing {
    out: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl io::Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.held);
        let sent = self.out.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Pieces of a body, read from a thread.
struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Incoming {
    fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.display().to_string();
    move |source| Failure::File {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
