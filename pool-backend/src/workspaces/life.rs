//! A workspace's life as its owner steers it: sleep, wake, and when it does so by itself.
//!
//! Must never happen here: a decision when it idles out. That is `idle`'s.

use std::time::Duration;

use fleet::directory::WakeCause;
use fleet::lifecycle::State;
use fleet::record::LifecycleSettings;
use fleet::timing;
use tokio::time::Instant;

use super::{Lifecycle, SnapshotGlance, Summary, Workspace};
use crate::driver::{self, Order};
use crate::error::{Error, ErrorKind};
use crate::idle;

/// Longest extension of an idle timeout.
pub const MAX_EXTENSION: Duration = Duration::from_secs(480 * 60);

impl Workspace {
    /// Puts its processes on disk. Waits a little for requests that are being answered.
    ///
    /// # Errors
    /// `Conflict` when somebody uses it, or it does not run; `NotReady`, `NoSpace` when the
    /// checkpoint failed. It runs on then.
    pub async fn hibernate(&self) -> Result<Summary, Error> {
        self.when_nobody_is_inside(Order::Hibernate).await
    }

    /// Stops its processes where they are, in memory. The next use undoes it unnoticed.
    ///
    /// # Errors
    /// As [`Workspace::hibernate`].
    pub async fn freeze(&self) -> Result<Summary, Error> {
        self.when_nobody_is_inside(Order::Freeze).await
    }

    async fn when_nobody_is_inside(
        &self,
        order: impl Fn(driver::Done) -> Order,
    ) -> Result<Summary, Error> {
        let patience = Instant::now() + timing::HIBERNATE_PATIENCE;
        loop {
            match self.handle.order(&order).await {
                Ok(()) => return Ok(self.summary()),
                Err(error) if error.kind == ErrorKind::Conflict && self.runs() => {
                    if Instant::now() >= patience {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(timing::HIBERNATE_POLL).await;
        }
    }

    fn runs(&self) -> bool {
        self.handle.status().state == State::Running
    }

    /// Starts, wakes or thaws it, also where other calls may not, and waits until it runs.
    ///
    /// # Errors
    /// `NotReady` when it does not start in time; `NotFound` when it was deleted meanwhile.
    pub async fn wake(&self) -> Result<Summary, Error> {
        self.wake_for(WakeCause::Lifecycle).await
    }

    pub(super) async fn wake_for(&self, cause: WakeCause) -> Result<Summary, Error> {
        self.handle.touch();
        driver::ensure_running(self.engine(), &self.handle, cause).await?;
        Ok(self.summary())
    }

    /// Lives by these settings from now on.
    ///
    /// # Errors
    /// `NoSpace`, `Internal` when they could not be recorded: the old ones stay.
    pub async fn configure_lifecycle(&self, settings: LifecycleSettings) -> Result<(), Error> {
        self.handle
            .order(|done| Order::Configure(settings, done))
            .await
    }

    /// Whether it never idles out.
    ///
    /// # Errors
    /// As [`Workspace::configure_lifecycle`].
    pub async fn set_keep_alive(&self, keep_alive: bool) -> Result<(), Error> {
        let settings = LifecycleSettings {
            keep_alive,
            ..self.lifecycle_settings()
        };
        self.configure_lifecycle(settings).await
    }

    /// What it lives by.
    pub fn lifecycle_settings(&self) -> LifecycleSettings {
        self.handle.settings().as_ref().clone()
    }

    /// Somebody uses it, though no request comes. A frozen one is thawed, a sleeping one sleeps on.
    pub fn heartbeat(&self) {
        let interval = self.handle.settings().heartbeat_interval_seconds;
        let activity = &self.handle.activity;
        activity.heartbeat(Duration::from_secs(interval.into()));
        if let Some(gate) = self.handle.gate() {
            gate.knock();
        }
    }

    /// It idles out this much later than it would have, also if its node restarts. Returns how much
    /// was added.
    ///
    /// # Errors
    /// As [`Workspace::configure_lifecycle`]; then it may be forgotten.
    pub async fn extend_timeout(&self, more: Duration) -> Result<Duration, Error> {
        let timeout = idle::timeout(&self.handle.settings());
        let added = self.handle.activity.extend(timeout, more, MAX_EXTENSION);
        self.handle.order(Order::Remember).await?;
        Ok(added)
    }

    /// What it would be woken from; none while it is not hibernated.
    pub async fn snapshot(&self) -> Option<SnapshotGlance> {
        if self.handle.state() != State::Hibernated {
            return None;
        }
        let snapshots = &self.engine().launcher.snapshots;
        let manifest = snapshots.glance(self.handle.id()).await?;
        Some(SnapshotGlance {
            generation: manifest.generation,
            bytes: manifest.bytes(),
            created_at: manifest.created_at,
        })
    }

    /// How it stands, and what becomes of it when nobody uses it.
    pub fn lifecycle(&self) -> Lifecycle {
        let settings = self.lifecycle_settings();
        let facts = idle::Facts::of(&self.handle);
        let idles_out_in = facts.and_then(|facts| idle::time_left(&settings, &facts));
        Lifecycle {
            summary: self.summary(),
            woken: self.handle.status().woken,
            problem: self.problem(),
            kept_awake_by: facts
                .map_or_else(Vec::new, |facts| idle::kept_awake_by(&settings, &facts)),
            idles_out_in,
            settings,
        }
    }
}
