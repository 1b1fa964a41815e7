//! A tree of a volume as an archive, made as it is sent: never more in memory than a piece, and the
//! names.
//!
//! What is read changes meanwhile. A file that went away is left out; one that grew is as long as
//! it was when its turn came; one that shrank ends the archive with an error, since its length was
//! said already. Links that lead out of the tree, sockets, FIFOs and devices are left out.
//!
//! Must never happen here: a length that is not kept.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::{Format, stays_inside};
use crate::volume_files::VolumeFiles;
use crate::volume_files::tree::{Tree, TreeEntry};
use crate::workspaces::{ByteStream, FileKind};

/// Bytes that are sent at once, at least, but for the last.
const PIECE: usize = 64 * 1024;
/// Pieces that wait to be sent.
const AHEAD: usize = 2;
/// So much is compressed where we stand.
const INLINE: usize = 16 * 1024;
/// Of a tar.
const BLOCK: usize = 512;
/// Longest name in a tar's header.
const SHORT: usize = 100;

/// Whether it becomes part of an archive.
pub(crate) fn is_taken(entry: &TreeEntry) -> bool {
    match (entry.kind, &entry.target) {
        (FileKind::File | FileKind::Directory, _) => true,
        (FileKind::Symlink, Some(target)) => {
            stays_inside(&entry.path, Path::new(OsStr::from_bytes(target)))
        }
        _ => false,
    }
}

/// The archive's bytes.
pub(crate) fn packed(files: VolumeFiles, tree: Tree, format: Format) -> ByteStream {
    let (out, pieces) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(error) = pack(&files, &tree, format, &out).await {
            // Nobody hears it if it was they who left.
            let _ = out.send(Err(error)).await;
        }
    });
    stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    })
    .boxed()
}

async fn pack(files: &VolumeFiles, tree: &Tree, format: Format, out: &Out) -> io::Result<()> {
    let mut packer = Packer::new(format);
    for entry in tree.entries.iter().filter(|entry| is_taken(entry)) {
        if entry.kind == FileKind::File {
            let opened = files.open_in(tree, &entry.path).await;
            let Some(file) = opened.map_err(io::Error::other)? else {
                continue;
            };
            packer.begin(entry, file.info.size)?;
            let mut content = file.bytes();
            while let Some(chunk) = content.try_next().await? {
                packer = packer.data(chunk).await?;
                packer.send(out, PIECE).await?;
            }
            packer.end(file.info.size)?;
        } else {
            packer.begin(entry, 0)?;
        }
        packer.send(out, PIECE).await?;
    }
    let sink = packer.sink.clone();
    packer.finish()?;
    sink.send(out, 1).await
}

type Out = mpsc::Sender<io::Result<Bytes>>;

