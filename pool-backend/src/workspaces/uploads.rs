//! Large files in parts: a client whose connection broke asks how far it came and goes on, after a
//! restart of the platform too. The parts lie beside the volume; the file appears in it, whole, when
//! the last byte has come.
//!
//! Must never happen here: a byte acknowledged that is not on the disk.

use fleet::id::UploadId;
use futures_util::{StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::path::VolumePath;
use super::{ByteStream, FileInfo, Workspace, WriteOptions};
use crate::error::{Error, ErrorKind};
use crate::spool::blocking;
use crate::uploads::{self, Record, Standing, Turn};
use crate::volume::Volume;

/// Largest file.
const MAX_LENGTH: u64 = 64 << 30;

/// What is going to be sent.
#[derive(Debug, Clone)]
pub struct UploadWish {
    /// As the user wrote it.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// How it is written in the end.
    pub options: WriteOptions,
    /// Of all of it, in hexadecimal; a file that has another one is not written.
    pub sha256: Option<String>,
}

/// How an upload stands.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "plain")]
pub struct Upload {
    pub id: UploadId,
    /// Relative to `/workspace`.
    pub path: String,
    pub length: u64,
    /// Bytes that are kept: where to go on.
    pub offset: u64,
    /// The file is there.
    pub complete: bool,
    /// Forgotten then, if nobody goes on.
    pub expires_at: OffsetDateTime,
}

/// Why a part was not taken, and where to go on.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotAppended {
    /// Why.
    #[source]
    pub error: Error,
    /// Bytes that are kept, where that is known.
    pub offset: Option<u64>,
}

impl From<Error> for NotAppended {
    fn from(error: Error) -> Self {
        Self {
            error,
            offset: None,
        }
    }
}

