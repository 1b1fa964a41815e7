//! Files of a workspace. Reads come from its volume and wake nobody; changes go through its init,
//! so that watchers inside (gVisor sees no changes from outside) and outside hear of them.
//!
//! Must never happen here: a change of the volume from the outside.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleet::directory::WakeCause;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use time::OffsetDateTime;

use super::path::VolumePath;
use super::{ByteStream, FileInfo, FileKind, Workspace, WriteOptions};
use super::{Filter, Position, Watch};
use crate::error::{Error, ErrorKind};
use crate::volume_files::OpenFile;

// `path` as the user wrote it: `a`, `/a`, `./a` and `/workspace/a` are one.
impl Workspace {
    /// What stands at `path`, a symlink itself included.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a path that leads out.
    pub async fn stat(&self, path: &str) -> Result<FileInfo, Error> {
        let path = VolumePath::parse(path)?;
        self.engine().files.stat(&self.volume(), &path).await
    }

    /// The entries of a directory, by path, or the one entry that `path` names. `hidden` adds
    /// names that begin with a dot; the package directory at the root is never among them.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a path that leads out; `TooLarge` beyond 100 000 entries.
    pub async fn list_files(
        &self,
        path: &str,
        recursive: bool,
        hidden: bool,
    ) -> Result<Vec<FileInfo>, Error> {
        self.handle.touch();
        self.peek_files(path, recursive, hidden).await
    }

    /// [`Workspace::list_files`] for a look that is no use of the workspace.
    ///
    /// # Errors
    /// As there.
    pub async fn peek_files(
        &self,
        path: &str,
        recursive: bool,
        hidden: bool,
    ) -> Result<Vec<FileInfo>, Error> {
        let path = VolumePath::parse(path)?;
        let files = &self.engine().files;
        files.list(&self.volume(), &path, recursive, hidden).await
    }

    /// A file's content, as long as `FileInfo::size` says or an error in the stream.
    ///
    /// # Errors
    /// `NotFound`; `WrongFileType` for what is not a regular file; `Invalid`.
    pub async fn read_file(&self, path: &str) -> Result<(FileInfo, ByteStream), Error> {
        let file = self.open_file(path).await?;
        let content = file.bytes();
        Ok((file.info, content))
    }

    /// A file, to be read from anywhere in it.
    ///
    /// # Errors
    /// As [`Workspace::read_file`].
    pub async fn open_file(&self, path: &str) -> Result<OpenFile, Error> {
        let path = VolumePath::parse_below_root(path)?;
        self.handle.touch();
        self.engine().files.open(&self.volume(), &path).await
    }

    /// [`Workspace::read_file`] for a look that is no use of the workspace.
    ///
    /// # Errors
    /// As there.
    pub async fn peek_file(&self, path: &str) -> Result<(FileInfo, ByteStream), Error> {
        let path = VolumePath::parse_below_root(path)?;
        let file = self.engine().files.open(&self.volume(), &path).await?;
        let content = file.bytes();
        Ok((file.info, content))
    }

    /// Writes a file in one step as others see it, parent directories included. A content stream
    /// that fails leaves what was there.
    ///
    /// # Errors
    /// `Conflict` when something is there and `exclusive`; `WrongFileType`; `NoSpace`; `Invalid`;
    /// `NotReady`.
    pub async fn write_file(
        &self,
        path: &str,
        content: ByteStream,
        options: WriteOptions,
    ) -> Result<FileInfo, Error> {
        let path = VolumePath::parse_below_root(path)?;
        let budget = self.budget().await?;
        let written = self.write(&path, budget.metered(content), options).await;
        let info = budget.settled(written).await?;
        budget.spent(info.size).await;
        Ok(info)
    }

