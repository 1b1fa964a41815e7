//! One task per workspace, the only one that changes its container: starts and ends it, and puts
//! it to sleep ([`sleep`]) and wakes it ([`restore`]). It takes one order at a time,
//! steps `fleet::lifecycle`, and says how things stand: to the record before anything is
//! acknowledged, to the directory fenced by the generation, to whoever waits.
//!
//! Must never happen here: two orders at once, or a state that `lifecycle::step` does not know.

pub(crate) mod activity;
mod end;
pub(crate) mod gate;
mod handle;
pub(crate) mod launch;
mod memory;
mod mint;
mod parting;
pub(crate) mod ports;
mod restore;
mod showing;
mod sleep;
pub(crate) mod turns;
mod wake;
pub(crate) mod workshop;

use std::sync::Arc;
use std::time::Instant;

use fleet::directory::DirectoryError;
use fleet::id::Generation;
use fleet::lifecycle::{self, Event, State};
use fleet::record::{LifecycleSettings, WorkspaceRecord};
use fleet::timing;
use time::OffsetDateTime;
use tokio::sync::mpsc;

pub(crate) use handle::{Done, Entry, Handle, Identity, Order, Status};
pub(crate) use showing::Amendment;
pub(crate) use wake::ensure_running;

use self::activity::Activity;
use self::gate::{Connections, Gate};
use self::turns::Urgency;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::faults::Point;
use crate::init_client::InitClient;
use crate::metrics::{Outcome, Step};
use crate::pool::back_off;
use crate::provision;
use crate::wakes::Ended;

/// Starts that are tried before a workspace counts as failed.
const ATTEMPTS: u32 = 3;

/// See the module.
pub(crate) struct Driver {
    engine: Arc<Engine>,
    handle: Arc<Handle>,
    orders: mpsc::Receiver<Order>,
    record: WorkspaceRecord,
    problem: Option<String>,
    /// The first generation whose connections are still those of the container.
    connections_since: Generation,
    /// When it was last found alive.
    seen_alive: Option<Instant>,
    /// Nobody has used it: it was claimed as it stood in its pool.
    unused: bool,
}

impl Driver {
    /// Takes charge of a workspace: of its container, if there is the client of its init, else of
    /// its volume only. A container that stands still, as the record says, lets the first who comes
    /// in.
    ///
    /// # Errors
    /// The record belongs to nobody.
    pub(crate) fn engage(
        engine: &Arc<Engine>,
        record: WorkspaceRecord,
        init: Option<InitClient>,
    ) -> Result<Arc<Handle>, Error> {
        let Some(claim) = &record.claim else {
            return Err(Error::new(
                ErrorKind::Internal,
                "a warm container has no driver",
            ));
        };
        let identity = Identity::new(&record, claim);
        let unused = init.is_some() && record.state.is_still();
        let status = Status {
            state: record.state,
            generation: record.generation,
            started_at: record.started_at,
            woken: record.woken,
            problem: None,
        };
        let connections_since = record.generation;
        let gate = init.map(|init| {
            let gate = new_gate(engine, &record, connections_since, init);
            if unused {
                // Nobody knows of it, so nobody is inside.
                let _ = gate.shut();
            }
            gate
        });
        let settings = record.lifecycle.clone();
        let activity = record.activity.as_ref();
        let activity = activity.map_or_else(Activity::new, Activity::recorded);
        let (handle, orders) = Handle::new(identity, status, settings, activity, gate);
        handle.show(record.showing.clone());
        let driver = Self {
            engine: Arc::clone(engine),
            handle: Arc::clone(&handle),
            orders,
            record,
            problem: None,
            connections_since,
            seen_alive: None,
            unused,
        };
        engine.tasks.spawn(driver.run());
        Ok(handle)
    }

