//! Waking a workspace: from its snapshot, or from its volume when the snapshot is of no use.
//!
//! ```text
//! snapshot whole, for this machine   restored; a second attempt in a new namespace if that fails
//! damaged, foreign, never comes up   put aside for good, started from the volume: `woken: volume`
//! machine, network, disk in trouble  Hibernated again with its snapshot; the next wake may do
//! ```
//! The snapshot is spent, and removed, once the wake is recorded.
//!
//! Must never happen here: a start from the volume while there is a snapshot that a later wake
//! could take.

use std::sync::Arc;
use std::time::Instant;

use fleet::lifecycle::Event;
use fleet::record::Woken;
use time::OffsetDateTime;

use super::memory::NotRestored;
use super::{Driver, new_gate};
use crate::error::{Error, ErrorKind};
use crate::init_client::InitClient;
use crate::metrics::{Outcome, Step};
use crate::snapshot::{Snapshot, SnapshotError};

/// Restores that are tried before the snapshot counts as bad.
const RESTORES: u32 = 2;

impl Driver {
    /// To the generation that the record names by now.
    pub(super) async fn wake(&mut self) {
        let began = Instant::now();
        let (engine, record) = (Arc::clone(&self.engine), self.record.clone());
        // Both read and write disks, and neither needs the other's answer.
        let (changed, found) = tokio::join!(
            self.change(Event::Wake, None),
            engine.launcher.snapshot_of(&record)
        );
        if let Err(error) = changed {
            self.fall_asleep_again(began, &error).await;
            return;
        }
        let (init, woken) = match self.bring_back(found).await {
            Ok(brought) => brought,
            Err(error) => {
                self.fall_asleep_again(began, &error).await;
                return;
            }
        };
        self.record.started_at = Some(OffsetDateTime::now_utc());
        self.record.woken = Some(woken);
        self.problem = None;
        let gate = new_gate(&self.engine, &self.record, init);
        if let Err(error) = self.change(Event::Woken, Some(gate)).await {
            self.remove_container().await;
            self.fall_asleep_again(began, &error).await;
            return;
        }
        self.account(Step::Wake, began, &Ok(()));
        self.woke(Outcome::Woken(woken));
        tracing::info!(workspace = %self.handle.id(), took = ?began.elapsed(), ?woken, "woken");
        // Spent. Should it stay, the record says that it is not to be used.
        if let Err(error) = self.give_up_snapshots().await {
            tracing::warn!(workspace = %self.handle.id(), %error, "a spent snapshot stays");
        }
    }

    async fn bring_back(
        &mut self,
        found: Result<Option<Snapshot>, SnapshotError>,
    ) -> Result<(InitClient, Woken), Error> {
        match found {
            Ok(Some(snapshot)) => {
                if let Some(init) = self.restore(&snapshot).await? {
                    return Ok((init, Woken::Memory));
                }
                let put_aside = self.engine.launcher.snapshots.put_aside(&snapshot).await;
                put_aside.map_err(not_usable)?;
            }
            Ok(None) => {
                tracing::error!(workspace = %self.handle.id(), "it has no snapshot");
            }
            Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Foreign { .. })) => {
                tracing::error!(workspace = %self.handle.id(), %error, "woken from its volume");
                self.give_up_snapshots().await?;
            }
            Err(error) => return Err(not_usable(error)),
        }
        Ok((self.launch().await?, Woken::Volume))
    }

    /// None: this snapshot does not come to life.
    async fn restore(&self, snapshot: &Snapshot) -> Result<Option<InitClient>, Error> {
        for attempt in 1..=RESTORES {
            let began = Instant::now();
            let restored = self.engine.launcher.restore(&self.record, snapshot).await;
            match restored {
                Ok(init) => {
                    self.account(Step::Restore, began, &Ok(()));
                    return Ok(Some(init));
                }
                Err(NotRestored::Untried(error)) => return Err(error),
                Err(NotRestored::Failed(error)) => {
                    tracing::warn!(
                        workspace = %self.handle.id(), generation = %self.record.generation,
                        attempt, %error, cause = error.cause_text(), "the snapshot was not restored",
                    );
                    self.account(Step::Restore, began, &Err(error));
                }
            }
        }
        Ok(None)
    }

    /// With its snapshot, if there still is one. When it is tried again is the directory's to
    /// allow.
    async fn fall_asleep_again(&mut self, began: Instant, error: &Error) {
        self.engine
            .launcher
            .metrics
            .step(Step::Wake, began, Err(error));
        self.woke(Outcome::Failed);
        tracing::warn!(
            workspace = %self.handle.id(), %error, cause = error.cause_text(), "not woken",
        );
        self.record.started_at = None;
        self.problem = Some(error.message.clone());
        if let Err(error) = self.change(Event::WakeFailed, None).await {
            tracing::error!(workspace = %self.handle.id(), %error, "the failure is not recorded");
        }
    }
}

fn not_usable(error: SnapshotError) -> Error {
    let message = "the snapshot could not be read";
    Error::caused(ErrorKind::NotReady, message, error)
}
