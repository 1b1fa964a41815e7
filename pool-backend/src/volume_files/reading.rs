//! A file of a volume on its way out: opened once, read from anywhere in it.
//!
//! Must never happen here: a permit held while nobody reads.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::VolumeFiles;
use crate::error::{Error, ErrorKind};
use crate::workspaces::{ByteStream, FileInfo};

/// Bytes read at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// A file as it was when it was opened: who replaces it meanwhile changes nothing here, who writes
/// into it does.
pub struct OpenFile {
    /// What it is.
    pub info: FileInfo,
    /// Another one as soon as its content or its place was changed, by the kernel's word: nobody
    /// inside can set it back. Letters, digits and dashes.
    pub version: String,
    pub(super) files: VolumeFiles,
    pub(super) file: Arc<File>,
}

impl OpenFile {
    /// All of it: as long as `info.size` says, or an error in the stream.
    pub fn bytes(&self) -> ByteStream {
        self.range(0..self.info.size)
    }

    /// Some of it: the whole range, or an error in the stream.
    pub fn range(&self, range: Range<u64>) -> ByteStream {
        let reading = Reading {
            files: self.files.clone(),
            file: Arc::clone(&self.file),
            offset: range.start,
            end: range.end.min(self.info.size),
        };
        stream::try_unfold(reading, Reading::next).boxed()
    }
}

/// A permit is held per chunk, not per reader: slow readers block nobody.
struct Reading {
    files: VolumeFiles,
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Reading {
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let chunk = self
            .files
            .blocking(move || {
                let mut buffer = vec![0; length];
                let read = file.read_at(&mut buffer, offset).map_err(|error| {
                    Error::caused(ErrorKind::Internal, "the file cannot be read", error)
                })?;
                buffer.truncate(read);
                Ok(Bytes::from(buffer))
            })
            .await
            .map_err(std::io::Error::other)?;
        if chunk.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.offset += chunk.len() as u64;
        Ok(Some((chunk, self)))
    }
}
