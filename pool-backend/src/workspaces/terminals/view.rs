//! One viewer of a terminal, through sleep and wake of its workspace.
//!
//! ```text
//! connected       output is passed on; input is passed in, and keeps the workspace awake until
//!                 init has it
//! it stands still nothing is said to it; input is kept (bounded), and wakes it
//! awake again     connected again where it was; what is kept is delivered once, in order
//! gone            the terminal ended with its container: said, and that is the end
//! ```
//! Init counts each viewer's input, so that what was under way when a connection broke is neither
//! lost nor typed twice.
//!
//! Must never happen here: a workspace kept awake by somebody who only looks, or memory that grows
//! with what a viewer does not read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use fleet::directory::WakeCause;
use fleet::door::Visit;
use fleet::id::{Generation, TerminalId};
use fleet::lifecycle::State;
use fleet::record::Woken;
use fleet::timing;
use init_protocol::RefusalKind;
use init_protocol::terminal::TerminalSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::Workspace;
use super::{Terminal, no_such_terminal, terminal};
use crate::driver::Status;
use crate::driver::gate::Pass;
use crate::error::{Error, ErrorKind};
use crate::init_client::{Attached, Heard, InitClient, InitError};

/// Bytes of input that are kept until init has them; who types more waits.
const INPUT_KEPT: usize = 64 * 1024;
/// Pieces of output that wait for the viewer.
const OUTPUT_KEPT: usize = 4;
/// Attempts to connect again to a container that runs.
const ATTEMPTS: u32 = 5;

/// What a viewer sees.
#[derive(Debug)]
pub enum Viewed {
    /// Output.
    Output(Bytes),
    /// So much output is lost: it came faster than it was read, or while nobody was connected.
    Gap(u64),
    /// The workspace sleeps. Input wakes it.
    Asleep,
    /// It is awake again; from its volume: the terminal is gone.
    Awake(Woken),
    /// The program has exited, and all of its output was seen. The end.
    Exited(i32),
    /// The terminal ended with its container. The end.
    Gone,
    /// It could not be reached, or woken. The end, for this viewer.
    Failed(Error),
}

/// A view of a terminal; it ends on drop.
pub struct View {
    /// How the terminal stood when it began.
    pub terminal: Terminal,
    /// The number of the first byte of output that follows.
    pub offset: u64,
    events: mpsc::Receiver<Viewed>,
    keyboard: Keyboard,
    _task: AbortOnDropHandle<()>,
}

impl View {
    /// What is seen next; none after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Viewed> {
        self.events.recv().await
    }

    /// To type with.
    pub fn keyboard(&self) -> Keyboard {
        self.keyboard.clone()
    }
}

/// The way in.
#[derive(Clone)]
pub struct Keyboard {
    keys: mpsc::UnboundedSender<Key>,
    room: Arc<Semaphore>,
    size: watch::Sender<Option<TerminalSize>>,
}

impl Keyboard {
    /// Types. Waits while as much as may be is on its way; what comes after the terminal's end is
    /// of no effect. Not cancel safe: a part may have been typed.
    pub async fn input(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(INPUT_KEPT / 4));
            let wanted = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(wanted).await else {
                return;
            };
            if self.keys.send(Key { bytes: part, room }).is_err() {
                return;
            }
        }
    }

    /// The window has another size. The last of several counts; it wakes nobody.
    pub fn resize(&self, size: TerminalSize) {
        self.size.send_replace(Some(size));
    }
}

/// Input, and the room that it takes until init has it. Bounded by that.
struct Key {
    bytes: Bytes,
    room: OwnedSemaphorePermit,
}

impl Workspace {
    /// Comes to view a terminal. What it printed from byte `offset` on follows, as far as it is kept;
    /// all of that, if none is named.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`; `TooMany` viewers; `Conflict` when it sleeps and calls do not wake it.
    pub async fn view_terminal(&self, id: &TerminalId, offset: Option<u64>) -> Result<View, Error> {
        let viewer = TerminalId::mint();
        let attached = self
            .while_alive(|init| {
                let viewer = viewer.clone();
                async move { init.attach(id, viewer.as_str(), offset).await }
            })
            .await?
            .ok_or_else(no_such_terminal)?;
        // Had it been another's, init would not know the terminal.
        let generation = self.handle.status().generation;
        self.handle.touch();
        let shown = terminal(attached.state.clone(), id);
        let first = attached.offset;
        let (events, seen) = mpsc::channel(OUTPUT_KEPT);
        let (keys, typed) = mpsc::unbounded_channel();
        let size = watch::Sender::new(None);
        let mut viewer = Viewer {
            workspace: self.clone(),
            id: id.clone(),
            name: viewer,
            events,
            typed,
            sizes: size.subscribe(),
            offset: first,
            saved: VecDeque::new(),
            wanted_size: None,
            input: Input::default(),
            line: None,
            pass: None,
            errand: None,
            retry_at: None,
            failures: 0,
            asleep: false,
            status: self.handle.watch(),
        };
        viewer.connected(generation, attached);
        let task = tokio::spawn(async move { viewer.run().await });
        Ok(View {
            terminal: shown,
            offset: first,
            events: seen,
            keyboard: Keyboard {
                keys,
                room: Arc::new(Semaphore::new(INPUT_KEPT)),
                size,
            },
            _task: AbortOnDropHandle::new(task),
        })
    }
}

