//! Archives of a workspace's files: down from its volume, which wakes nobody; up through its init,
//! all entries over one connection.
//!
//! Must never happen here: a change of the volume before the archive was read to its end.

use std::sync::Arc;

use fleet::directory::WakeCause;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;

use super::path::VolumePath;
use super::{ByteStream, Workspace};
use crate::archive::{Archive, Format, LIMITS, Plan, What, changes, outgoing};
use crate::error::{Error, ErrorKind};
use crate::spool;
use crate::volume_files::obstacles::Wanted;

/// What an archive became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Files written.
    pub files: u64,
    /// Directories that the archive names.
    pub directories: u64,
    /// Links made.
    pub links: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Why an archive was not unpacked, and how far it was.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotUnpacked {
    /// Why.
    #[source]
    pub error: Error,
    /// Entries that are written all the same: of an archive that was refused as it is 0, none where
    /// that is not known.
    pub written: Option<u64>,
    /// Of so many.
    pub entries: u64,
    /// Path of the one that could not be written, where that is known.
    pub at: Option<String>,
}

impl From<Error> for NotUnpacked {
    fn from(error: Error) -> Self {
        Self {
            error,
            written: Some(0),
            entries: 0,
            at: None,
        }
    }
}

/// An archive of a directory, or of one file.
pub struct Packed {
    /// Its bytes, made as they are read.
    pub content: ByteStream,
    /// Links that lead out of the directory, sockets, FIFOs and devices: not in it.
    pub left_out: u64,
}

impl Workspace {
    /// What is at `path` as an archive; names in it are relative to `path`. Hidden names are in it,
    /// the package directory at the workspace's root is not.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`; `TooLarge` beyond 100 000 entries or 64 directories deep.
    pub async fn pack(&self, path: &str, format: Format) -> Result<Packed, Error> {
        let path = VolumePath::parse(path)?;
        self.handle.touch();
        let files = &self.engine().files;
        let tree = files.tree(&self.volume(), &path).await?;
        let taken = tree
            .entries
            .iter()
            .filter(|entry| outgoing::is_taken(entry));
        let left_out = (tree.entries.len() - taken.count()) as u64;
        Ok(Packed {
            content: outgoing::packed(files.clone(), tree, format),
            left_out,
        })
    }

    /// Writes all that is in an archive (tar, tar.gz or zip: its first bytes say which) below
    /// `path`. It is read to its end first: one that is refused changes nothing. Files replace what
    /// is there, unless `exclusive`; each appears whole. Should a write fail later, the entries
    /// before it stay.
    ///
    /// # Errors
    /// `Invalid` for an archive that is damaged or has what is not taken; `TooLarge`; `NoSpace`;
    /// `Conflict` and `WrongFileType` for what is in its way; `NotReady`.
    pub async fn unpack(
        &self,
        path: &str,
        content: ByteStream,
        exclusive: bool,
    ) -> Result<Unpacked, NotUnpacked> {
        let base = VolumePath::parse(path)?;
        let budget = self.budget().await?;
        let archives = Arc::clone(&self.engine().archives);
        let turn = archives
            .acquire_owned()
            .await
            .map_err(|closed| Error::caused(ErrorKind::Internal, "shutting down", closed))?;
        let file = self.spooled(budget.metered(content)).await;
        let file = budget.settled(file).await?;
        let planned = spool::blocking(move || {
            let archive = Archive::new(file)?;
            let plan = archive.plan(base, LIMITS)?;
            Ok((archive, plan))
        });
        let (archive, plan) = planned.await?;
        let (archive, plan) = (Arc::new(archive), Arc::new(plan));
        budget.reserve(plan.bytes).await?;
        self.check_obstacles(&plan, exclusive).await?;
        self.write_planned(&archive, &plan, exclusive).await?;
        budget.spent(plan.bytes).await;
        drop(turn);
        Ok(Unpacked {
            files: plan.files,
            directories: plan.directories,
            links: plan.links,
            bytes: plan.bytes,
        })
    }

    /// Content in a file that has no name and goes with whoever holds it.
    async fn spooled(&self, mut content: ByteStream) -> Result<std::fs::File, Error> {
        let volume = self.engine().launcher.volume(self.handle.id());
        let file = spool::blocking(move || spool::nameless(&volume)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut size = 0;
        loop {
            let next = content.try_next().await;
            let chunk = next.map_err(|error| {
                Error::caused(ErrorKind::Invalid, "the content ended early", error)
            })?;
            let Some(chunk) = chunk else { break };
            size += chunk.len() as u64;
            if size > LIMITS.packed {
                let message = format!("an archive may have at most {} bytes", LIMITS.packed);
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            let written = file.write_all(&chunk).await;
            written.map_err(|error| Error::from_io("the archive cannot be kept", error))?;
        }
        let flushed = file.flush().await;
        flushed.map_err(|error| Error::from_io("the archive cannot be kept", error))?;
        Ok(file.into_std().await)
    }

    async fn check_obstacles(&self, plan: &Arc<Plan>, exclusive: bool) -> Result<(), Error> {
        let plan = Arc::clone(plan);
        let volume = self.volume();
        let files = self.engine().files.clone();
        let checking = files.blocking(move || {
            let wanted = plan.order().map(|entry| Wanted {
                path: &entry.path,
                directory: matches!(entry.what, What::Directory { .. }),
            });
            crate::volume_files::obstacles::check(&volume, wanted, exclusive)
        });
        checking.await
    }

    async fn write_planned(
        &self,
        archive: &Arc<Archive>,
        plan: &Arc<Plan>,
        exclusive: bool,
    ) -> Result<(), NotUnpacked> {
        // What an attempt was told that did not come to its end.
        let last = Mutex::new(None);
        let called = self.calling_for(WakeCause::Write, |init| {
            let changes = changes(Arc::clone(archive), Arc::clone(plan), exclusive);
            let last = &last;
            async move {
                let batched = init.batch(changes).await?;
                *last.lock() = Some(batched);
                Ok(())
            }
        });
        let entries = plan.files + plan.directories + plan.links;
        if let Err(error) = called.await {
            // What an init says that does not know the call.
            if error.message == "malformed message" {
                let message = "this workspace was started by an older version; restart it first";
                return Err(Error::caused(ErrorKind::Conflict, message, error).into());
            }
            let message = format!("{}; some of the archive may be written", error.message);
            return Err(NotUnpacked {
                error: Error { message, ..error },
                written: None,
                entries,
                at: None,
            });
        }
        let Some((done, refused)) = last
            .into_inner()
            .map(|batched| (batched.done, batched.refused))
        else {
            return Ok(());
        };
        let Some(refused) = refused else {
            return Ok(());
        };
        let error = Error::from(refused);
        let at = usize::try_from(done).ok();
        let at = at.and_then(|done| plan.order().nth(done));
        let at = at.map(|entry| entry.path.clone());
        let what = at.as_deref().unwrap_or("an entry");
        let message = format!(
            "{what}: {}; {done} of {entries} entries are written",
            error.message
        );
        Err(NotUnpacked {
            error: Error { message, ..error },
            written: Some(done),
            entries,
            at,
        })
    }
}
