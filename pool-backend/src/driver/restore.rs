//! Waking a workspace: from its snapshot, or from its volume when the snapshot is of no use.
//!
//! ```text
//! record: Waking → restore, packets held → record: Running → packets let go → init answers → told
//! ```
//! The record says Running before anybody can hear the restored processes: from then on the
//! snapshot is spent. In the moment before that they may have run already, so whoever finds Waking
//! in a record looks whether the volume is as the snapshot knew it.
//!
//! ```text
//! snapshot whole, for this machine   restored; a second attempt in a new namespace if that fails
//! damaged, foreign, never comes up,  put aside for good, started from the volume: `woken: volume`
//!   or the volume has changed since
//! machine, network, disk in trouble  Hibernated again with its snapshot; the next wake may do
//! ```
//!
//! Must never happen here: a start from the volume while there is a snapshot that a later wake
//! could take, or old memory over a newer volume.

use std::sync::Arc;
use std::time::Instant;

use fleet::id::Generation;
use fleet::lifecycle::{self, Event, State};
use fleet::record::Woken;
use time::OffsetDateTime;

use super::memory::NotRestored;
use super::{Driver, new_gate};
use crate::error::{Error, ErrorKind};
use crate::faults::Point;
use crate::init_client::InitClient;
use crate::metrics::{Outcome, Step};
use crate::provision;
use crate::quota::Place;
use crate::snapshot::{Snapshot, SnapshotError};

/// Restores that are tried before the snapshot counts as bad.
const RESTORES: u32 = 2;

/// Why it was not woken.
enum NotWoken {
    /// The snapshot may do later.
    Asleep(Error),
    /// There is a snapshot that must not be taken any more, and it cannot be removed.
    Lost(Error),
}

impl From<Error> for NotWoken {
    fn from(error: Error) -> Self {
        Self::Asleep(error)
    }
}

impl Driver {
    /// To the generation that the record names by now, if its owner may have one more that runs.
    pub(super) async fn wake(&mut self, place: Result<Option<Place>, Error>) {
        let began = Instant::now();
        let (engine, record) = (Arc::clone(&self.engine), self.record.clone());
        // At once, but for a template whose dependencies are not there any more.
        let provided = provision::provide(&engine, &record.template).await;
        // Both read and write disks, and neither needs the other's answer.
        let (changed, found) = tokio::join!(
            self.change(Event::Wake, None),
            engine.launcher.snapshot_of(&record)
        );
        if let Err(error) = changed.and(provided) {
            self.not_woken(began, Event::WakeFailed, &error).await;
            return;
        }
        if let Err(error) = &place {
            return self.not_woken(began, Event::WakeFailed, error).await;
        }
        let init = match self.bring_back(found).await {
            Ok(init) => init,
            Err(NotWoken::Asleep(error)) => {
                return self.not_woken(began, Event::WakeFailed, &error).await;
            }
            Err(NotWoken::Lost(error)) => {
                return self.not_woken(began, Event::GiveUp, &error).await;
            }
        };
        self.problem = None;
        if let Err(error) = self.step(Event::Woken) {
            tracing::error!(workspace = %self.handle.id(), %error, "woken all the same");
        }
        let woken = self.record.woken.unwrap_or(Woken::Volume);
        let kept = self.engine.launcher.runtime.sleep().keeps_connections;
        if woken == Woken::Volume || !kept {
            self.connections_since = self.record.generation;
        }
        let gate = new_gate(&self.engine, &self.record, self.connections_since, init);
        // First: whoever is served by it may look at once.
        self.account(Step::Wake, began, &Ok(()));
        self.woke(Outcome::Woken(woken), began, None);
        self.tell(Some(gate)).await;
        tracing::info!(workspace = %self.handle.id(), took = ?began.elapsed(), ?woken, "woken");
        if woken == Woken::Volume {
            self.resume_previews();
        }
        self.pass(Point::WakeTold).await;
        // Spent. Should it stay, the record says that it is not to be used.
        if let Err(error) = self.give_up_snapshots().await {
            tracing::warn!(workspace = %self.handle.id(), %error, "a spent snapshot stays");
        }
    }

