//! Who drives one view: what was typed goes in, what is printed comes out, and in between the
//! workspace sleeps and wakes.
//!
//! Must never happen here: two things waited for at once on the same connection, or a wait that cannot
//! be broken off.

use std::collections::VecDeque;
use std::pin::Pin;

use fleet::directory::WakeCause;
use fleet::door::Visit;
use fleet::id::{Generation, TerminalId};
use fleet::lifecycle::State;
use fleet::record::Woken;
use fleet::timing;
use init_protocol::RefusalKind;
use init_protocol::terminal::TerminalSize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Viewed;
use super::input::{Input, Key};
use crate::driver::Status;
use crate::driver::gate::Pass;
use crate::error::{Error, ErrorKind};
use crate::init_client::{Attached, Heard, InitClient, InitError};
use crate::workspaces::Workspace;

/// Attempts to connect again to a container that runs.
const ATTEMPTS: u32 = 5;

/// A connection to init.
pub(super) struct Line {
    generation: Generation,
    attached: Attached,
}

/// What is waited for, one thing at a time.
pub(super) type Errand = Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) enum Done {
    /// Inside, for input.
    Entered(Result<(Generation, Pass), Error>),
    Connected(Generation, Result<Attached, InitError>),
    /// Whether the container that did not answer lives.
    Looked(Result<(), Error>),
}

/// What there is to do next.
enum Next {
    Typed(Option<Key>),
    Sized,
    Heard(Result<Heard, InitError>),
    Sent(Result<(), InitError>),
    Done(Done),
    Look,
    Left,
}

pub(super) struct Viewer {
    pub(super) workspace: Workspace,
    pub(super) id: TerminalId,
    /// By which init knows us.
    pub(super) name: TerminalId,
    pub(super) events: mpsc::Sender<Viewed>,
    pub(super) typed: mpsc::UnboundedReceiver<Key>,
    pub(super) sizes: watch::Receiver<Option<TerminalSize>>,
    /// The number of the next byte of output.
    pub(super) offset: u64,
    /// Heard, and waiting for the viewer. Nothing more is heard meanwhile.
    pub(super) saved: VecDeque<Viewed>,
    /// Not told yet.
    pub(super) wanted_size: Option<TerminalSize>,
    pub(super) input: Input,
    pub(super) line: Option<Line>,
    /// Keeps the workspace awake until input has arrived, but no longer than this.
    pub(super) pass: Option<(Generation, Pass, Instant)>,
    pub(super) errand: Option<Errand>,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
    /// The viewer was told that the workspace sleeps.
    pub(super) asleep: bool,
    pub(super) status: watch::Receiver<Status>,
}

impl Viewer {
    pub(super) async fn run(&mut self) {
        loop {
            // Seen before it is judged: whatever changes from here on wakes us.
            let status = self.status.borrow_and_update().clone();
            let told = self.judge(&status);
            self.saved.extend(told);
            if self.saved.iter().any(is_end) {
                return self.end().await;
            }
            self.act();
            match self.next().await {
                Next::Typed(Some(key)) => self.input.push(key),
                Next::Sized => self.wanted_size = *self.sizes.borrow(),
                Next::Heard(Ok(heard)) => self.heard(heard),
                Next::Sent(Ok(())) | Next::Look => {}
                Next::Heard(Err(error)) | Next::Sent(Err(error)) => self.broken(error),
                Next::Done(done) => self.done(done),
                Next::Typed(None) | Next::Left => return,
            }
        }
    }

