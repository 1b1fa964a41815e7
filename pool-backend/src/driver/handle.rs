//! What everybody but the driver holds of a workspace: who it is, how it stands, its gate, and
//! the driver's mailbox.
//!
//! Must never happen here: a change of state. The driver makes those, through [`Handle::publish`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use fleet::directory::WakeCause;
use fleet::door::{Standing, Visit};
use fleet::id::{ContainerId, Generation, OwnerId, ProjectId, Slug, TemplateName, WorkspaceId};
use fleet::lifecycle::State;
use fleet::record::{Claim, LifecycleSettings, Showing, Woken, WorkspaceRecord};
use fleet::timing;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::Amendment;
use super::activity::Activity;
use super::gate::{Gate, Pass, PreviewPort, Refused};
use crate::error::{Error, ErrorKind};
use crate::watches::Hub;

/// Orders that may wait; more are refused.
pub(crate) const MAILBOX: usize = 64;

/// What never changes about a claimed workspace.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: WorkspaceId,
    pub(crate) container: ContainerId,
    pub(crate) slug: Slug,
    pub(crate) template: TemplateName,
    pub(crate) owner: OwnerId,
    pub(crate) project: ProjectId,
    pub(crate) number: u32,
    pub(crate) created_at: OffsetDateTime,
}

impl Identity {
    pub(crate) fn new(record: &WorkspaceRecord, claim: &Claim) -> Self {
        Self {
            id: record.id.clone(),
            container: record.container.clone(),
            slug: record.slug.clone(),
            template: record.template.clone(),
            owner: claim.owner.clone(),
            project: claim.project.clone(),
            number: claim.number,
            created_at: claim.claimed_at,
        }
    }
}

/// How a workspace stands.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) generation: Generation,
    /// When its container started; none while it has none.
    pub(crate) started_at: Option<OffsetDateTime>,
    /// What came back with its last wake.
    pub(crate) woken: Option<Woken>,
    /// Why the last start, wake or hibernation failed; safe to show.
    pub(crate) problem: Option<String>,
}

/// What the driver is asked to do.
pub(crate) enum Order {
    /// The directory wants this generation to run: start, wake or thaw it.
    Start(Generation),
    /// End its processes, sleeping ones too; the volume stays.
    Stop(Done),
    /// The node shuts down: end its processes, but what sleeps goes on sleeping.
    Rest(Done),
    /// Stop its processes where they are, if nobody is inside.
    Freeze(Done),
    /// Put its processes on disk, if nobody is inside.
    Hibernate(Done),
    /// Live by these settings from now on.
    Configure(LifecycleSettings, Done),
    /// Its uses so far are to outlive a restart.
    Remember(Done),
    /// Show something else, or to others.
    Amend(Amendment, Done),
    /// Away with it, volume and all.
    Delete(Done),
    /// Remove the snapshots that are of no use any more.
    Tidy(Done),
    /// Somebody found that this generation does not answer: is it alive?
    Check(Generation, oneshot::Sender<bool>),
}

/// Told when the order was carried out.
pub(crate) type Done = oneshot::Sender<Result<(), Error>>;

/// See the module.
pub(crate) struct Handle {
    identity: Identity,
    status: watch::Sender<Status>,
    gate: ArcSwapOption<Gate>,
    mailbox: mpsc::Sender<Order>,
    pub(crate) preview_port: PreviewPort,
    pub(crate) activity: Activity,
    /// It computed when that was last measured, and nobody asked for it.
    busy: AtomicBool,
    settings: ArcSwap<LifecycleSettings>,
    /// What of ours wants it to run, though it does not yet.
    wanted_by: Mutex<Option<WakeCause>>,
    /// When its container started: for people, and by the clock that nobody sets.
    started: Mutex<Option<(OffsetDateTime, Instant)>>,
    showing: ArcSwap<Showing>,
    /// Who watches its files.
    pub(crate) hub: Arc<Hub>,
}