    async fn run(mut self) {
        let cancelled = self.engine.cancelled.clone();
        loop {
            let gate = self.handle.gate();
            let knocked = async {
                match gate {
                    Some(gate) => gate.knocked().await,
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                () = cancelled.cancelled() => return,
                () = knocked => {
                    self.thaw().await;
                    continue;
                }
                order = self.orders.recv() => order,
            };
            let Some(order) = order else { return };
            match order {
                Order::Start(generation) => self.start(generation).await,
                Order::Stop(done) => {
                    // Nobody waiting any more is fine, here and below.
                    let _ = done.send(self.stop().await);
                }
                Order::Rest(done) => {
                    let _ = done.send(self.rest().await);
                }
                Order::Freeze(done) => {
                    let _ = done.send(self.freeze().await);
                }
                Order::Hibernate(done) => {
                    let _ = done.send(self.hibernate().await);
                }
                Order::Configure(settings, done) => {
                    let _ = done.send(self.configure(settings).await);
                }
                Order::Remember(done) => {
                    let _ = done.send(self.save().await);
                }
                Order::Tidy(done) => {
                    let _ = done.send(self.tidy().await);
                }
                Order::Amend(amendment, done) => {
                    let _ = done.send(self.amend(amendment).await);
                }
                Order::Check(generation, answer) => {
                    let _ = answer.send(self.is_alive(generation).await);
                }
                Order::Delete(done) => match self.delete().await {
                    Ok(()) => {
                        let _ = done.send(Ok(()));
                        self.engine.finish_deletion(self.record).await;
                        return;
                    }
                    Err(error) => {
                        let _ = done.send(Err(error));
                    }
                },
            }
        }
    }

    async fn start(&mut self, generation: Generation) {
        if self.engine.resting.is_cancelled() {
            return; // The next process finds the workspace stopped, and starts it when asked.
        }
        let (known, state) = (self.record.generation, self.record.state);
        if generation <= known && !matches!(state, State::Starting | State::Waking) {
            if state.is_still() {
                self.thaw().await;
            } else {
                // Told twice, or told late: say again how it stands.
                self.report().await;
            }
            return;
        }
        if matches!(state, State::Running | State::Frozen) {
            // The directory missed that it stopped being what it was. It decides.
            if let Err(error) = self.end_container(Event::Stop).await {
                tracing::warn!(workspace = %self.handle.id(), %error, "not stopped");
                return;
            }
        }
        self.record.generation = generation;
        let place = self.engine.place_to_run(&self.handle);
        if matches!(self.record.state, State::Hibernated | State::Waking) {
            self.wake(place).await;
            return;
        }
        self.record.woken = None;
        if let Err(error) = self.change(Event::Start, None).await {
            self.give_up(&error).await;
            return;
        }
        self.pass(Point::StartRecorded).await;
        // Held until it says itself that it starts.
        if let Err(error) = place {
            self.give_up(&error).await;
            return;
        }
        let began = Instant::now();
        let launched = self.launch().await;
        let outcome = match launched {
            Ok(_) => Outcome::Started,
            Err(_) => Outcome::Failed,
        };
        self.woke(outcome, began, launched.as_ref().err());
        let metrics = &self.engine.launcher.metrics;
        metrics.step(Step::Start, began, launched.as_ref().map(|_| ()));
        match launched {
            Ok(init) => self.running(init).await,
            Err(error) => self.give_up(&error).await,
        }
    }

    fn account(&self, step: Step, began: Instant, result: &Result<(), Error>) {
        let metrics = &self.engine.launcher.metrics;
        metrics.step(step, began, result.as_ref().copied());
    }

    /// A wake that began then is over.
    fn woke(&self, outcome: Outcome, began: Instant, problem: Option<&Error>) {
        let cause = self.handle.was_wanted_by();
        self.engine.launcher.metrics.woke(cause, outcome);
        let ended = Ended {
            outcome,
            took: began.elapsed(),
            problem: problem.map(|error| error.message.clone()),
        };
        let Identity {
            id, owner, project, ..
        } = self.handle.identity();
        self.engine.wakes.note((id, owner, project), cause, ended);
    }

    /// A fail point at which the step can fail.
    async fn reach(&self, point: Point) -> Result<(), Error> {
        self.engine.launcher.faults.reach(point).await
    }

    /// A fail point at which it is too late to fail.
    async fn pass(&self, point: Point) {
        if let Err(error) = self.reach(point).await {
            tracing::warn!(?point, %error, "not here");
        }
    }

    /// A few attempts, unless the failure itself took long.
    async fn launch(&self) -> Result<InitClient, Error> {
        let began = Instant::now();
        let mut attempt = 1;
        loop {
            let launching = async {
                provision::provide(&self.engine, &self.record.template).await?;
                let launcher = &self.engine.launcher;
                launcher.launch(&self.record, Urgency::Awaited).await
            };
            let error = match launching.await {
                Ok(init) => return Ok(init),
                Err(error) => error,
            };
            tracing::warn!(
                workspace = %self.handle.id(), generation = %self.record.generation, attempt,
                %error, cause = error.cause_text(), "the container did not start",
            );
            if attempt == ATTEMPTS
                || began.elapsed() > timing::INIT_READY
                || !error.kind.retryable()
            {
                return Err(error);
            }
            tokio::select! {
                () = self.engine.cancelled.cancelled() => return Err(error),
                () = tokio::time::sleep(back_off(attempt)) => {}
            }
            attempt += 1;
        }
    }

    async fn running(&mut self, init: InitClient) {
        self.record.started_at = Some(OffsetDateTime::now_utc());
        self.problem = None;
        self.pass(Point::StartLaunched).await;
        self.connections_since = self.record.generation;
        let gate = new_gate(&self.engine, &self.record, self.connections_since, init);
        if let Err(error) = self.change(Event::Started, Some(gate)).await {
            tracing::error!(workspace = %self.handle.id(), %error, "started, but not recorded");
            self.remove_container().await;
            self.give_up(&error).await;
            return;
        }
        self.resume_previews();
    }

    /// The start failed for good; the next one is the directory's to allow.
    async fn give_up(&mut self, error: &Error) {
        self.record.started_at = None;
        self.problem = Some(error.message.clone());
        if self.record.state == State::Starting
            && let Err(error) = self.change(Event::GiveUp, None).await
        {
            tracing::error!(workspace = %self.handle.id(), %error, "the failure is not recorded");
        }
    }

    async fn stop(&mut self) -> Result<(), Error> {
        match self.record.state {
            State::Running | State::Frozen => self.end_container(Event::Stop).await,
            State::Hibernated => {
                self.give_up_snapshots().await?;
                self.change(Event::Stop, None).await
            }
            _ => Ok(()),
        }
    }

    /// [`Driver::stop`] for what has a container.
    async fn rest(&mut self) -> Result<(), Error> {
        match self.record.state {
            State::Running | State::Frozen => self.end_container(Event::Stop).await,
            _ => Ok(()),
        }
    }

    async fn configure(&mut self, settings: LifecycleSettings) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.record.lifecycle, settings.clone());
        if let Err(error) = self.save().await {
            self.record.lifecycle = before;
            return Err(error);
        }
        let auto_wake = settings.auto_wake;
        self.handle.configured(settings);
        let id = self.handle.id();
        if let Err(error) = self.engine.directory.set_auto_wake(id, auto_wake).await {
            tracing::warn!(workspace = %id, %error, "the directory does not know of auto_wake");
        }
        Ok(())
    }

    /// The record, with what is known of its uses.
    async fn save(&mut self) -> Result<(), Error> {
        self.record.activity = Some(self.handle.activity.record());
        self.engine.save(&self.record).await
    }

    /// The one place where a state changes: stepped, recorded, published, reported.
    async fn change(&mut self, event: Event, gate: Option<Arc<Gate>>) -> Result<(), Error> {
        let before = self.step(event)?;
        let next = self.record.state;
        if let Err(error) = self.save().await {
            if matches!(next, State::Running) || event == Event::Committed {
                self.record.state = before;
                return Err(error);
            }
            // A record that claims more than there is: adoption finds out. Go on.
            tracing::error!(workspace = %self.handle.id(), %error, ?next, "the record is behind");
            if matches!(next, State::Starting | State::Waking) {
                self.handle.publish(None, self.status());
                return Err(error);
            }
        }
        self.tell(gate).await;
        Ok(())
    }

    /// To the next state; returns the one before. Nobody knows of it yet.
    fn step(&mut self, event: Event) -> Result<State, Error> {
        let next = lifecycle::step(self.record.state, event).map_err(|denied| {
            Error::caused(
                ErrorKind::Conflict,
                "the workspace cannot do that now",
                denied,
            )
        })?;
        Ok(std::mem::replace(&mut self.record.state, next))
    }

    /// Says how it stands: to whoever waits here, and to the directory.
    async fn tell(&mut self, gate: Option<Arc<Gate>>) {
        let (generation, state) = (self.record.generation, self.record.state);
        tracing::debug!(workspace = %self.handle.id(), %generation, ?state);
        self.handle.publish(gate, self.status());
        self.report().await;
    }

    /// Tells the directory. If it has moved on, this node has no right to the container any more.
    async fn report(&mut self) {
        let (id, generation, state) = (self.handle.id(), self.record.generation, self.record.state);
        match self.engine.directory.report(id, generation, state).await {
            Ok(()) => {}
            Err(DirectoryError::Superseded { current, .. }) if current > generation => {
                tracing::warn!(workspace = %id, %generation, %current, "superseded");
                if state == State::Running || state.is_still() {
                    self.record.state = State::Stopped;
                    self.record.started_at = None;
                    self.handle.publish(None, self.status());
                    self.remove_container().await;
                }
            }
            Err(error) => {
                tracing::warn!(workspace = %id, %generation, %error, "the directory was not told");
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            state: self.record.state,
            generation: self.record.generation,
            started_at: self.record.started_at,
            woken: self.record.woken,
            problem: self.problem.clone(),
        }
    }
}

fn new_gate(
    engine: &Engine,
    record: &WorkspaceRecord,
    connections_since: Generation,
    init: InitClient,
) -> Arc<Gate> {
    let template = engine.launcher.templates.get(&record.template);
    let provisioner = &engine.launcher.provisioner;
    let main_ports = template.map(|template| provisioner.main_ports(&template));
    Gate::open(
        record.generation,
        Connections {
            since: connections_since,
            kept: engine.launcher.runtime.sleep().keeps_connections,
        },
        record.address,
        init,
        main_ports.unwrap_or_default(),
        engine.next_gate_serial(),
    )
}