    /// Tells what there is to tell, the end last.
    async fn end(&mut self) {
        let ended = self.saved.iter().position(is_end);
        self.saved.truncate(ended.map_or(0, |at| at + 1));
        for event in std::mem::take(&mut self.saved) {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Waits for the next thing. Cancel safe, as all in it is.
    async fn next(&mut self) -> Next {
        let Self {
            events,
            typed,
            sizes,
            saved,
            line,
            errand,
            retry_at,
            pass,
            status,
            ..
        } = self;
        let free = saved.is_empty();
        let (hearing, saying) = match line {
            Some(line) => (
                Some(&mut line.attached.hearing),
                Some(&mut line.attached.saying),
            ),
            None => (None, None),
        };
        let timer = match (*retry_at, pass.as_ref().map(|(_, _, until)| *until)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        tokio::select! {
            permit = events.reserve(), if !free => match permit {
                Ok(permit) => {
                    if let Some(event) = saved.pop_front() {
                        permit.send(event);
                    }
                    Next::Look
                }
                Err(_) => Next::Left,
            },
            () = events.closed() => Next::Left,
            key = typed.recv() => Next::Typed(key),
            heard = hear(hearing), if free => Next::Heard(heard),
            sent = say(saying) => Next::Sent(sent),
            done = run_errand(errand) => Next::Done(done),
            Ok(()) = sizes.changed() => Next::Sized,
            changed = status.changed() => match changed {
                Ok(()) => Next::Look,
                Err(_) => Next::Left,
            },
            () = sleep_until(timer) => Next::Look,
        }
    }

    /// What the viewer is to be told of how the workspace stands.
    fn judge(&mut self, status: &Status) -> Option<Viewed> {
        match status.state {
            State::Hibernated if !self.asleep => {
                self.asleep = true;
                self.line = None;
                Some(Viewed::Asleep)
            }
            State::Running if self.asleep => {
                self.asleep = false;
                Some(Viewed::Awake(status.woken.unwrap_or(Woken::Memory)))
            }
            State::Stopped | State::Failed | State::Deleted => Some(Viewed::Gone),
            _ => None,
        }
    }

    /// Begins what has to be done.
    fn act(&mut self) {
        let now = Instant::now();
        if self
            .pass
            .as_ref()
            .is_some_and(|(_, _, until)| *until <= now)
            || self.input.is_empty()
        {
            self.pass = None;
        }
        self.retry_at.take_if(|at| *at <= now);
        if self.errand.is_some() || self.retry_at.is_some() {
            return;
        }
        let gate = self.workspace.handle.gate().filter(|gate| gate.is_open());
        let here = gate.as_ref().map(|gate| gate.generation);
        if self
            .line
            .as_ref()
            .is_some_and(|line| here.is_some_and(|here| here != line.generation))
        {
            self.line = None;
        }
        if self.line.is_none() {
            match gate {
                // Shut meanwhile: it falls asleep, or is opened again, and either is told.
                Some(gate) => {
                    if let Ok(pass) = gate.enter(Visit::InFlight) {
                        self.connect(gate.init.clone(), gate.generation, pass);
                    }
                }
                None if !self.input.is_sent() => self.enter(),
                None => {}
            }
            return;
        }
        if !self.input.is_sent() && self.pass.is_none() {
            match gate.map(|gate| (gate.generation, gate.enter(Visit::InFlight))) {
                Some((generation, Ok(pass))) => {
                    self.workspace.handle.touch();
                    self.holds(generation, pass);
                }
                _ => return self.enter(),
            }
        }
        let Some(line) = &mut self.line else {
            return;
        };
        let inside = self
            .pass
            .as_ref()
            .is_some_and(|(generation, ..)| *generation == line.generation);
        if inside && !self.input.is_sent() {
            line.attached.saying.input(&self.input.take_unsent());
        }
        if (inside || here.is_some())
            && let Some(size) = self.wanted_size.take()
        {
            line.attached.saying.resize(size);
        }
    }

    fn holds(&mut self, generation: Generation, pass: Pass) {
        self.pass = Some((generation, pass, Instant::now() + timing::TERMINAL_INPUT));
    }

    /// Wakes it if need be, and goes in.
    fn enter(&mut self) {
        let workspace = self.workspace.clone();
        self.errand = Some(Box::pin(async move {
            let entered = workspace.enter(WakeCause::Api).await;
            Done::Entered(entered.map(|(_, generation, pass)| (generation, pass)))
        }));
    }

    fn connect(&mut self, init: InitClient, generation: Generation, pass: Pass) {
        let (id, name, offset) = (self.id.clone(), self.name.clone(), self.offset);
        self.errand = Some(Box::pin(async move {
            let attached = init.attach(&id, name.as_str(), Some(offset)).await;
            drop(pass);
            Done::Connected(generation, attached)
        }));
    }

    pub(super) fn connected(&mut self, generation: Generation, attached: Attached) {
        self.failures = 0;
        if attached.offset > self.offset {
            self.saved
                .push_back(Viewed::Gap(attached.offset - self.offset));
            self.offset = attached.offset;
        }
        self.input.again(attached.taken);
        self.line = Some(Line {
            generation,
            attached,
        });
    }

    fn done(&mut self, done: Done) {
        self.errand = None;
        match done {
            Done::Entered(Ok((generation, pass))) => self.holds(generation, pass),
            Done::Entered(Err(error)) if error.kind == ErrorKind::NotFound => {
                self.saved.push_back(Viewed::Gone);
            }
            Done::Entered(Err(error)) | Done::Looked(Err(error)) => self.failed(error),
            // It is dead, and that is told.
            Done::Looked(Ok(())) => {}
            Done::Connected(generation, Ok(attached)) => self.connected(generation, attached),
            Done::Connected(
                _,
                Err(InitError::Refused {
                    kind: RefusalKind::NotFound,
                    ..
                }),
            ) => {
                self.saved.push_back(Viewed::Gone);
            }
            Done::Connected(_, Err(error @ InitError::Refused { .. })) => {
                self.saved.push_back(Viewed::Failed(error.into()));
            }
            Done::Connected(generation, Err(error)) => self.look(error, generation),
        }
    }

    /// Whether a container that did not answer lives.
    fn look(&mut self, error: InitError, generation: Generation) {
        let workspace = self.workspace.clone();
        self.errand = Some(Box::pin(async move {
            Done::Looked(workspace.unanswered(error, generation).await)
        }));
    }

    fn failed(&mut self, error: Error) {
        self.failures += 1;
        if self.failures >= ATTEMPTS || !error.kind.retryable() && error.kind != ErrorKind::TimedOut
        {
            self.saved.push_back(Viewed::Failed(error));
            return;
        }
        self.retry_at = Some(Instant::now() + timing::TERMINAL_RETRY * self.failures);
    }

    /// The connection is gone; what becomes of the container is seen elsewhere.
    fn broken(&mut self, error: InitError) {
        tracing::debug!(terminal = %self.id, %error, "a viewer's connection ended");
        self.line = None;
        self.retry_at = Some(Instant::now() + timing::TERMINAL_RETRY);
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Output(bytes) => {
                self.offset += bytes.len() as u64;
                self.workspace.handle.activity.said_something();
                self.saved.push_back(Viewed::Output(bytes));
            }
            Heard::Gap(bytes) => {
                self.offset = self.offset.saturating_add(bytes);
                self.saved.push_back(Viewed::Gap(bytes));
            }
            Heard::Taken(total) => self.input.arrived(total.min(self.input.sent())),
            Heard::Ended(state) => {
                self.saved
                    .push_back(Viewed::Exited(state.exit_code.unwrap_or(-1)));
            }
        }
    }
}

fn is_end(viewed: &Viewed) -> bool {
    matches!(viewed, Viewed::Exited(_) | Viewed::Gone | Viewed::Failed(_))
}

async fn hear(hearing: Option<&mut crate::init_client::Hearing>) -> Result<Heard, InitError> {
    match hearing {
        Some(hearing) => hearing.next().await,
        None => std::future::pending().await,
    }
}

async fn say(saying: Option<&mut crate::init_client::Saying>) -> Result<(), InitError> {
    match saying {
        Some(saying) if saying.is_behind() => saying.send().await,
        _ => std::future::pending().await,
    }
}

async fn run_errand(errand: &mut Option<Errand>) -> Done {
    match errand {
        Some(errand) => errand.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
