//! Who watches the files of a workspace: one connection to its init, however many watch.
//!
//! A watch does not use the workspace. Init is listened to while it runs and nobody puts it to
//! sleep; before its container stands still the connection ends, so that no checkpoint meets it.
//! What happened since is found on the volume when it runs again, as far as that can be told:
//!
//! ```text
//!  attached ── freeze, stop, death ─▶ mark taken (nothing changes while nobody runs)
//!     ▲                                  │ runs again
//!     └── volume compared with the mark ◀┘   changed: told, and Overflow::Asleep where names went
//! ```
//!
//! Must never happen here: a change that was neither told nor said to be lost, a queue without a
//! bound, or a wait of the driver's for who reads slowly.

mod listener;
mod queue;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use fleet::id::Generation;
use fleet::timing;
use parking_lot::Mutex;
use rand::Rng as _;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::driver::Handle;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use queue::Queue;
pub use queue::{Filter, Watch};

/// Who may watch one workspace.
const MAX_WATCHERS: usize = 64;
/// Events that are remembered for who comes back.
const REMEMBERED: usize = 1024;

/// Something that a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one with each event of the workspace; see [`Position`].
    pub number: u64,
    /// When the node heard of it.
    pub at: OffsetDateTime,
    /// What it is.
    pub what: What,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file or directory is not as it was.
    Changed(init_protocol::Change),
    /// Others were not seen: look at everything again.
    Overflow(Overflow),
}

/// Why not everything was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// More changed at once than is queued.
    Burst,
    /// There are more directories than are watched.
    Directories,
    /// While nobody listened something was removed or renamed.
    Asleep,
    /// Who watches reads more slowly than things change.
    SlowReader,
    /// The place at which a reader wants to go on is not remembered any more.
    Forgotten,
}

/// Where a reader stands: numbers count within one epoch only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct Position {
    pub epoch: u64,
    pub number: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Somebody left.
    left: Notify,
    phase: watch::Sender<Phase>,
    /// Whose container's changes are told as they happen.
    live: watch::Sender<Option<Generation>>,
}

#[derive(Default)]
struct Inner {
    running: bool,
    epoch: u64,
    last: u64,
    remembered: VecDeque<Event>,
    queues: Vec<Weak<Queue>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Beginning,
    /// Everything that happens from now on will be told.
    Ready,
    /// It never will be.
    Broken(&'static str),
}

impl Hub {
    /// Begins a watch; returns as soon as every change is told, after `timing::WATCH_READY` at
    /// the latest. With `after` it begins with what came then, or says that it cannot.
    ///
    /// # Errors
    /// `TooMany`; `Conflict` when its init does not know how.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        handle: &Arc<Handle>,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Watch, Error> {
        let watch = self.join(engine, handle, filter, after)?;
        let mut phase = self.phase.subscribe();
        let begun = phase.wait_for(|phase| *phase != Phase::Beginning);
        match timeout(timing::WATCH_READY, begun).await {
            Ok(Ok(phase)) => match *phase {
                Phase::Broken(why) => Err(Error::new(ErrorKind::Conflict, why)),
                _ => Ok(watch),
            },
            // What happens until it is ready is found by comparing.
            Ok(Err(_)) | Err(_) => Ok(watch),
        }
    }

