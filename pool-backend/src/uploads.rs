//! Files that are sent in parts, as they lie beside the volume until they are complete: what came
//! so far, and a record of what it is to become. Both survive a crash; what was acknowledged is on
//! the disk.
//!
//! ```text
//! uploads/<upl_…>.json    what it is to become, and whether it has
//! uploads/<upl_…>.part    what came so far
//! ```
//! Must never happen here: two writers of one part, or a part that stays when nobody comes back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use fleet::id::UploadId;
use fleet::timing;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::error::{Error, ErrorKind};
use crate::spool;
use crate::volume::Volume;

/// Uploads of one workspace at once.
const MOST: usize = 100;

/// What an upload is to become.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Relative to the volume.
    pub(crate) path: String,
    pub(crate) length: u64,
    pub(crate) mode: Option<u32>,
    pub(crate) exclusive: bool,
    /// In hexadecimal.
    pub(crate) sha256: Option<String>,
    /// The file is written.
    pub(crate) done: bool,
}

/// An upload as it stands on disk.
pub(crate) struct Standing {
    pub(crate) record: Record,
    pub(crate) offset: u64,
    pub(crate) expires_at: OffsetDateTime,
}

/// Who writes which upload.
#[derive(Default)]
pub(crate) struct Uploads(DashMap<UploadId, Arc<Slot>>);

struct Slot {
    lock: Arc<tokio::sync::Mutex<()>>,
    turn: watch::Sender<u64>,
}

/// The only writer of an upload, until this is dropped.
pub(crate) struct Turn {
    /// Changes when somebody else wants to go on: then this one ends.
    pub(crate) taken_over: watch::Receiver<u64>,
    _guard: OwnedMutexGuard<()>,
    _slot: Arc<Slot>,
}

impl Uploads {
    /// Ends whoever writes it and waits for that. A client whose connection broke comes back before
    /// we know that it did.
    ///
    /// # Errors
    /// `Conflict` when the other does not end.
    pub(crate) async fn turn(&self, id: &UploadId) -> Result<Turn, Error> {
        let slot = Arc::clone(&self.0.entry(id.clone()).or_insert_with(|| {
            Arc::new(Slot {
                lock: Arc::default(),
                turn: watch::Sender::new(0),
            })
        }));
        slot.turn.send_modify(|turn| *turn += 1);
        let mut taken_over = slot.turn.subscribe();
        let locking = Arc::clone(&slot.lock).lock_owned();
        let guard = tokio::time::timeout(timing::UPLOAD_TURN, locking).await;
        let guard = guard.map_err(|_| {
            Error::new(
                ErrorKind::Conflict,
                "another request is writing this upload",
            )
        })?;
        if taken_over.has_changed().unwrap_or(true) {
            let message = "another request goes on with this upload";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        taken_over.mark_unchanged();
        Ok(Turn {
            taken_over,
            _guard: guard,
            _slot: slot,
        })
    }

    /// Forgets who writes it if nobody does, or waits to.
    pub(crate) fn tidy(&self, id: &UploadId) {
        self.0.remove_if(id, |_, slot| Arc::strong_count(slot) == 1);
    }
}

fn json(volume: &Volume, id: &UploadId) -> PathBuf {
    volume.uploads().join(format!("{id}.json"))
}

fn part(volume: &Volume, id: &UploadId) -> PathBuf {
    volume.uploads().join(format!("{id}.part"))
}

/// Begins one. Blocks, until its record is durable.
///
/// # Errors
/// `TooMany`, `NoSpace`.
pub(crate) fn create(volume: &Volume, id: &UploadId, record: &Record) -> Result<(), Error> {
    let failed = |error| Error::from_io("the upload cannot be kept", error);
    spool::directory(volume).map_err(failed)?;
    sweep(volume);
    let there = std::fs::read_dir(volume.uploads()).map_err(failed)?;
    if there.count() / 2 >= MOST {
        let message = format!("{MOST} uploads of this workspace are not complete; end some");
        return Err(Error::new(ErrorKind::TooMany, message));
    }
    let made = File::create_new(part(volume, id)).and_then(|_| save(volume, id, record));
    made.map_err(failed)
}

/// Writes its record. Blocks.
pub(crate) fn save(volume: &Volume, id: &UploadId, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec(record)?;
    fleet::durable::write(&json(volume, id), &text)
}

/// How it stands. Blocks.
///
/// # Errors
/// `NotFound`, for a forgotten one too.
pub(crate) fn look(volume: &Volume, id: &UploadId) -> Result<Standing, Error> {
    let absent = || Error::new(ErrorKind::NotFound, "no such upload, or it has expired");
    let text = fleet::durable::read(&json(volume, id)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent(),
        _ => Error::from_io("the upload cannot be read", error),
    })?;
    let record: Record = serde_json::from_slice(&text)
        .map_err(|error| Error::caused(ErrorKind::Internal, "the upload cannot be read", error))?;
    let place = if record.done {
        json(volume, id)
    } else {
        part(volume, id)
    };
    let about = std::fs::metadata(place).map_err(|_| absent())?;
    let touched = about.modified().map(OffsetDateTime::from);
    let expires_at = touched.map_err(|_| absent())? + timing::UPLOAD_LIFE;
    if expires_at < OffsetDateTime::now_utc() {
        return Err(absent());
    }
    let offset = if record.done {
        record.length
    } else {
        about.len()
    };
    Ok(Standing {
        record,
        offset,
        expires_at,
    })
}

/// What came so far, to write on. Blocks.
///
/// # Errors
/// `NoSpace`, `Internal`.
pub(crate) fn open(volume: &Volume, id: &UploadId) -> Result<File, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .open(part(volume, id));
    opened.map_err(|error| Error::from_io("the upload cannot be read", error))
}

/// The file is written: its content goes, the record stays until it expires, for whoever did not
/// hear of it. Blocks.
pub(crate) fn finish(volume: &Volume, id: &UploadId, record: &Record) {
    let done = Record {
        done: true,
        ..record.clone()
    };
    if let Err(error) = save(volume, id, &done) {
        tracing::warn!(%error, "that an upload is complete was not written down");
    }
    if let Err(error) = std::fs::remove_file(part(volume, id)) {
        tracing::warn!(%error, "what an upload was made of stays");
    }
}

/// Ends it. Idempotent. Blocks.
pub(crate) fn remove(volume: &Volume, id: &UploadId) {
    for file in [json(volume, id), part(volume, id)] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an upload stays");
            }
            _ => {}
        }
    }
}

/// SHA-256 of what came, in hexadecimal. Blocks: all of it is read.
///
/// # Errors
/// `Internal`.
pub(crate) fn sum(volume: &Volume, id: &UploadId) -> Result<String, Error> {
    let summed = File::open(part(volume, id)).and_then(|mut file| {
        let mut sum = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => sum.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(data_encoding::HEXLOWER.encode(&sum.finalize()))
    });
    summed.map_err(|error| Error::from_io("the upload cannot be read", error))
}

/// Removes what nobody went on with. Blocks.
pub(crate) fn sweep(volume: &Volume) {
    let Ok(entries) = std::fs::read_dir(volume.uploads()) else {
        return; // There are none.
    };
    for entry in entries.flatten() {
        let old = entry.metadata().and_then(|about| about.modified());
        let now = OffsetDateTime::now_utc();
        let old = old.is_ok_and(|at| OffsetDateTime::from(at) + timing::UPLOAD_LIFE < now);
        // A record is as old as its beginning; it goes when its content has gone.
        let beside = entry.path().with_extension("part");
        if old && (entry.path() == beside || !beside.exists()) {
            // The next sweep tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
