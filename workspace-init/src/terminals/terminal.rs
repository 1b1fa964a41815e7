//! One terminal: its program, what it printed, who watches, and what they type.
//!
//! Output is read into the scrollback for as long as anybody inside holds the terminal open, seen
//! or not. Viewers copy it from there at their own pace; one that falls behind holds the reading up
//! for [`timing::TERMINAL_PATIENCE`] at most, then it misses output until it has caught up.
//!
//! Must never happen here: a program that waits for a viewer without a bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use init_protocol::COMMAND_SHOWN;
use init_protocol::terminal::{
    INPUT, MAX_VIEWERS, OpenTerminal, SCROLLBACK, TerminalSize, TerminalState,
};
use rustix::process::{Pid, Signal, WaitStatus};
use tokio::sync::Notify;

use super::pty::{self, Pty};
use super::scrollback::Scrollback;
use crate::refusal::Refusal;
use crate::{processes, timing};

/// Bytes of output that a viewer may be behind before the program waits for it.
const BEHIND: u64 = (SCROLLBACK / 2) as u64;
/// Viewers whose input is remembered.
const MAX_REMEMBERED: usize = 2 * MAX_VIEWERS;
/// Bytes read at once.
pub const CHUNK: usize = 16 * 1024;

/// See the module.
pub struct Terminal {
    pub id: String,
    /// Of its program; also of its session.
    pub pid: Pid,
    command: String,
    opened_at_ms: u64,
    size: Cell<TerminalSize>,
    /// None once nobody inside holds its other end.
    pty: RefCell<Option<Rc<Pty>>>,
    scrollback: RefCell<Scrollback>,
    /// Typed, and not read yet.
    input: RefCell<VecDeque<u8>>,
    exit_code: Cell<Option<i32>>,
    /// All output of the program is in the scrollback: it has exited.
    complete: Cell<bool>,
    /// Another terminal's session has this number now.
    session_gone: Cell<bool>,
    watchers: RefCell<Vec<Rc<Watcher>>>,
    /// Bytes of input that each has sent; who attached last is last.
    remembered: RefCell<VecDeque<(String, u64)>>,
    /// There is more to see, or nothing more will come.
    grown: Notify,
    /// A viewer has seen more.
    seen: Notify,
    /// Something was typed.
    typed: Notify,
    /// Some of it was read.
    taken: Notify,
    /// We let go of our end.
    let_go: Notify,
}

/// A viewer who is there.
struct Watcher {
    /// The number of the next byte for it.
    at: Cell<u64>,
    /// It was too slow, and is not waited for.
    late: Cell<bool>,
}

/// A viewer's attachment; it ends on drop.
pub struct Attachment {
    pub terminal: Rc<Terminal>,
    viewer: String,
    watcher: Rc<Watcher>,
}

/// What a viewer sees next.
pub enum Sight {
    /// Bytes; they are in the buffer.
    Output,
    /// So many are lost.
    Gap(u64),
    /// That was all.
    End,
}

impl Terminal {
    /// Opens it. Nothing here waits, so the program's exit cannot be reaped before it is known.
    pub fn open(call: &OpenTerminal) -> Result<Self, Refusal> {
        let size = call.size.clamped();
        let clamped = OpenTerminal {
            size,
            ..call.clone()
        };
        let (pty, child) = pty::open(&clamped)
            .map_err(|error| Refusal::failed("no terminal could be opened", &error))?;
        let command = call.command.as_deref().unwrap_or(pty::shell());
        Ok(Self {
            id: call.terminal.clone(),
            pid: Pid::from_child(&child),
            command: command[..command.floor_char_boundary(COMMAND_SHOWN)].to_owned(),
            opened_at_ms: timing::now_ms(),
            size: Cell::new(size),
            pty: RefCell::new(Some(Rc::new(pty))),
            scrollback: RefCell::default(),
            input: RefCell::default(),
            exit_code: Cell::new(None),
            complete: Cell::new(false),
            session_gone: Cell::new(false),
            watchers: RefCell::default(),
            remembered: RefCell::default(),
            grown: Notify::new(),
            seen: Notify::new(),
            typed: Notify::new(),
            taken: Notify::new(),
            let_go: Notify::new(),
        })
    }

