//! What an owner may still write while it is being written: content is counted as it comes, and
//! ends with an error where the disk quota does. What was deleted meanwhile counts.
//!
//! Must never happen here: a refusal on a measurement that may be old.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fleet::id::OwnerId;
use futures_util::{StreamExt as _, stream};

use super::{ByteStream, Workspace};
use crate::engine::Engine;
use crate::error::Error;

/// See the module. Cheap to clone; clones count together.
#[derive(Clone)]
pub(crate) struct Budget {
    engine: Arc<Engine>,
    owner: OwnerId,
    state: Arc<State>,
}

struct State {
    /// Bytes that may be written in all, as far as known; none: nobody counts.
    allowed: Option<AtomicU64>,
    written: AtomicU64,
    /// A stream was ended because of it.
    used_up: AtomicBool,
}

impl Workspace {
    /// What its owner may write from now on.
    ///
    /// # Errors
    /// `NoSpace` when that is nothing.
    pub(super) async fn budget(&self) -> Result<Budget, Error> {
        let engine = Arc::clone(self.node.engine());
        let owner = self.handle.identity().owner.clone();
        let left = engine.left_to_write(&owner, false).await?;
        Ok(Budget {
            engine,
            owner,
            state: Arc::new(State {
                allowed: left.map(AtomicU64::new),
                written: AtomicU64::new(0),
                used_up: AtomicBool::new(false),
            }),
        })
    }
}

impl Budget {
    /// The same content, ended by an error where the quota ends.
    pub(crate) fn metered(&self, content: ByteStream) -> ByteStream {
        let start = (content, self.clone());
        let metered = stream::unfold(start, |(mut content, budget)| async move {
            let piece = match content.next().await? {
                Ok(bytes) => budget.take(bytes.len() as u64).await.map(|()| bytes),
                Err(error) => Err(error),
            };
            Some((piece, (content, budget)))
        });
        metered.boxed()
    }

    /// Whether that many more bytes may be written, all at once; counts them.
    async fn take(&self, bytes: u64) -> io::Result<()> {
        let state = &self.state;
        let written = state.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(allowed) = &state.allowed else {
            return Ok(());
        };
        if written <= allowed.load(Ordering::Relaxed) {
            return Ok(());
        }
        // What is being written lies in a volume, and is measured with the rest.
        let left = self.engine.left_to_write(&self.owner, true).await;
        let left = left.ok().flatten().unwrap_or_default();
        if bytes <= left {
            allowed.store((written - bytes).saturating_add(left), Ordering::Relaxed);
            return Ok(());
        }
        state.used_up.store(true, Ordering::Relaxed);
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    /// What to say of an error: that the quota is used up, if it was that. What was measured
    /// meanwhile had the content in it that was refused, and is forgotten.
    pub(crate) async fn settled<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_ok() || !self.state.used_up.load(Ordering::Relaxed) {
            return outcome;
        }
        self.engine.measure_again(&self.owner).await;
        Err(self.engine.disk_is_used_up(&self.owner))
    }

    /// [`Budget::take`] of what is going to be written in one piece.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<(), Error> {
        let taken = self.take(bytes).await;
        let taken = taken.map_err(|error| Error::from_io("the disk quota is used up", error));
        self.settled(taken).await
    }

    /// It is written: counts until the disk is measured again.
    pub(crate) async fn spent(&self, bytes: u64) {
        self.engine.wrote(&self.owner, bytes).await;
    }
}
