//! Waking: one flight per workspace, however many wait for it. The flight is a task of its own, so
//! it goes on when the visitor who caused it leaves, and it ends by its deadline.
//!
//! Must never happen here: an unbounded wait or an unbounded number of waiters.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use fleet::directory::{Change, Directory, DirectoryError, Route, WakeBegun, WakeCause};
use fleet::id::{Slug, WorkspaceId};
use fleet::lifecycle::State;
use fleet::timing::ROUTE_POLL;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{broadcast, watch};

use crate::config::Limits;

/// Why there is nobody awake to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WakeError {
    /// Not by the deadline.
    TimedOut,
    /// Its last start failed; the text is safe to show.
    Failed(String),
    /// Gone since we looked.
    Absent,
    /// The directory cannot be asked.
    Unavailable,
    /// Too many wait already.
    Busy,
}

type Landing = Option<Result<Route, WakeError>>;

/// One wake on its way.
#[derive(Clone)]
struct Flight {
    landing: watch::Receiver<Landing>,
    waiters: Gauge,
}

/// All wakes on their way.
pub(crate) struct Wakes {
    directory: Arc<dyn Directory>,
    flights: DashMap<WorkspaceId, Flight>,
    waiters: Gauge,
    max_waiters: usize,
    max_waiters_per_workspace: usize,
    longest: Duration,
}

impl Wakes {
    /// Nothing under way. `waiters` is counted up and down.
    pub fn new(directory: Arc<dyn Directory>, limits: &Limits, waiters: Gauge) -> Self {
        Self {
            directory,
            flights: DashMap::new(),
            waiters,
            max_waiters: limits.waiters,
            max_waiters_per_workspace: limits.waiters_per_workspace,
            longest: limits.wake_wait,
        }
    }

    /// Waits until `workspace` runs, beginning its wake if nobody did. Cancel safe: the wake goes
    /// on without the caller.
    pub async fn wake(
        self: &Arc<Self>,
        workspace: &WorkspaceId,
        slug: &Slug,
    ) -> Result<Route, WakeError> {
        let mut flight = self.board(workspace, slug);
        let _in_all = Waiting::enter(&self.waiters, self.max_waiters)?;
        let _here = Waiting::enter(&flight.waiters, self.max_waiters_per_workspace)?;
        let landed = match flight.landing.wait_for(Option::is_some).await {
            Ok(landing) => landing.clone(),
            // The task ended without a word: only when the runtime shuts down.
            Err(_) => None,
        };
        landed.unwrap_or(Err(WakeError::Unavailable))
    }

    /// The flight of `workspace`; started if there is none.
    fn board(self: &Arc<Self>, workspace: &WorkspaceId, slug: &Slug) -> Flight {
        match self.flights.entry(workspace.clone()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (landed, landing) = watch::channel(None);
                let flight = Flight {
                    landing,
                    waiters: Gauge::default(),
                };
                entry.insert(flight.clone());
                let pilot = Pilot {
                    wakes: Arc::clone(self),
                    workspace: workspace.clone(),
                    slug: slug.clone(),
                };
                tokio::spawn(async move {
                    let result = pilot.fly().await;
                    // First off the board, so that who comes now starts a new flight.
                    drop(pilot);
                    landed.send_replace(Some(result));
                });
                flight
            }
        }
    }
}

/// Counts a waiter while it waits.
struct Waiting(Gauge);

impl Waiting {
    fn enter(count: &Gauge, max: usize) -> Result<Self, WakeError> {
        let before = count.inc();
        let waiting = Self(count.clone());
        match usize::try_from(before).is_ok_and(|before| before < max) {
            true => Ok(waiting),
            false => Err(WakeError::Busy),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Carries one wake through; the flight is off the board when it is dropped, whatever happened.
struct Pilot {
    wakes: Arc<Wakes>,
    workspace: WorkspaceId,
    slug: Slug,
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.wakes.flights.remove(&self.workspace);
    }
}

impl Pilot {
    async fn fly(&self) -> Result<Route, WakeError> {
        match tokio::time::timeout(self.wakes.longest, self.until_awake()).await {
            Ok(result) => result,
            Err(_) => Err(WakeError::TimedOut),
        }
    }

    async fn until_awake(&self) -> Result<Route, WakeError> {
        let directory = &self.wakes.directory;
        loop {
            // Before the question, so that no change falls between.
            let mut changes = directory.changes();
            match directory
                .begin_wake(&self.workspace, WakeCause::Preview)
                .await
            {
                Ok(WakeBegun::Ready(route)) => return Ok(route),
                Ok(WakeBegun::Underway(_)) => {}
                Ok(WakeBegun::Failed(why)) => return Err(WakeError::Failed(why)),
                Err(DirectoryError::Absent) => return Err(WakeError::Absent),
                Err(
                    DirectoryError::Unavailable(_)
                    | DirectoryError::Taken(_)
                    | DirectoryError::Superseded { .. },
                ) => {
                    tokio::time::sleep(ROUTE_POLL).await;
                    continue;
                }
            }
            if let Some(route) = self.until_moved(&mut changes).await? {
                return Ok(route);
            }
            // It fell back (the start failed, or it went to sleep again): ask once more. The
            // directory's back-off decides whether it is tried again.
        }
    }

    /// Waits until the workspace left Starting or Waking. `None`: not towards running.
    async fn until_moved(
        &self,
        changes: &mut broadcast::Receiver<Change>,
    ) -> Result<Option<Route>, WakeError> {
        loop {
            let told = tokio::time::timeout(ROUTE_POLL, self.next_change(changes)).await;
            let route = match told {
                Ok(Some(change)) => change.route,
                // Nothing heard: look. A lost message delays by one poll, no more.
                Ok(None) | Err(_) => match self.wakes.directory.route(&self.slug).await {
                    Ok(route) => route,
                    Err(_) => continue,
                },
            };
            let Some(route) = route else {
                return Err(WakeError::Absent);
            };
            match route.state {
                State::Running => return Ok(Some(route)),
                State::Starting | State::Waking => {}
                State::Freezing | State::Frozen | State::Hibernating => {}
                State::Stopped | State::Hibernated | State::Failed => return Ok(None),
                State::Deleted => return Err(WakeError::Absent),
            }
        }
    }

    /// The next change of this workspace; `None` when changes were missed or none will come.
    async fn next_change(&self, changes: &mut broadcast::Receiver<Change>) -> Option<Change> {
        loop {
            match changes.recv().await {
                Ok(change) if change.slug == self.slug => return Some(change),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return None,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