/// How a visitor fared.
pub(crate) enum Entry {
    /// Inside.
    Entered(Arc<Gate>, Pass),
    /// Another generation is there.
    Moved,
    /// There is nothing to enter: it has to be started or woken first.
    Asleep,
}

impl Handle {
    pub(crate) fn new(
        identity: Identity,
        status: Status,
        settings: LifecycleSettings,
        activity: Activity,
        gate: Option<Arc<Gate>>,
    ) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (mailbox, orders) = mpsc::channel(MAILBOX);
        let started = status.started_at.map(|at| (at, instant_of(at)));
        let handle = Self {
            identity,
            status: watch::Sender::new(status),
            gate: ArcSwapOption::new(gate),
            mailbox,
            preview_port: PreviewPort::default(),
            activity,
            busy: AtomicBool::new(false),
            settings: ArcSwap::from_pointee(settings),
            wanted_by: Mutex::default(),
            started: Mutex::new(started),
            showing: ArcSwap::default(),
            hub: Arc::default(),
        };
        (Arc::new(handle), orders)
    }

    pub(crate) fn id(&self) -> &WorkspaceId {
        &self.identity.id
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The state alone.
    pub(crate) fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Whether it computes, as last measured.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whoever measures it says so.
    pub(crate) fn measured(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// For the account of who wakes workspaces; the first one counts.
    pub(super) fn wanted_by(&self, cause: WakeCause) {
        self.wanted_by.lock().get_or_insert(cause);
    }

    /// Who wanted it to run; nobody of ours, if that was a visitor.
    pub(super) fn was_wanted_by(&self) -> Option<WakeCause> {
        self.wanted_by.lock().take()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(crate) fn settings(&self) -> Arc<LifecycleSettings> {
        self.settings.load_full()
    }

    /// The driver's, once they are recorded.
    pub(super) fn configured(&self, settings: LifecycleSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// What it shows, and to whom.
    pub(crate) fn showing(&self) -> Arc<Showing> {
        self.showing.load_full()
    }

    /// The driver's, once it is recorded.
    pub(super) fn show(&self, showing: Showing) {
        self.preview_port.set(showing.main_port());
        self.showing.store(Arc::new(showing));
    }

    /// The gate of the container, if there is one; shut while it stands still.
    pub(crate) fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.load_full()
    }

    /// Since its container started or woke. A clock that is set meanwhile does not matter.
    pub(crate) fn uptime(&self) -> Option<Duration> {
        let started = self.started.lock();
        started.map(|(_, since)| since.elapsed())
    }

    /// How connections stand that were opened to this generation.
    pub(crate) fn standing(&self, opened: Generation) -> Standing {
        match self.gate() {
            Some(gate) if opened < gate.connections.since => Standing::Lost,
            Some(gate) if gate.is_open() => Standing::Live,
            // It stands still, or is about to be another's: what comes of it is not known yet.
            Some(_) => Standing::Still,
            None => match self.status.borrow().state {
                State::Stopped | State::Starting | State::Failed | State::Deleted => Standing::Lost,
                State::Running
                | State::Freezing
                | State::Frozen
                | State::Hibernating
                | State::Hibernated
                | State::Waking => Standing::Still,
            },
        }
    }

    /// Through the gate, of this generation if one is named. A container that stands still is
    /// thawed for the visitor; the wait for that is bounded.
    pub(crate) async fn enter(&self, generation: Option<Generation>, visit: Visit) -> Entry {
        let entering = async {
            let mut status = self.watch();
            loop {
                // Seen before the gate: whatever is published from here on wakes us.
                status.borrow_and_update();
                let Some(gate) = self.gate() else {
                    return Entry::Asleep;
                };
                if generation.is_some_and(|wanted| wanted != gate.generation) {
                    return Entry::Moved;
                }
                match gate.enter(visit) {
                    Ok(pass) => return Entry::Entered(gate, pass),
                    Err(Refused::Closed) => return Entry::Asleep,
                    Err(Refused::Shut) => {}
                }
                if status.changed().await.is_err() {
                    return Entry::Asleep;
                }
            }
        };
        let entered = timeout(timing::WAKE_DEADLINE, entering).await;
        entered.unwrap_or(Entry::Asleep)
    }

    /// The driver's only way to say how it stands: gate first, so that whoever sees `Running`
    /// finds the gate open, and whoever sees that there is no container finds none.
    pub(super) fn publish(&self, gate: Option<Arc<Gate>>, status: Status) {
        let stays = gate.as_ref().map(Arc::as_ptr);
        if let Some(old) = self.gate.swap(gate)
            && stays != Some(Arc::as_ptr(&old))
        {
            old.close();
        }
        let mut started = self.started.lock();
        if started.map(|(at, _)| at) != status.started_at {
            *started = status.started_at.map(|at| (at, instant_of(at)));
        }
        drop(started);
        self.status.send_replace(status);
    }

    /// Somebody uses it.
    pub(crate) fn touch(&self) {
        self.activity.touch();
    }

    /// Tells the driver that its directory row wants this generation. A full mailbox is fine: the
    /// row stays, and is looked at again each `timing::ROUTE_POLL`.
    pub(crate) fn nudge(&self, generation: Generation) {
        // Who falls asleep just now hears that, and stops.
        if let Some(gate) = self.gate() {
            gate.knock();
        }
        if self.mailbox.try_send(Order::Start(generation)).is_err() {
            tracing::debug!(workspace = %self.id(), "the mailbox is full or closed");
        }
    }

    /// Gives an order and waits until it was carried out.
    ///
    /// # Errors
    /// The driver's; `TooMany` when too many orders wait; `NotReady` after
    /// `timing::WAKE_DEADLINE`, though the order may still be carried out; `NotFound` when the
    /// workspace is gone.
    pub(crate) async fn order(&self, order: impl FnOnce(Done) -> Order) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        self.mailbox
            .try_send(order(done))
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => {
                    Error::new(ErrorKind::TooMany, "too many calls wait for this workspace")
                }
                mpsc::error::TrySendError::Closed(_) => gone(),
            })?;
        within_deadline(async { outcome.await.unwrap_or_else(|_| Err(gone())) }).await
    }

    /// The node shuts down: waits for room in the mailbox too, because nobody asks again.
    ///
    /// # Errors
    /// As [`Handle::order`], but never `TooMany`.
    pub(crate) async fn rest(&self) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        within_deadline(async {
            let sent = self.mailbox.send(Order::Rest(done)).await;
            sent.map_err(|_| gone())?;
            outcome.await.unwrap_or_else(|_| Err(gone()))
        })
        .await
    }

    /// Whether this generation of the container is alive, as far as can be told in time. The
    /// driver clears up if it is not.
    pub(crate) async fn check(&self, generation: Generation) -> bool {
        let (answer, alive) = oneshot::channel();
        if self
            .mailbox
            .try_send(Order::Check(generation, answer))
            .is_err()
        {
            return !self.mailbox.is_closed();
        }
        matches!(
            timeout(timing::RUNTIME_COMMAND, alive).await,
            Ok(Ok(true)) | Err(_)
        )
    }

    /// Returns when a container that stays silent turns out to be dead; never if it lives. For
    /// those who wait for its answer.
    pub(crate) async fn death_after_silence(&self, generation: Generation) {
        tokio::time::sleep(timing::SUSPICION).await;
        if self.check(generation).await {
            std::future::pending().await
        }
    }
}

async fn within_deadline(
    carried_out: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let message = "the workspace is busy; try again";
    let late = |_| Err(Error::new(ErrorKind::NotReady, message));
    timeout(timing::WAKE_DEADLINE, carried_out)
        .await
        .unwrap_or_else(late)
}

/// Of a moment that was, by what the clock says now.
fn instant_of(at: OffsetDateTime) -> Instant {
    let ago = Duration::try_from(OffsetDateTime::now_utc() - at).unwrap_or_default();
    let now = Instant::now();
    now.checked_sub(ago).unwrap_or(now)
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "no such workspace")
}
