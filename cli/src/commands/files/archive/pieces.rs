//! An archive between a connection and the thread that reads or writes files.
//!
//! Must never happen here: more of it held than a piece.

use std::io::{self, Read};

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::PIECE;

/// Pieces of a body, written from a thread.
pub(super) struct Outgoing {
    out: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl Outgoing {
    /// Sends what is written to it.
    pub(super) fn new(out: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            out,
            held: Vec::with_capacity(PIECE),
        }
    }
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
pub(super) struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Incoming {
    /// Ends with its sender.
    pub(super) fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
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