    pub fn state(&self) -> TerminalState {
        TerminalState {
            terminal: self.id.clone(),
            command: self.command.clone(),
            size: self.size.get(),
            opened_at_ms: self.opened_at_ms,
            exit_code: self.exit_code.get(),
            output: self.scrollback.borrow().end(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.exit_code.get().is_none()
    }

    /// It has descriptors of ours.
    pub fn is_open(&self) -> bool {
        self.pty.borrow().is_some()
    }

    pub fn resize(&self, size: TerminalSize) {
        let size = size.clamped();
        if self.size.replace(size) != size
            && !self.session_gone.get()
            && let Some(pty) = &*self.pty.borrow()
        {
            pty.resize(size, self.pid);
        }
    }

    /// Its program was reaped. What it printed is in the kernel's buffer by now.
    pub fn exited(&self, status: WaitStatus, scratch: &mut [u8]) {
        let mut read = 0;
        while read < SCROLLBACK {
            let Some(pty) = self.pty.borrow().clone() else {
                break;
            };
            match rustix::io::read(&pty.output, &mut *scratch) {
                Ok(bytes) if bytes > 0 => {
                    self.scrollback.borrow_mut().push(&scratch[..bytes]);
                    read += bytes;
                }
                Err(rustix::io::Errno::INTR) => {}
                // The reading task meets it too.
                Ok(_) | Err(_) => break,
            }
        }
        let exit_code = status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        self.exit_code.set(Some(exit_code.unwrap_or(-1)));
        self.complete.set(true);
        self.grown.notify_waiters();
    }

    /// Reads output until nobody inside holds the terminal.
    pub async fn read(&self, scratch: &RefCell<Vec<u8>>) {
        loop {
            self.wait_for_viewers().await;
            let Some(pty) = self.pty.borrow().clone() else {
                return;
            };
            let gone = tokio::select! {
                readable = pty.output.readable() => readable.is_err(),
                () = self.let_go.notified() => true,
            };
            if gone {
                return self.shut();
            }
            if !self.read_some(&pty, &mut scratch.borrow_mut()) {
                return self.shut();
            }
            tokio::task::yield_now().await;
        }
    }

    /// False: nothing will come any more.
    fn read_some(&self, pty: &Pty, scratch: &mut [u8]) -> bool {
        match pty.output.try_read(scratch) {
            Ok(bytes) if bytes > 0 => {
                self.scrollback.borrow_mut().push(&scratch[..bytes]);
                self.grown.notify_waiters();
                true
            }
            // EIO: the last of those inside has closed it.
            Ok(_) => false,
            Err(error) => is_passing(error.kind()),
        }
    }

    /// Hands what was typed to the program.
    pub async fn feed(&self) {
        loop {
            while self.input.borrow().is_empty() {
                if !self.is_open() {
                    return;
                }
                self.typed.notified().await;
            }
            let Some(pty) = self.pty.borrow().clone() else {
                return;
            };
            let gone = tokio::select! {
                writable = pty.input.writable() => writable.is_err(),
                // Shut meanwhile, perhaps.
                () = self.typed.notified() => continue,
            };
            self.feed_some(&pty, gone);
            self.taken.notify_waiters();
            tokio::task::yield_now().await;
        }
    }

    fn feed_some(&self, pty: &Pty, gone: bool) {
        let mut input = self.input.borrow_mut();
        let written = match pty.input.try_write(input.as_slices().0) {
            Ok(bytes) => bytes,
            Err(error) if is_passing(error.kind()) && !gone => 0,
            // Nobody will read it.
            Err(_) => input.len(),
        };
        input.drain(..written);
    }

    /// Lets go of our end: who still holds the other gets SIGHUP, and errors from then on.
    pub fn shut(&self) {
        self.pty.borrow_mut().take();
        self.input.borrow_mut().clear();
        self.let_go.notify_waiters();
        self.typed.notify_waiters();
        self.taken.notify_waiters();
        self.grown.notify_waiters();
    }

    /// Ends all that runs in its session, and the terminal.
    pub async fn close(&self, grace: Duration) {
        let foreground = self.pty.borrow().as_ref().and_then(|pty| pty.foreground());
        for group in [Some(self.pid), foreground].into_iter().flatten() {
            if !self.session_gone.get() {
                // Gone is as good.
                let _ = rustix::process::kill_process_group(group, Signal::HUP);
                let _ = rustix::process::kill_process_group(group, Signal::CONT);
            }
        }
        let gone = async {
            while self.is_running() {
                tokio::time::sleep(timing::GROUP_POLL).await;
            }
        };
        let _ = tokio::time::timeout(grace.min(timing::JOB_MAX), gone).await;
        if self.is_open() && !self.session_gone.get() {
            for pid in processes::of_session(self.pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        let reaped = async {
            while self.is_running() {
                tokio::time::sleep(timing::GROUP_POLL).await;
            }
        };
        // Its reaping comes as soon as the kernel lets go of it.
        let _ = tokio::time::timeout(timing::KILLED, reaped).await;
        self.shut();
    }

    /// The kernel gave our number to another program: our session had ended.
    pub fn lose_session(&self) {
        self.session_gone.set(true);
    }

    /// Waits while a viewer is too far behind, but not for long.
    async fn wait_for_viewers(&self) {
        let behind = |most: u64| {
            let end = self.scrollback.borrow().end();
            let watchers = self.watchers.borrow();
            let awaited = watchers.iter().filter(|watcher| !watcher.late.get());
            awaited
                .filter(|watcher| end.saturating_sub(watcher.at.get()) > most)
                .cloned()
                .collect::<Vec<_>>()
        };
        if behind(BEHIND).is_empty() {
            return;
        }
        let caught_up = async {
            while !behind(BEHIND / 2).is_empty() {
                self.seen.notified().await;
            }
        };
        let waited = tokio::time::timeout(timing::TERMINAL_PATIENCE, caught_up);
        if waited.await.is_err() {
            for watcher in behind(BEHIND / 2) {
                watcher.late.set(true);
            }
        }
    }

    /// A viewer comes, or comes back.
    pub fn attach(
        self: &Rc<Self>,
        viewer: String,
        offset: Option<u64>,
    ) -> Result<(Attachment, u64), Refusal> {
        let mut watchers = self.watchers.borrow_mut();
        if watchers.len() >= MAX_VIEWERS {
            let kind = init_protocol::RefusalKind::TooMany;
            return Err(Refusal::new(kind, "too many viewers of this terminal"));
        }
        let scrollback = self.scrollback.borrow();
        let at = offset
            .unwrap_or(0)
            .clamp(scrollback.start(), scrollback.end());
        let watcher = Rc::new(Watcher {
            at: Cell::new(at),
            late: Cell::new(false),
        });
        watchers.push(watcher.clone());
        let mut remembered = self.remembered.borrow_mut();
        let known = remembered.iter().position(|(known, _)| *known == viewer);
        let (name, taken) = known
            .and_then(|at| remembered.remove(at))
            .unwrap_or((viewer, 0));
        let viewer = name.clone();
        remembered.push_back((name, taken));
        if remembered.len() > MAX_REMEMBERED {
            remembered.pop_front();
        }
        let attachment = Attachment {
            terminal: self.clone(),
            viewer,
            watcher,
        };
        Ok((attachment, taken))
    }
}

impl Attachment {
    /// The number of the next byte that it sees.
    pub fn at(&self) -> u64 {
        self.watcher.at.get()
    }

    /// What it sees next; waits for it. Cancel safe: what it did not return was not seen.
    pub async fn next(&self, into: &mut Vec<u8>) -> Sight {
        let Self {
            terminal, watcher, ..
        } = self;
        loop {
            {
                let scrollback = terminal.scrollback.borrow();
                let (start, at) = (scrollback.start(), watcher.at.get());
                if at < start {
                    watcher.at.set(start);
                    return Sight::Gap(start - at);
                }
                let count = scrollback.copy(at, CHUNK, into);
                if count > 0 {
                    watcher.at.set(at + count as u64);
                    if watcher.at.get() == scrollback.end() {
                        watcher.late.set(false);
                    }
                    terminal.seen.notify_waiters();
                    return Sight::Output;
                }
            }
            if terminal.complete.get() {
                return Sight::End;
            }
            terminal.grown.notified().await;
        }
    }

    /// Takes what was typed, when there is room for it. How much there was of this viewer, ever.
    pub async fn take(&self, mut bytes: &[u8]) -> u64 {
        let terminal = &self.terminal;
        while !bytes.is_empty() && terminal.is_open() {
            let room = INPUT.saturating_sub(terminal.input.borrow().len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if now.is_empty() {
                terminal.taken.notified().await;
                continue;
            }
            terminal.input.borrow_mut().extend(now);
            self.count(now.len());
            bytes = later;
            terminal.typed.notify_waiters();
        }
        // What comes after the end is heard, and of no effect.
        self.count(bytes.len())
    }

    fn count(&self, bytes: usize) -> u64 {
        let mut remembered = self.terminal.remembered.borrow_mut();
        let mut ours = remembered
            .iter_mut()
            .filter(|(name, _)| *name == self.viewer);
        ours.next().map_or(0, |(_, taken)| {
            *taken += bytes as u64;
            *taken
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut watchers = self.terminal.watchers.borrow_mut();
        watchers.retain(|watcher| !Rc::ptr_eq(watcher, &self.watcher));
        drop(watchers);
        self.terminal.seen.notify_waiters();
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