    /// It runs then, and its record says so.
    async fn bring_back(
        &mut self,
        found: Result<Option<Snapshot>, SnapshotError>,
    ) -> Result<InitClient, NotWoken> {
        self.reach(Point::WakeRecorded).await?;
        match found {
            Ok(Some(snapshot)) => {
                self.reach(Point::WakeRead).await?;
                if let Some(init) = self.restore(&snapshot).await? {
                    return Ok(init);
                }
                self.put_aside(snapshot.manifest.generation).await?;
            }
            Ok(None) => {
                tracing::error!(workspace = %self.handle.id(), "it has no snapshot");
            }
            Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Foreign { .. })) => {
                tracing::error!(workspace = %self.handle.id(), %error, "woken from its volume");
                self.give_up_snapshots().await?;
            }
            Err(error) => return Err(not_usable(error).into()),
        }
        let init = self.launch().await?;
        if let Err(error) = self.record_running(Woken::Volume).await {
            self.remove_container().await;
            return Err(error.into());
        }
        Ok(init)
    }

    /// From here on no wake takes this snapshot.
    async fn put_aside(&self, generation: Generation) -> Result<(), NotWoken> {
        let snapshots = &self.engine.launcher.snapshots;
        let Err(error) = snapshots.put_aside(&self.record.id, generation).await else {
            return Ok(());
        };
        tracing::error!(workspace = %self.handle.id(), %error, "a bad snapshot is not put aside");
        self.give_up_snapshots().await.map_err(NotWoken::Lost)
    }

    /// None: this snapshot does not come to life, or must not any more.
    async fn restore(&mut self, snapshot: &Snapshot) -> Result<Option<InitClient>, Error> {
        for attempt in 1..=RESTORES {
            let began = Instant::now();
            let restored = self.engine.launcher.restore(&self.record, snapshot).await;
            let error = match restored {
                Ok(()) => match self.record_running(Woken::Memory).await {
                    Ok(()) => {
                        let heard = self.hear().await;
                        let outcome = heard.as_ref().map(|_| ());
                        self.engine
                            .launcher
                            .metrics
                            .step(Step::Restore, began, outcome);
                        return Ok(heard.ok());
                    }
                    Err(error) => {
                        self.remove_container().await;
                        return match self.is_still_true(snapshot).await {
                            true => Err(error),
                            false => Ok(None),
                        };
                    }
                },
                Err(NotRestored::Untried(error)) => return Err(error),
                Err(NotRestored::Failed(error)) => error,
            };
            tracing::warn!(
                workspace = %self.handle.id(), generation = %self.record.generation, attempt,
                %error, cause = error.cause_text(), "the snapshot was not restored",
            );
            self.account(Step::Restore, began, &Err(error));
            // What failed may have run before.
            if !self.is_still_true(snapshot).await {
                break;
            }
        }
        Ok(None)
    }

    async fn is_still_true(&self, snapshot: &Snapshot) -> bool {
        let launcher = &self.engine.launcher;
        let holds = launcher
            .is_still_true(&self.record, &snapshot.manifest)
            .await;
        if !holds {
            tracing::warn!(
                workspace = %self.handle.id(),
                "what was restored may have changed the volume: its snapshot is not taken again",
            );
        }
        holds
    }

    /// Durable before anybody hears of it: what a crash leaves from here on is a running container.
    async fn record_running(&mut self, woken: Woken) -> Result<(), Error> {
        self.reach(Point::WakeRestored).await?;
        let mut running = self.record.clone();
        running.state = lifecycle::step(running.state, Event::Woken).unwrap_or(State::Running);
        running.started_at = Some(OffsetDateTime::now_utc());
        running.woken = Some(woken);
        running.activity = Some(self.handle.activity.record());
        self.engine.save(&running).await?;
        self.record.started_at = running.started_at;
        self.record.woken = running.woken;
        self.pass(Point::WakeResumed).await;
        Ok(())
    }

    /// The restored container's init.
    ///
    /// # Errors
    /// It does not answer; nothing is left of it then.
    async fn hear(&mut self) -> Result<InitClient, Error> {
        match self.engine.launcher.hear(&self.record).await {
            Ok(init) => {
                self.pass(Point::WakeAnswered).await;
                Ok(init)
            }
            Err(error) => {
                tracing::warn!(
                    workspace = %self.handle.id(), generation = %self.record.generation,
                    %error, cause = error.cause_text(), "what was restored does not answer",
                );
                self.remove_container().await;
                Err(error)
            }
        }
    }

    /// When it is tried again is the directory's to allow.
    async fn not_woken(&mut self, began: Instant, event: Event, error: &Error) {
        self.engine
            .launcher
            .metrics
            .step(Step::Wake, began, Err(error));
        self.woke(Outcome::Failed, began, Some(error));
        tracing::warn!(
            workspace = %self.handle.id(), %error, cause = error.cause_text(), "not woken",
        );
        self.record.started_at = None;
        self.problem = Some(error.message.clone());
        if let Err(error) = self.change(event, None).await {
            tracing::error!(workspace = %self.handle.id(), %error, "the failure is not recorded");
        }
    }
}

fn not_usable(error: SnapshotError) -> Error {
    let message = "the snapshot could not be read";
    Error::caused(ErrorKind::NotReady, message, error)
}
