//! The bytes of a layer: decompressed, hashed, and no more of them at a time than is allowed.
//!
//! Must never happen here: memory that grows with what a stranger's header says.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// What zstd may keep: 2 to this power.
const ZSTD_WINDOW: u32 = 27;

/// By what the file starts with: media types are not always true.
///
/// # Errors
/// The decoder's.
pub(super) fn decompressed(file: File, start: &[u8]) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(256 << 10, file);
    if start.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
        decoder.window_log_max(ZSTD_WINDOW)?;
        return Ok(Box::new(decoder));
    }
    if start.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
}

/// Hashes what goes through, and stops when more goes through than is allowed.
pub(super) struct Hashed<R> {
    inner: R,
    digest: Sha256,
    allowed: Rc<Cell<u64>>,
}

impl<R: Read> Hashed<R> {
    /// `allowed` is set anew by who knows what comes next.
    pub(super) fn new(inner: R, allowed: Rc<Cell<u64>>) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
            allowed,
        }
    }

    /// Of all that went through.
    pub(super) fn digest(self) -> String {
        let digest = data_encoding::HEXLOWER.encode(&self.digest.finalize());
        format!("sha256:{digest}")
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digest.update(&buffer[..read]);
        let left = self.allowed.get().checked_sub(read as u64);
        self.allowed.set(left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "headers or padding without end")
        })?);
        Ok(read)
    }
}
