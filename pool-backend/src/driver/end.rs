//! Whether a workspace's container lives, and what is done when it does not, or should not any more.
//!
//! Must never happen here: a container that is gone and said to run.

use std::time::Instant;

use fleet::id::Generation;
use fleet::lifecycle::{Event, State};
use fleet::timing;

use super::Driver;
use crate::error::Error;
use crate::runtime::ContainerStatus;

impl Driver {
    pub(super) async fn is_alive(&mut self, generation: Generation) -> bool {
        let here = matches!(self.record.state, State::Running | State::Frozen);
        if !here || self.record.generation != generation {
            return false;
        }
        let fresh = |at: Instant| at.elapsed() < timing::PORTS_FRESH;
        if self.seen_alive.is_some_and(fresh) {
            return true;
        }
        let id = self.engine.launcher.id_of(&self.record);
        match self.engine.launcher.status(&id).await {
            Ok(ContainerStatus::Stopped | ContainerStatus::Absent) => {
                tracing::info!(workspace = %self.handle.id(), %generation, "the container ended by itself");
                if let Err(error) = self.end_container(Event::Died).await {
                    tracing::warn!(workspace = %self.handle.id(), %error, "not cleared up");
                }
                false
            }
            Ok(status) => {
                self.seen_alive = Some(Instant::now());
                if self.record.state == State::Running {
                    self.keep_going(status).await;
                }
                true
            }
            Err(error) => {
                tracing::warn!(workspace = %self.handle.id(), %error, "its status is unknown");
                true
            }
        }
    }

    /// Somebody else may have stopped its processes, or a failure left its packets held.
    async fn keep_going(&self, status: ContainerStatus) {
        let launcher = &self.engine.launcher;
        if let Err(error) = launcher.let_go(self.record.address).await {
            tracing::warn!(workspace = %self.handle.id(), %error, "its packets are still held");
        }
        if status == ContainerStatus::Paused {
            let resumed = launcher.runtime.resume(&launcher.id_of(&self.record)).await;
            tracing::warn!(workspace = %self.handle.id(), ?resumed, "it stood still, unasked");
        }
    }

    /// Snapshots that should be gone and could not be removed when they were spent.
    pub(super) async fn tidy(&self) -> Result<(), Error> {
        match self.record.state {
            State::Hibernating | State::Hibernated | State::Waking => Ok(()),
            _ => self.give_up_snapshots().await,
        }
    }

    /// Closes the gate, takes the container away, and says so.
    pub(super) async fn end_container(&mut self, event: Event) -> Result<(), Error> {
        // Before the kill: nobody may come in and find silence.
        if let Some(gate) = self.handle.gate() {
            gate.close();
        }
        self.remove_container().await;
        self.record.started_at = None;
        self.seen_alive = None;
        self.change(event, None).await
    }

    /// What cannot be removed is left to `reconcile`, which tries again.
    pub(super) async fn remove_container(&self) {
        let id = self.engine.launcher.id_of(&self.record);
        if let Err(error) = self.engine.launcher.teardown(&id).await {
            tracing::warn!(workspace = %self.handle.id(), %error, "the container is not all gone");
        }
    }

    /// Durable, then out of every index, then its container. The volume follows later.
    pub(super) async fn delete(&mut self) -> Result<(), Error> {
        let mut marked = self.record.clone();
        marked.deleted = true;
        marked.state = State::Deleted;
        self.engine.save(&marked).await?;
        self.record = marked;
        self.record.started_at = None;
        self.handle.publish(None, self.status());
        self.engine.table.remove(&self.handle);
        if let Err(error) = self.engine.directory.remove(self.handle.id()).await {
            tracing::warn!(workspace = %self.handle.id(), %error, "the directory did not forget it");
        }
        self.remove_container().await;
        Ok(())
    }
}
