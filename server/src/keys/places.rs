//! What one key may have at a time.
//!
//! Must never happen here: a wait. Who finds no place is told so.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests; commands that run long count for as long.
const REQUESTS: usize = 128;
/// Sockets.
const SOCKETS: usize = 64;
/// Streams of all its sockets.
const STREAMS: usize = 256;

/// Each is given back when what was handed out is dropped.
pub(crate) struct Places {
    requests: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            sockets: Arc::new(Semaphore::new(SOCKETS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }
}

impl Places {
    /// For a request. `None`: all are taken.
    pub(crate) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }

    /// For a socket. `None`: all are taken.
    pub(crate) fn socket(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sockets).try_acquire_owned().ok()
    }

    /// For a stream. `None`: all are taken.
    pub(crate) fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }
}