impl Workspace {
    /// Begins an upload. Nothing is at its path until it is complete.
    ///
    /// # Errors
    /// `Invalid`; `TooLarge`; `NoSpace` when the quota does not reach; `TooMany`.
    pub async fn begin_upload(&self, wish: &UploadWish) -> Result<Upload, Error> {
        let path = VolumePath::parse_below_root(&wish.path)?;
        if wish.length > MAX_LENGTH {
            let message = format!("a file may have at most {MAX_LENGTH} bytes");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let is_sum = |sum: &String| {
            sum.len() == 64
                && sum
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if !wish.sha256.as_ref().is_none_or(is_sum) {
            let message = "sha256 must be 64 hexadecimal digits";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let budget = self.budget().await?;
        budget.reserve(wish.length).await?;
        let record = Record {
            path: path.as_str().to_owned(),
            length: wish.length,
            mode: wish.options.mode,
            exclusive: wish.options.exclusive,
            sha256: wish.sha256.clone(),
            done: false,
        };
        self.handle.touch();
        let (id, volume) = (UploadId::mint(), self.place());
        let made = id.clone();
        blocking(move || uploads::create(&volume, &made, &record)).await?;
        // Of nothing no part will come.
        if wish.length == 0 {
            let appended = self.append(&id, 0, futures_util::stream::empty().boxed());
            return match appended.await {
                Ok(upload) => Ok(upload),
                Err(refused) => {
                    // Nobody will come for it.
                    self.abort_upload(&id).await?;
                    Err(refused.error)
                }
            };
        }
        self.upload(&id).await
    }

    /// How an upload stands.
    ///
    /// # Errors
    /// `NotFound`, for one that has expired too.
    pub async fn upload(&self, id: &UploadId) -> Result<Upload, Error> {
        Ok(told(id, &self.standing(id).await?))
    }

    /// Adds content that begins at `offset`. When it ends early, what came is kept. With the last
    /// byte the file is written; should that fail, the same call without content tries again.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for another offset than is kept, or when another call goes on;
    /// `Invalid` for more than was announced, or for another sum; as [`Workspace::write_file`].
    pub async fn append(
        &self,
        id: &UploadId,
        offset: u64,
        content: ByteStream,
    ) -> Result<Upload, NotAppended> {
        let (this, id) = (self.clone(), id.clone());
        // A task of its own: a caller that goes away must not leave a write that nobody waits for.
        let tasks = self.engine().tasks.clone();
        let appending = tasks.spawn(async move {
            let appended = this.append_in_turn(&id, offset, content).await;
            this.engine().uploads.tidy(&id);
            appended
        });
        appending.await.map_err(|failed| {
            Error::caused(ErrorKind::Internal, "the upload was not taken", failed)
        })?
    }

    async fn append_in_turn(
        &self,
        id: &UploadId,
        offset: u64,
        content: ByteStream,
    ) -> Result<Upload, NotAppended> {
        self.standing(id).await?;
        let mut turn = self.engine().uploads.turn(id).await?;
        let standing = self.standing(id).await?;
        if standing.offset != offset {
            let message = format!("the upload goes on at offset {}", standing.offset);
            return Err(NotAppended {
                error: Error::new(ErrorKind::Conflict, message),
                offset: Some(standing.offset),
            });
        }
        if standing.record.done {
            return Ok(told(id, &standing));
        }
        self.handle.touch();
        let budget = self.budget().await?;
        let taking = self.take(id, &standing, budget.metered(content), &mut turn);
        let taken = budget.settled(taking.await).await;
        let standing = self.standing(id).await?;
        budget.spent(standing.offset.saturating_sub(offset)).await;
        let kept = |error| NotAppended {
            error,
            offset: Some(standing.offset),
        };
        taken.map_err(kept)?;
        if standing.offset == standing.record.length {
            self.complete(id, &standing.record).await.map_err(kept)?;
            return Ok(self.upload(id).await?);
        }
        Ok(told(id, &standing))
    }

    /// Ends an upload, and whoever writes it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn abort_upload(&self, id: &UploadId) -> Result<(), Error> {
        self.standing(id).await?;
        let turn = self.engine().uploads.turn(id).await?;
        let (doomed, volume) = (id.clone(), self.place());
        let removed = blocking(move || {
            uploads::remove(&volume, &doomed);
            drop(turn);
            Ok(())
        });
        removed.await?;
        self.engine().uploads.tidy(id);
        Ok(())
    }

    /// Content onto what is there, and onto the disk.
    async fn take(
        &self,
        id: &UploadId,
        standing: &Standing,
        mut content: ByteStream,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let failed = |error| Error::from_io("the upload cannot be kept", error);
        let (part, volume) = (id.clone(), self.place());
        let file = blocking(move || uploads::open(&volume, &part)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut left = standing.record.length - standing.offset;
        let outcome = loop {
            let next = tokio::select! {
                biased;
                _ = turn.taken_over.changed() => {
                    let message = "another request goes on with this upload";
                    break Err(Error::new(ErrorKind::Conflict, message));
                }
                next = content.try_next() => next,
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => {
                    let message = "the content ended early; what came is kept";
                    break Err(Error::caused(ErrorKind::Invalid, message, error));
                }
            };
            let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                let message = "more came than was announced";
                break Err(Error::new(ErrorKind::Invalid, message));
            };
            left = rest;
            if let Err(error) = file.write_all(&chunk).await {
                break Err(failed(error));
            }
        };
        file.flush().await.map_err(failed)?;
        file.sync_data().await.map_err(failed)?;
        outcome
    }

    /// From beside the volume into it.
    async fn complete(&self, id: &UploadId, record: &Record) -> Result<(), Error> {
        let (part, volume, said) = (id.clone(), self.place(), record.sha256.clone());
        let opened = blocking(move || {
            if let Some(said) = said
                && uploads::sum(&volume, &part)? != said
            {
                uploads::remove(&volume, &part);
                let message = "what came has another SHA-256 than was announced; begin again";
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            let mut file = uploads::open(&volume, &part)?;
            std::io::Seek::rewind(&mut file)
                .map_err(|error| Error::from_io("the upload cannot be read", error))?;
            Ok(file)
        });
        let file = tokio::fs::File::from_std(opened.await?);
        let content = ReaderStream::with_capacity(file, 256 * 1024).boxed();
        let options = WriteOptions {
            mode: record.mode,
            exclusive: record.exclusive,
        };
        let path = VolumePath::parse_below_root(&record.path)?;
        let _: FileInfo = self.write(&path, content, options).await?;
        let (id, volume, record) = (id.clone(), self.place(), record.clone());
        blocking(move || {
            uploads::finish(&volume, &id, &record);
            Ok(())
        })
        .await
    }

    async fn standing(&self, id: &UploadId) -> Result<Standing, Error> {
        let (id, volume) = (id.clone(), self.place());
        blocking(move || uploads::look(&volume, &id)).await
    }

    fn place(&self) -> Volume {
        self.engine().launcher.volume(self.handle.id())
    }
}

fn told(id: &UploadId, standing: &Standing) -> Upload {
    Upload {
        id: id.clone(),
        path: standing.record.path.clone(),
        length: standing.record.length,
        offset: standing.offset,
        complete: standing.record.done,
        expires_at: standing.expires_at,
    }
}
