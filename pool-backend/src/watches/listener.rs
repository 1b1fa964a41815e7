//! The task that listens to init, for as long as somebody watches.
//!
//! Must never happen here: a connection to init while its container stands still.

use std::sync::Arc;

use fleet::lifecycle::State;
use fleet::timing;
use init_protocol::{Change, ChangeKind, Lost, RefusalKind};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::{Hub, Overflow, Phase, What};
use crate::driver::gate::{Gate, Tail};
use crate::driver::{Handle, Status};
use crate::engine::Engine;
use crate::init_client::{InitError, Told};
use crate::volume::{Mark, Volume};

/// Changes that wait until the volume is compared.
const MAX_WAITING: usize = 8192;

pub(super) fn spawn(hub: &Arc<Hub>, engine: &Arc<Engine>, handle: &Arc<Handle>) {
    let listener = Listener {
        hub: Arc::clone(hub),
        volume: engine.launcher.volume(handle.id()),
        handle: Arc::clone(handle),
        mark: None,
    };
    let resting = engine.resting.clone();
    engine.tasks.spawn(async move {
        let hub = Arc::clone(&listener.hub);
        let ended = tokio::select! {
            ended = listener.run() => ended,
            () = resting.cancelled() => Ended::Gone,
        };
        match ended {
            // The run has ended under the hub's lock: by now another may have begun.
            Ended::Alone => {}
            Ended::Gone => hub.end(),
        }
    });
}

/// Why it does not listen any more.
enum Ended {
    Alone,
    Gone,
}

struct Listener {
    hub: Arc<Hub>,
    handle: Arc<Handle>,
    volume: Volume,
    /// Until then everything was told; none: nobody knows.
    mark: Option<Mark>,
}

impl Listener {
    async fn run(mut self) -> Ended {
        let mut status = self.handle.watch();
        let mut pause = timing::WATCH_RETRY;
        self.mark = self.volume.glance().await.ok();
        loop {
            let state = status.borrow_and_update().state;
            let gate = self.handle.gate();
            let tail = gate.as_ref().and_then(Gate::tail);
            match (state, gate, tail) {
                (State::Deleted, ..) => return Ended::Gone,
                (State::Running, Some(gate), Some(tail)) => {
                    match self.listen(&gate, tail, &mut status).await {
                        Ok(()) => pause = timing::WATCH_RETRY,
                        Err(error) => {
                            // What it had not told yet is lost.
                            self.mark = None;
                            let workspace = self.handle.id();
                            tracing::debug!(%workspace, %error, "its files are not watched");
                            if is_too_old(&error) {
                                self.hub.phase.send_replace(Phase::Broken(TOO_OLD));
                                return Ended::Gone;
                            }
                            sleep(pause).await;
                            pause = (pause * 2).min(timing::START_BACKOFF_MAX);
                        }
                    }
                    if self.hub.end_if_alone() {
                        return Ended::Alone;
                    }
                    continue;
                }
                // Nobody runs who could change anything.
                (State::Stopped | State::Hibernated | State::Frozen | State::Failed, ..) => {
                    self.hub.phase.send_replace(Phase::Ready);
                }
                _ => {}
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return Ended::Gone;
                },
                () = self.hub.deserted() => if self.hub.end_if_alone() {
                    return Ended::Alone;
                },
            }
        }
    }

    /// Until the container is about to stand still, or nobody watches any more.
    async fn listen(
        &mut self,
        gate: &Gate,
        tail: Tail,
        status: &mut watch::Receiver<Status>,
    ) -> Result<(), InitError> {
        let before = self.mark.take();
        let (hub, volume) = (&self.hub, &self.volume);
        let (begun, after) = (Notify::new(), Mutex::new(None));
        let waiting = Mutex::new(Some(Waiting::default()));
        let leaving = async {
            let other = |status: &Status| {
                status.state != State::Running || status.generation != gate.generation
            };
            tokio::select! {
                _ = status.wait_for(other) => {}
                () = hub.deserted() => {}
            }
            // Before init is asked to end: what comes in between is told, and found as well.
            let mark = volume.glance().await.ok();
            *after.lock() = mark;
        };
        let hear = |told| match told {
            Told::Watching { incomplete } => {
                if incomplete {
                    hub.tell(What::Overflow(Overflow::Directories));
                }
                begun.notify_one();
            }
            Told::Changes { changes, lost } => match &mut *waiting.lock() {
                Some(waiting) => waiting.add(changes, lost),
                None => pass_on(hub, changes, lost),
            },
        };
        let compare = async {
            begun.notified().await;
            found_since(hub, volume, before).await;
            // Later than what was found.
            let waited = waiting.lock().take().unwrap_or_default();
            pass_on(hub, waited.changes, waited.lost);
            hub.live.send_replace(Some(gate.generation));
            hub.phase.send_replace(Phase::Ready);
            std::future::pending::<()>().await;
        };
        let listened = tokio::select! {
            listened = gate.init.watch(leaving, hear) => listened,
            () = compare => Ok(()),
        };
        hub.live.send_replace(None);
        drop(tail);
        let compared = waiting.into_inner().is_none();
        listened?;
        // Not compared yet: as far as is known nothing was told since before.
        self.mark = if compared { after.into_inner() } else { before };
        Ok(())
    }
}

/// What init told while the volume was looked through.
#[derive(Default)]
struct Waiting {
    changes: Vec<Change>,
    lost: Option<Lost>,
}

impl Waiting {
    fn add(&mut self, changes: Vec<Change>, lost: Option<Lost>) {
        self.lost = self.lost.or(lost);
        self.changes.extend(changes);
        if self.changes.len() > MAX_WAITING {
            self.changes.clear();
            self.lost = Some(Lost::Queue);
        }
    }
}

fn pass_on(hub: &Hub, changes: Vec<Change>, lost: Option<Lost>) {
    if let Some(lost) = lost {
        hub.tell(What::Overflow(match lost {
            Lost::Queue => Overflow::Burst,
            Lost::Directories => Overflow::Directories,
        }));
    }
    for change in changes {
        hub.tell(What::Changed(change));
    }
}

/// What the volume shows of what happened while nobody listened.
async fn found_since(hub: &Hub, volume: &Volume, mark: Option<Mark>) {
    let changed = match mark {
        Some(mark) => volume.changed_since(mark).await,
        None => Default::default(),
    };
    for found in changed.found {
        let kind = match found.new {
            true => ChangeKind::Created,
            false => ChangeKind::Modified,
        };
        hub.tell(What::Changed(Change {
            kind,
            path: found.path,
            from: None,
            directory: found.directory,
            write_id: None,
        }));
    }
    if !changed.complete {
        hub.tell(What::Overflow(Overflow::Asleep));
    }
}

const TOO_OLD: &str =
    "this workspace was started by an earlier version that cannot watch files; restart it";

fn is_too_old(error: &InitError) -> bool {
    let InitError::Refused { kind, .. } = error else {
        return false;
    };
    *kind == RefusalKind::BadCall
}
