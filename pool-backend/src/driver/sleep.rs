//! Putting a workspace to sleep, in two steps, and taking that back.
//!
//! ```text
//! freeze      gate shut (if no request is inside) → watches of files let go
//!             → connections that would be lost ended → pause
//! hibernate   freeze → packets held → checkpoint → volume on disk → snapshot complete
//!             → gate closed (if nobody knocked) → record → directory → link and netns → kill
//! ```
//! Until the gate is closed, whoever knocks and whatever fails thaws it: the same generation goes
//! on as if nothing had been. Afterwards it is woken from the snapshot instead. No step of it is
//! recorded before that: after a crash a paused container is thawed, whether its record says
//! Running or, written for another reason meanwhile, Frozen.
//!
//! Must never happen here: a snapshot that outlives a thaw. Old memory over a newer volume is
//! corruption.

use std::sync::Arc;
use std::time::Instant;

use fleet::lifecycle::{Event, State};
use fleet::timing;
use tokio::time::timeout;

use super::Driver;
use super::gate::Gate;
use crate::error::{Error, ErrorKind};
use crate::faults::Point;
use crate::idle::being_answered;
use crate::metrics::{Outcome, Step};
use crate::pool::back_off;

/// Attempts to let processes go on before they count as lost.
const RESUMES: u32 = 3;

impl Driver {
    /// Stops its processes where they are.
    ///
    /// # Errors
    /// `Conflict` when somebody is inside or comes meanwhile: it runs on.
    pub(super) async fn freeze(&mut self) -> Result<(), Error> {
        match self.record.state {
            State::Frozen => return Ok(()),
            State::Running => {}
            _ => return Err(not_running()),
        }
        let Some(gate) = self.handle.gate() else {
            return Err(not_running());
        };
        gate.shut()
            .map_err(|inside| Error::new(ErrorKind::Conflict, being_answered(inside)))?;
        let began = Instant::now();
        let frozen = self.pause(&gate).await;
        self.account(Step::Freeze, began, &frozen);
        if frozen.is_err() {
            self.thaw().await;
        }
        frozen
    }

    async fn pause(&mut self, gate: &Arc<Gate>) -> Result<(), Error> {
        self.advance(Event::Freeze, gate).await?;
        // They were told by that. Whoever does not let go in time is cut off.
        let parting = timeout(timing::WATCH_PARTING, gate.untailed());
        tokio::select! {
            parted = parting => if parted.is_err() {
                tracing::warn!(workspace = %self.handle.id(), "somebody still listens to its init");
            },
            () = gate.knocked() => {}
        }
        self.part(gate).await;
        self.reach(Point::FreezeShut).await?;
        let id = self.engine.launcher.id_of(&self.record);
        let paused = self.engine.launcher.runtime.pause(&id).await;
        paused.map_err(|error| failed("the processes could not be frozen", error))?;
        self.reach(Point::FreezePaused).await?;
        unless_knocked(gate)?;
        self.advance(Event::FrozenNow, gate).await
    }

    /// Its processes go on where they are. Without effect unless it stands still.
    pub(super) async fn thaw(&mut self) {
        let Some(gate) = self.handle.gate() else {
            return;
        };
        if self.record.state.is_still() {
            let began = Instant::now();
            self.pass(Point::ThawBegun).await;
            let resumed = self.resume().await;
            self.account(Step::Thaw, began, &resumed);
            if let Err(error) = resumed {
                tracing::error!(
                    workspace = %self.handle.id(), %error, cause = error.cause_text(),
                    "cannot be thawed; it starts again from its volume",
                );
                self.problem = Some("its processes could not be thawed".to_owned());
                if let Err(error) = self.end_container(Event::Died).await {
                    tracing::warn!(workspace = %self.handle.id(), %error, "not cleared up");
                }
                return;
            }
            self.pass(Point::ThawResumed).await;
            tracing::debug!(workspace = %self.handle.id(), took = ?began.elapsed(), "thawed");
            // What did not fall asleep after all was not woken, nor what is used for the first time.
            if !std::mem::take(&mut self.unused) && gate.is_knocked() {
                self.woke(Outcome::Thawed, began, None);
            }
            if let Err(error) = self.step(Event::Thaw) {
                tracing::error!(workspace = %self.handle.id(), %error, "thawed all the same");
            }
        }
        // A paused container was not seen alive.
        self.seen_alive = None;
        gate.reopen();
        self.tell(Some(gate)).await;
    }