/// What was typed and is not known to have arrived.
#[derive(Default)]
struct Input {
    kept: VecDeque<Key>,
    /// The number of the first byte kept.
    begins: u64,
    /// The number of the first byte that was not sent over this connection.
    unsent: u64,
    /// The number of the next byte.
    ends: u64,
}

impl Input {
    fn push(&mut self, key: Key) {
        self.ends += key.bytes.len() as u64;
        self.kept.push_back(key);
    }

    fn is_sent(&self) -> bool {
        self.unsent >= self.ends
    }

    /// So many bytes have arrived, ever.
    fn arrived(&mut self, total: u64) {
        while self.begins < total
            && let Some(key) = self.kept.front_mut()
        {
            let count = usize::try_from(total - self.begins).unwrap_or(usize::MAX);
            let count = count.min(key.bytes.len());
            key.bytes.advance(count);
            self.begins += count as u64;
            drop(key.room.split(count));
            if key.bytes.is_empty() {
                self.kept.pop_front();
            }
        }
        self.unsent = self.unsent.max(self.begins);
    }

    /// A new connection, at whose end so many bytes have arrived before.
    fn again(&mut self, total: u64) {
        self.arrived(total);
        // Init has forgotten us, and counts anew.
        let forgotten = self.begins.saturating_sub(total);
        self.begins -= forgotten;
        self.ends -= forgotten;
        self.unsent = self.begins;
    }

    /// All that was not sent over this connection; it counts as sent then.
    fn take_unsent(&mut self) -> BytesMut {
        let mut skip = usize::try_from(self.unsent - self.begins).unwrap_or(usize::MAX);
        let mut unsent = BytesMut::new();
        for key in &self.kept {
            let from = skip.min(key.bytes.len());
            unsent.extend_from_slice(&key.bytes[from..]);
            skip -= from;
        }
        self.unsent = self.ends;
        unsent
    }
}

/// A connection to init.
struct Line {
    generation: Generation,
    attached: Attached,
}

/// What is waited for, one thing at a time.
type Errand = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
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

struct Viewer {
    workspace: Workspace,
    id: TerminalId,
    /// By which init knows us.
    name: TerminalId,
    events: mpsc::Sender<Viewed>,
    typed: mpsc::UnboundedReceiver<Key>,
    sizes: watch::Receiver<Option<TerminalSize>>,
    /// The number of the next byte of output.
    offset: u64,
    /// Heard, and waiting for the viewer. Nothing more is heard meanwhile.
    saved: VecDeque<Viewed>,
    /// Not told yet.
    wanted_size: Option<TerminalSize>,
    input: Input,
    line: Option<Line>,
    /// Keeps the workspace awake until input has arrived, but no longer than this.
    pass: Option<(Generation, Pass, Instant)>,
    errand: Option<Errand>,
    retry_at: Option<Instant>,
    failures: u32,
    /// The viewer was told that the workspace sleeps.
    asleep: bool,
    status: watch::Receiver<Status>,
}

impl Viewer {
    async fn run(&mut self) {
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
            || self.input.kept.is_empty()
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

    fn connected(&mut self, generation: Generation, attached: Attached) {
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
            Heard::Taken(total) => self.input.arrived(total.min(self.input.unsent)),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &[u8], room: &Arc<Semaphore>) -> Key {
        let wanted = u32::try_from(text.len()).unwrap();
        let room = Arc::clone(room).try_acquire_many_owned(wanted).unwrap();
        Key {
            bytes: Bytes::copy_from_slice(text),
            room,
        }
    }

    proptest! {
        /// However connections break, and wherever init was then, it gets each byte once.
        #[test]
        fn input_arrives_once_and_in_order(
            steps in prop::collection::vec((0usize..4, 1usize..40), 1..60),
        ) {
            let room = Arc::new(Semaphore::new(10_000));
            let mut input = Input::default();
            let (mut typed, mut wire, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
            for (step, count) in steps {
                match step {
                    0 => {
                        let text: Vec<u8> = (0..count).map(|_| typed.len() as u8).collect();
                        typed.extend(&text);
                        input.push(key(&text, &room));
                    }
                    1 => wire.extend(input.take_unsent()),
                    // Init takes some, and says so.
                    2 => {
                        arrived.extend(wire.drain(..count.min(wire.len())));
                        input.arrived(arrived.len() as u64);
                    }
                    // It takes some, and the connection breaks before it says so.
                    _ => {
                        arrived.extend(wire.drain(..count.min(wire.len())));
                        wire.clear();
                        input.again(arrived.len() as u64);
                    }
                }
                prop_assert!(typed.starts_with(&arrived));
                let kept: usize = input.kept.iter().map(|key| key.bytes.len()).sum();
                prop_assert_eq!(room.available_permits(), 10_000 - kept);
            }
            input.again(arrived.len() as u64);
            arrived.extend(input.take_unsent());
            prop_assert_eq!(typed, arrived);
        }
    }

    #[test]
    fn an_init_that_forgot_us_counts_anew() {
        let room = Arc::new(Semaphore::new(100));
        let mut input = Input::default();
        input.push(key(b"abcd", &room));
        input.take_unsent();
        input.arrived(2);
        input.again(0);
        assert_eq!(&input.take_unsent()[..], b"cd");
        input.arrived(2);
        assert!(input.kept.is_empty() && input.is_sent());
        // What it cannot have got.
        input.arrived(99);
        input.push(key(b"e", &room));
        assert_eq!(&input.take_unsent()[..], b"e");
    }
}
