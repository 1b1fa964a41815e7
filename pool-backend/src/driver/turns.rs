//! Whose turn it is to start, wake or hibernate a container: few at once, and those that somebody
//! waits for before those that fill pools.
//!
//! Must never happen here: a refill that keeps somebody waiting, or one that waits for ever.

use fleet::timing;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind};

/// Starts that somebody waits for, at once; more wait their turn.
pub(crate) const AWAITED: usize = 8;
/// Starts ahead of demand, at once.
pub(crate) const AHEAD: u32 = 2;

/// Checkpoints at once: each writes as much as a container has in memory.
const ASLEEP: usize = 4;

/// Who a start is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits.
    Awaited,
    /// A refill: gives way to the others.
    Ahead,
}

/// See the module.
pub(crate) struct Turns {
    awaited: Semaphore,
    ahead: Semaphore,
    asleep: Semaphore,
    /// Awaited starts, underway or waiting, and claims.
    waiting: watch::Sender<Others>,
}

/// Those who go before refills.
#[derive(Debug, Clone, Copy, Default)]
struct Others {
    count: usize,
    /// When the last of them was done.
    left: Option<Instant>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            awaited: Semaphore::new(AWAITED),
            ahead: Semaphore::new(AHEAD as usize),
            asleep: Semaphore::new(ASLEEP),
            waiting: watch::Sender::default(),
        }
    }

    /// Waits for a place among those who start. Refills let all that somebody waits for go
    /// first, but not for ever.
    pub(crate) async fn take(&self, urgency: Urgency) -> Result<Turn<'_>, Error> {
        let closed = |_| Error::new(ErrorKind::Internal, "shutting down");
        match urgency {
            Urgency::Awaited => {
                let waiting = Waiting::enter(&self.waiting);
                let permit = timeout(timing::WAKE_DEADLINE, self.awaited.acquire())
                    .await
                    .map_err(|_| {
                        Error::new(ErrorKind::NotReady, "too many workspaces start at once")
                    })?
                    .map_err(closed)?;
                Ok(Turn {
                    _permit: permit,
                    _waiting: Some(waiting),
                })
            }
            Urgency::Ahead => {
                let permit = self.ahead.acquire().await.map_err(closed)?;
                self.others().await;
                Ok(Turn {
                    _permit: permit,
                    _waiting: None,
                })
            }
        }
    }
}

impl Turns {
    /// Lets everybody who waits go first, and who comes just after them; not for ever.
    pub(super) async fn others(&self) {
        let mut waiting = self.waiting.subscribe();
        let quiet = async {
            // It does not fail: the sender is ours.
            let none = |others: &Others| others.count == 0;
            while let Ok(left) = waiting.wait_for(none).await.map(|others| others.left) {
                match left.map(|left| left + timing::REFILL_QUIET) {
                    Some(quiet) if quiet > Instant::now() => sleep_until(quiet).await,
                    _ => return,
                }
            }
        };
        // Elapsed: the others had their advantage.
        let _ = timeout(timing::REFILL_YIELD, quiet).await;
    }

    /// Whether the next one who starts would have to wait.
    pub(super) fn are_all_taken(&self) -> bool {
        self.awaited.available_permits() == 0
    }

    /// Somebody waits for something short, until this is dropped: refills let it go first.
    pub(super) fn first(&self) -> Waiting<'_> {
        Waiting::enter(&self.waiting)
    }

    /// Waits for a place among those who are put on disk.
    pub(crate) async fn take_to_sleep(&self) -> Result<Turn<'_>, Error> {
        let permit = timeout(timing::HIBERNATE_PATIENCE, self.asleep.acquire());
        let permit = permit.await.map_err(|_| {
            Error::new(
                ErrorKind::NotReady,
                "too many workspaces are put to sleep at once",
            )
        })?;
        let permit = permit.map_err(|_| Error::new(ErrorKind::Internal, "shutting down"))?;
        Ok(Turn {
            _permit: permit,
            _waiting: None,
        })
    }
}

/// Held while a container starts, or is put on disk.
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _waiting: Option<Waiting<'a>>,
}

/// One awaited start or claim more, until dropped.
pub(crate) struct Waiting<'a>(&'a watch::Sender<Others>);

impl<'a> Waiting<'a> {
    fn enter(others: &'a watch::Sender<Others>) -> Self {
        others.send_modify(|others| others.count += 1);
        Self(others)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|others| {
            others.count = others.count.saturating_sub(1);
            others.left = Some(Instant::now());
        });
    }
}