    async fn resume(&self) -> Result<(), Error> {
        let launcher = &self.engine.launcher;
        let id = launcher.id_of(&self.record);
        let mut attempt = 1;
        loop {
            let resumed = match launcher.let_go(self.record.address).await {
                Ok(()) => launcher.runtime.resume(&id).await,
                Err(error) => return Err(error),
            };
            match resumed {
                Ok(()) => return Ok(()),
                Err(error) if attempt == RESUMES => {
                    return Err(failed("the processes do not go on", error));
                }
                Err(error) => {
                    tracing::warn!(workspace = %self.handle.id(), %error, attempt, "not thawed");
                    tokio::time::sleep(back_off(attempt)).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Puts its processes on disk.
    ///
    /// # Errors
    /// It runs on then. `Conflict` when somebody is inside or comes meanwhile, or it does not
    /// run; `NoSpace`; `NotReady` when the checkpoint failed, with what a user may know of why.
    pub(super) async fn hibernate(&mut self) -> Result<(), Error> {
        match self.record.state {
            State::Hibernated => return Ok(()),
            State::Running | State::Frozen => {}
            _ => return Err(not_running()),
        }
        if let Some(trouble) = self.engine.launcher.runtime.sleep().trouble {
            return Err(Error::new(ErrorKind::NotReady, trouble));
        }
        let Some(gate) = self.handle.gate() else {
            return Err(not_running());
        };
        let engine = Arc::clone(&self.engine);
        let _turn = tokio::select! {
            turn = engine.launcher.turn_to_sleep() => turn?,
            () = gate.knocked() => return Err(interrupted()),
        };
        let began = Instant::now();
        // Before anything is touched: what is frozen stays frozen.
        if let Err(error) = engine.launcher.room_for_snapshot(&self.record).await {
            self.problem = Some(error.message.clone());
            self.tell(Some(gate)).await;
            return Err(error);
        }
        self.freeze().await?;
        let written = self.write_snapshot(&gate).await;
        self.account(Step::Hibernate, began, &written);
        if let Err(error) = written {
            if error.kind != ErrorKind::Conflict {
                tracing::warn!(
                    workspace = %self.handle.id(), %error, cause = error.cause_text(),
                    "not hibernated; it runs on",
                );
                self.problem = Some(error.message.clone());
            }
            // Before anything moves again.
            if let Err(error) = self.give_up_snapshots().await {
                tracing::error!(workspace = %self.handle.id(), %error, "a stale snapshot stays");
            }
            self.thaw().await;
            // Whatever a failed commit left of a record that says otherwise.
            if error.kind != ErrorKind::Conflict
                && let Err(error) = self.save().await
            {
                tracing::warn!(workspace = %self.handle.id(), %error, "the record may be wrong");
            }
            return Err(error);
        }
        // Nobody can come in any more, and no peer hears of the end: its packets are held.
        let id = engine.launcher.id_of(&self.record);
        let (released, ()) = tokio::join!(
            engine.launcher.network.release(&id),
            self.remove_container()
        );
        if let Err(error) = released {
            tracing::warn!(workspace = %self.handle.id(), %error, "its network is not all gone");
        }
        self.pass(Point::HibernateRemoved).await;
        tracing::info!(workspace = %self.handle.id(), took = ?began.elapsed(), "hibernated");
        Ok(())
    }

    /// From Frozen to Hibernated, the container still there.
    async fn write_snapshot(&mut self, gate: &Arc<Gate>) -> Result<(), Error> {
        unless_knocked(gate)?;
        self.advance(Event::Hibernate, gate).await?;
        let engine = Arc::clone(&self.engine);
        let launcher = &engine.launcher;
        let (id, workspace) = (launcher.id_of(&self.record), self.record.id.clone());
        let began = Instant::now();
        self.reach(Point::HibernateFrozen).await?;
        launcher.hold(self.record.address).await?;
        self.reach(Point::HibernateHeld).await?;
        let draft = launcher.begin_snapshot(&self.record).await?;
        self.reach(Point::HibernateDrafted).await?;
        let images = draft.images_dir();
        let volume = launcher.volume(&workspace);
        // The volume's way to its disk begins at once: what is written of it by now need not be
        // waited for later. Should that fail, it fails again then.
        let (checkpoint, _) =
            tokio::join!(launcher.runtime.checkpoint(&id, &images), volume.sync());
        if let Err(error) = checkpoint {
            return Err(launcher.not_written(error).await);
        }
        self.reach(Point::HibernateWritten).await?;
        let written = began.elapsed();
        unless_knocked(gate)?;
        launcher.commit_snapshot(&self.record, draft).await?;
        self.reach(Point::HibernateComplete).await?;
        if !gate.close_unheard() {
            return Err(interrupted());
        }
        self.reach(Point::HibernateClosed).await?;
        let total = began.elapsed();
        let started_at = self.record.started_at.take();
        self.problem = None;
        if let Err(error) = self.change(Event::Committed, None).await {
            self.record.started_at = started_at;
            return Err(error);
        }
        self.seen_alive = None;
        self.pass(Point::HibernateRecorded).await;
        tracing::debug!(%workspace, ?written, ?total, "snapshot committed");
        Ok(())
    }

    /// One step deeper into sleep, which the record need not know.
    async fn advance(&mut self, event: Event, gate: &Arc<Gate>) -> Result<(), Error> {
        self.step(event)?;
        self.tell(Some(Arc::clone(gate))).await;
        Ok(())
    }

    /// From now on it can only be started from its volume.
    pub(super) async fn give_up_snapshots(&self) -> Result<(), Error> {
        self.engine.launcher.give_up_snapshots(&self.record).await
    }
}

fn unless_knocked(gate: &Gate) -> Result<(), Error> {
    match gate.is_knocked() {
        true => Err(interrupted()),
        false => Ok(()),
    }
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "somebody needs the workspace: it runs on",
    )
}

fn not_running() -> Error {
    Error::new(ErrorKind::Conflict, "the workspace does not run")
}

fn failed(
    message: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::caused(ErrorKind::NotReady, message, cause)
}