/// Where writers write, and from where it is sent.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Sends what is there if it is at least so much.
    async fn send(&self, out: &Out, least: usize) -> io::Result<()> {
        let bytes = {
            let mut held = self.0.lock();
            if held.len() < least {
                return Ok(());
            }
            std::mem::take(&mut *held)
        };
        let sent = out.send(Ok(bytes.into())).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

enum Writer {
    Tar(tar::Builder<Sink>),
    TarGz(tar::Builder<GzEncoder<Sink>>),
    Zip(Box<ZipWriter<StreamWriter<Sink>>>),
}

/// Writes one format.
struct Packer {
    writer: Writer,
    sink: Sink,
}

impl Packer {
    fn new(format: Format) -> Self {
        let sink = Sink::default();
        let writer = match format {
            Format::Tar => Writer::Tar(tar::Builder::new(sink.clone())),
            Format::TarGz => {
                let packing = GzEncoder::new(sink.clone(), Compression::fast());
                Writer::TarGz(tar::Builder::new(packing))
            }
            Format::Zip => Writer::Zip(Box::new(ZipWriter::new_stream(sink.clone()))),
        };
        Self { writer, sink }
    }

    async fn send(&self, out: &Out, least: usize) -> io::Result<()> {
        self.sink.send(out, least).await
    }

    /// An entry; of a file its content follows.
    fn begin(&mut self, entry: &TreeEntry, size: u64) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tar(tar) => header(tar, entry, size),
            Writer::TarGz(tar) => header(tar, entry, size),
            Writer::Zip(zip) => record(zip, entry, size),
        }
    }

    /// Off the threads that serve others, where it is much work.
    async fn data(mut self, chunk: Bytes) -> io::Result<Self> {
        if chunk.len() < INLINE || matches!(self.writer, Writer::Tar(_)) {
            self.write(&chunk)?;
            return Ok(self);
        }
        let written = tokio::task::spawn_blocking(move || self.write(&chunk).map(|()| self));
        written.await.map_err(io::Error::other)?
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tar(tar) => tar.get_mut().write_all(bytes),
            Writer::TarGz(tar) => tar.get_mut().write_all(bytes),
            Writer::Zip(zip) => zip.write_all(bytes),
        }
    }

    /// The content of `size` bytes is complete.
    fn end(&mut self, size: u64) -> io::Result<()> {
        if matches!(self.writer, Writer::Zip(_)) {
            return Ok(());
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        self.write(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }

    fn finish(self) -> io::Result<()> {
        match self.writer {
            Writer::Tar(tar) => tar.into_inner().map(drop),
            Writer::TarGz(tar) => tar.into_inner()?.finish().map(drop),
            Writer::Zip(zip) => zip.finish().map(drop).map_err(io::Error::other),
        }
    }
}

fn header(tar: &mut tar::Builder<impl io::Write>, entry: &TreeEntry, size: u64) -> io::Result<()> {
    let mut name = entry.path.as_os_str().as_bytes().to_vec();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(match entry.kind {
        FileKind::Directory => tar::EntryType::Directory,
        FileKind::Symlink => tar::EntryType::Symlink,
        FileKind::File | FileKind::Other => tar::EntryType::Regular,
    });
    if entry.kind == FileKind::Directory {
        name.push(b'/');
    }
    let target = entry.target.as_deref().unwrap_or_default();
    // What has no room in the header, or could be read in two ways, goes before it.
    let long_name = name.len() > SHORT || !name.is_ascii();
    let long_target = target.len() > SHORT || !target.is_ascii();
    let more = [
        ("path", &name[..], long_name),
        ("linkpath", target, long_target),
    ];
    let more = more.iter().filter(|(.., long)| *long);
    tar.append_pax_extensions(more.map(|(key, value, _)| (*key, *value)))?;
    let ustar = header.as_ustar_mut().ok_or(io::ErrorKind::InvalidData)?;
    fill(&mut ustar.name, &name);
    fill(&mut ustar.linkname, target);
    header.set_mode(entry.mode & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(u64::try_from(entry.modified_at.unix_timestamp()).unwrap_or(0));
    header.set_cksum();
    tar.get_mut().write_all(header.as_bytes())
}

/// As much of it as there is room for.
fn fill(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn record(zip: &mut ZipWriter<StreamWriter<Sink>>, entry: &TreeEntry, size: u64) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1))
        .last_modified_time(dos(entry.modified_at))
        .unix_permissions(entry.mode & 0o777)
        .large_file(size >= u64::from(u32::MAX));
    let name = entry.path.to_string_lossy().into_owned();
    match entry.kind {
        FileKind::Directory => zip.add_directory(name, options),
        FileKind::Symlink => {
            let target = entry.target.as_deref().unwrap_or_default();
            zip.add_symlink(name, String::from_utf8_lossy(target), options)
        }
        FileKind::File | FileKind::Other => zip.start_file(name, options),
    }
    .map_err(io::Error::other)
}

/// A moment as a zip has it; one that it cannot say is its first.
fn dos(at: OffsetDateTime) -> zip::DateTime {
    let year = u16::try_from(at.year()).unwrap_or(0);
    zip::DateTime::from_date_and_time(
        year,
        at.month().into(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
    )
    .unwrap_or_default()
}