    /// [`Workspace::write_file`] of content that was counted already.
    pub(super) async fn write(
        &self,
        path: &VolumePath,
        content: ByteStream,
        options: WriteOptions,
    ) -> Result<FileInfo, Error> {
        // The stream is taken by the first call that gets as far as to read it.
        let content = Content::new(content);
        let writing = self.calling_for(WakeCause::Write, |init| {
            let write = init_protocol::Write {
                path: path.as_str().to_owned(),
                mode: options.mode.map(|mode| mode & 0o7777),
                parents: true,
                exclusive: options.exclusive,
            };
            let content = content.reader();
            async move { init.write(write, content).await }
        });
        let write_id = Some(writing.await?);
        let (files, volume) = (&self.engine().files, self.volume());
        let there = match files.stat(&volume, path).await {
            // What was written is what it leads to, as far as that can be seen from here.
            Ok(link) if link.kind == FileKind::Symlink => {
                let opened = files.open(&volume, path).await;
                Ok(opened.map_or(link, |file| file.info))
            }
            there => there,
        };
        match there {
            // The app inside took it away already, which is no failure of the write.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(FileInfo {
                path: path.as_str().to_owned(),
                kind: FileKind::File,
                size: content.size(),
                mode: options.mode.map_or(0o644, |mode| mode & 0o777),
                created_at: OffsetDateTime::now_utc(),
                modified_at: OffsetDateTime::now_utc(),
                write_id,
            }),
            there => there.map(|info| FileInfo { write_id, ..info }),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `Conflict` when something is there, unless it is a directory and `parents`; `NotFound`
    /// without a parent directory; `Invalid`; `NoSpace`; `NotReady`.
    pub async fn make_directory(
        &self,
        path: &str,
        parents: bool,
        mode: Option<u32>,
    ) -> Result<FileInfo, Error> {
        let path = VolumePath::parse_below_root(path)?;
        self.budget().await?;
        let mode = mode.map(|mode| mode & 0o7777);
        let making = self.calling_for(WakeCause::Write, |init| {
            let path = path.as_str().to_owned();
            async move { init.mkdir(&path, parents, mode).await }
        });
        let write_id = Some(making.await?);
        let there = self.engine().files.stat(&self.volume(), &path).await;
        there.map(|info| FileInfo { write_id, ..info })
    }

    /// Removes a file, or a directory with all in it; of a symlink the link.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for the root; `NotReady`.
    pub async fn remove_file(&self, path: &str) -> Result<(), Error> {
        let path = VolumePath::parse_below_root(path)?;
        // Nothing there: nobody needs to be woken to find that out.
        self.engine().files.stat(&self.volume(), &path).await?;
        self.calling_for(WakeCause::Write, |init| {
            let path = path.as_str().to_owned();
            async move { init.remove(&path).await }
        })
        .await
    }

    /// Tells of changes of its files that `filter` lets through. It wakes nobody and keeps nobody
    /// awake, and goes on when the workspace has slept. `after`: what came since then is told
    /// first, if that is still known. Returns once every change from now on is told.
    ///
    /// # Errors
    /// `TooMany`; `Conflict` for a container that was started by an earlier version.
    pub async fn watch(&self, filter: Filter, after: Option<Position>) -> Result<Watch, Error> {
        let hub = &self.handle.hub;
        hub.watch(self.node.engine(), &self.handle, filter, after)
            .await
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.engine().launcher.volume(self.handle.id()).data()
    }
}

/// Content that can be read once, by whichever attempt comes to read it.
struct Content {
    source: Arc<Mutex<Option<ByteStream>>>,
    read: Arc<AtomicU64>,
}

impl Content {
    fn new(content: ByteStream) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&read);
        let counted = content.inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            count.fetch_add(bytes, Ordering::Relaxed);
        });
        Self {
            source: Arc::new(Mutex::new(Some(counted.boxed()))),
            read,
        }
    }

    /// Bytes that were read of it so far.
    fn size(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Takes the content when it is first polled, not before.
    fn reader(&self) -> ByteStream {
        let source = Arc::clone(&self.source);
        stream::once(async move { source.lock().take() })
            .flat_map(|taken| {
                taken.unwrap_or_else(|| {
                    let gone = std::io::Error::other("the content was sent already");
                    stream::once(std::future::ready(Err(gone))).boxed()
                })
            })
            .boxed()
    }
}
