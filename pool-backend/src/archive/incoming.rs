//! An archive that came in, as a file without a name: what it is, what is in it, and its entries
//! as changes for init.
//!
//! Must never happen here: a change before the plan is whole.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use init_protocol::Write;
use tokio::sync::mpsc;

use super::plan::{Found, Plan, What};
use super::{Format, Limits, invalid, tar_in, too_large, zip_in};
use crate::error::{Error, ErrorKind};
use crate::init_client::Change;
use crate::workspaces::path::VolumePath;

/// Bytes of a file that are sent at once.
const CHUNK: usize = 128 * 1024;
/// Changes that wait to be sent.
const AHEAD: usize = 32;

/// What a reader of a format calls for each entry, with its content.
pub(super) type Visit<'a> = dyn FnMut(&Found<'_>, &mut dyn Read) -> Result<(), Error> + 'a;

/// See the module.
pub(crate) struct Archive {
    file: File,
    format: Format,
    size: u64,
}

impl Archive {
    /// Looks at its first bytes. Blocks.
    ///
    /// # Errors
    /// `Invalid` for what is no archive of ours.
    pub(crate) fn new(file: File) -> Result<Self, Error> {
        let size = file.metadata().map_err(unreadable)?.len();
        let mut head = [0; 512];
        let mut filled = 0;
        while filled < head.len() {
            match file.read_at(&mut head[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        let format = detect(&head[..filled])?;
        Ok(Self { file, format, size })
    }

    /// Reads it to its end. Blocks.
    ///
    /// # Errors
    /// `Invalid` for what is damaged or unfit, `TooLarge`.
    pub(crate) fn plan(&self, base: VolumePath, limits: Limits) -> Result<Plan, Error> {
        let mut plan = Plan::new(base, limits);
        let meter = Meter::new(self.size, limits);
        let mut sink = vec![0; CHUNK];
        self.each(&meter, &mut |found, content| {
            plan.add(found)?;
            loop {
                match content.read(&mut sink) {
                    Ok(0) => break Ok(()),
                    Ok(count) => plan.bytes += count as u64,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(damaged(error)),
                }
            }
        })
        .map_err(|error| meter.exceeded.take().unwrap_or(error))?;
        Ok(plan)
    }

    fn each(&self, meter: &Meter, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut file = self.file.try_clone().map_err(unreadable)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let file = io::BufReader::with_capacity(CHUNK, file);
        match self.format {
            Format::Tar => tar_in::each(meter.counted(file), visit),
            Format::TarGz => {
                let plain = flate2::bufread::MultiGzDecoder::new(file);
                tar_in::each(meter.counted(plain), visit)
            }
            Format::Zip => zip_in::each(file, self.size, meter, visit),
        }
    }

    /// Sends what is planned, links last. Blocks; ends when nobody takes it any more.
    fn send(&self, plan: &Plan, exclusive: bool, out: &mpsc::Sender<io::Result<Change>>) {
        let mut entries = plan.entries.iter();
        // Counted when it was planned.
        let meter = Meter::new(self.size, plan.limits);
        let gone = || Error::new(ErrorKind::NotReady, "nobody takes it any more");
        let give = |change| out.blocking_send(Ok(change)).map_err(|_| gone());
        let sent = self.each(&meter, &mut |_, content| {
            let entry = entries
                .next()
                .ok_or_else(|| invalid("the archive has changed"))?;
            match entry.as_ref().map(|entry| (&entry.path, &entry.what)) {
                None | Some((_, What::Link { .. })) => Ok(()),
                Some((path, What::Directory { mode })) => give(Change::Mkdir {
                    path: path.clone(),
                    mode: Some(*mode),
                }),
                Some((path, What::File { mode })) => {
                    give(Change::Write(Write {
                        path: path.clone(),
                        mode: Some(*mode),
                        parents: true,
                        exclusive,
                    }))?;
                    loop {
                        let mut chunk = Vec::new();
                        let read = content.take(CHUNK as u64).read_to_end(&mut chunk);
                        if read.map_err(damaged)? == 0 {
                            break;
                        }
                        give(Change::Data(Bytes::from(chunk)))?;
                    }
                    give(Change::Written)
                }
            }
        });
        let sent = sent.and_then(|()| {
            plan.entries.iter().flatten().try_for_each(|entry| {
                let What::Link { target } = &entry.what else {
                    return Ok(());
                };
                give(Change::Link {
                    path: entry.path.clone(),
                    target: target.clone(),
                })
            })
        });
        if let Err(error) = sent {
            // Nobody hears it if it was they who left.
            let _ = out.blocking_send(Err(io::Error::other(error.message)));
        }
    }
}

/// The changes that a plan comes to.
pub(crate) fn changes(
    archive: Arc<Archive>,
    plan: Arc<Plan>,
    exclusive: bool,
) -> impl Stream<Item = io::Result<Change>> + Send + use<> {
    let (out, changes) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || archive.send(&plan, exclusive, &out));
    stream::unfold(changes, |mut changes| async move {
        changes.recv().await.map(|change| (change, changes))
    })
}

fn detect(head: &[u8]) -> Result<Format, Error> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Format::TarGz),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Format::Zip),
        _ if tar_in::is_tar(head) => Ok(Format::Tar),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(unknown("zstd is not taken")),
        [b'B', b'Z', b'h', ..] => Err(unknown("bzip2 is not taken")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(unknown("xz is not taken")),
        [b'7', b'z', 0xbc, 0xaf, ..] => Err(unknown("7z is not taken")),
        _ => Err(unknown("this is no archive")),
    }
}

fn unknown(what: &str) -> Error {
    invalid(format!("{what}; send a tar, tar.gz or zip"))
}

/// What an archive grew to, and an end to it.
pub(super) struct Meter {
    packed: u64,
    limits: Limits,
    total: Cell<u64>,
    exceeded: Cell<Option<Error>>,
}

impl Meter {
    fn new(packed: u64, limits: Limits) -> Self {
        Self {
            packed,
            limits,
            total: Cell::new(0),
            exceeded: Cell::new(None),
        }
    }

    /// Bytes came out of it.
    fn count(&self, bytes: usize) -> io::Result<()> {
        let total = self.total.get() + bytes as u64;
        self.total.set(total);
        let Limits {
            unpacked,
            ratio,
            small,
            ..
        } = self.limits;
        let error = if total > unpacked {
            too_large(format!("the archive unpacks to more than {unpacked} bytes"))
        } else if total > small && total / ratio > self.packed {
            invalid(format!(
                "the archive unpacks to more than {ratio} times its size"
            ))
        } else {
            return Ok(());
        };
        self.exceeded.set(Some(error));
        Err(io::ErrorKind::FileTooLarge.into())
    }

    pub(super) fn counted<R: Read>(&self, inner: R) -> Counted<'_, R> {
        Counted { inner, meter: self }
    }
}

/// A reader whose bytes count.
pub(super) struct Counted<'a, R> {
    inner: R,
    meter: &'a Meter,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.count(count)?;
        Ok(count)
    }
}

/// An archive that cannot be read on.
pub(super) fn damaged(error: io::Error) -> Error {
    Error::caused(
        ErrorKind::Invalid,
        "the archive is damaged, or was cut off",
        error,
    )
}

fn unreadable(error: io::Error) -> Error {
    Error::from_io("the archive cannot be read", error)
}