    fn join(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        handle: &Arc<Handle>,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Watch, Error> {
        let mut inner = self.inner.lock();
        inner.queues.retain(|queue| queue.strong_count() > 0);
        if inner.queues.len() >= MAX_WATCHERS {
            let message = "too many watch this workspace already";
            return Err(Error::new(ErrorKind::TooMany, message));
        }
        let begin = !std::mem::replace(&mut inner.running, true);
        if begin {
            // Numbers of an earlier run mean nothing now.
            inner.epoch = rand::rng().random();
            inner.last = 0;
            inner.remembered.clear();
            self.phase.send_replace(Phase::Beginning);
            self.live.send_replace(None);
        }
        let queue = Queue::new(filter);
        if let Some(after) = after {
            inner.catch_up(&queue, after);
        }
        inner.queues.push(Arc::downgrade(&queue));
        let begins = Position {
            epoch: inner.epoch,
            number: after.map_or(inner.last, |after| after.number.min(inner.last)),
        };
        drop(inner);
        if begin {
            listener::spawn(self, engine, handle);
        }
        Ok(Watch::new(queue, begins, Arc::clone(self)))
    }

    /// For a change that is about to be made in this container: returns when it will be told as it
    /// happens, with who made it, if anybody watches; after `timing::WATCH_CATCH_UP` at the latest.
    pub(crate) async fn caught_up(&self, generation: Generation) {
        if !self.inner.lock().running {
            return;
        }
        let mut live = self.live.subscribe();
        let told = live.wait_for(|live| *live == Some(generation));
        let _late = timeout(timing::WATCH_CATCH_UP, told).await;
    }

    /// Nothing can be watched any more.
    fn end(&self) {
        let mut inner = self.inner.lock();
        inner.running = false;
        for queue in inner.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.close();
        }
    }

    /// Ends the run if nobody watches; under one lock with those who come.
    fn end_if_alone(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.queues.retain(|queue| queue.strong_count() > 0);
        inner.running = !inner.queues.is_empty();
        !inner.running
    }

    /// Returns when nobody has watched for `timing::WATCH_LINGER`. Cancel safe.
    async fn deserted(&self) {
        loop {
            if self.is_alone() {
                sleep(timing::WATCH_LINGER).await;
                if self.is_alone() {
                    return;
                }
            }
            self.left.notified().await;
        }
    }

    fn is_alone(&self) -> bool {
        let inner = self.inner.lock();
        inner.queues.iter().all(|queue| queue.strong_count() == 0)
    }

    /// A reader leaves.
    fn leaves(&self) {
        self.left.notify_one();
    }

    fn tell(&self, what: What) {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let event = Event {
            number: inner.last,
            at: OffsetDateTime::now_utc(),
            what,
        };
        for queue in inner.queues.iter().filter_map(Weak::upgrade) {
            queue.push(&event);
        }
        if inner.remembered.len() == REMEMBERED {
            inner.remembered.pop_front();
        }
        inner.remembered.push_back(event);
    }
}

impl Inner {
    fn catch_up(&self, queue: &Queue, after: Position) {
        let first = self.remembered.front().map_or(1, |event| event.number);
        let known = first.saturating_sub(1)..=self.last;
        if after.epoch == self.epoch && known.contains(&after.number) {
            let events = self.remembered.iter();
            for event in events.filter(|event| event.number > after.number) {
                queue.push(event);
            }
        } else {
            queue.push(&Event {
                number: self.last,
                at: OffsetDateTime::now_utc(),
                what: What::Overflow(Overflow::Forgotten),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(queue: &Queue) -> Vec<(u64, bool)> {
        let read = std::iter::from_fn(|| queue.pop().ok().flatten());
        let forgotten = What::Overflow(Overflow::Forgotten);
        read.map(|event| (event.number, event.what == forgotten))
            .collect()
    }

    #[test]
    fn who_comes_back_gets_what_is_remembered_or_hears_that_it_is_not() {
        let hub = Hub::default();
        hub.inner.lock().epoch = 7;
        let back = |epoch, number| {
            let queue = Queue::new(Box::new(|_| true));
            let after = Position { epoch, number };
            hub.inner.lock().catch_up(&queue, after);
            told(&queue)
        };
        assert_eq!(back(7, 0), []);
        for _ in 0..3 {
            hub.tell(What::Overflow(Overflow::Burst));
        }
        assert_eq!(back(7, 1), [(2, false), (3, false)]);
        assert_eq!(back(7, 3), []);
        assert_eq!(back(7, 4), [(3, true)]);
        assert_eq!(back(8, 1), [(3, true)]);
        for _ in 0..REMEMBERED {
            hub.tell(What::Overflow(Overflow::Burst));
        }
        assert_eq!(back(7, 2), [(3 + REMEMBERED as u64, true)]);
        assert_eq!(back(7, 3).len(), REMEMBERED);
    }
}
