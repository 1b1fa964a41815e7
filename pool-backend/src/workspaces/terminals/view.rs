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

mod input;
mod viewer;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use fleet::id::TerminalId;
use fleet::record::Woken;
use init_protocol::terminal::TerminalSize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::Workspace;
use super::{Terminal, no_such_terminal, terminal};
use crate::error::Error;
use input::{Input, Key};
use viewer::Viewer;

/// Bytes of input that are kept until init has them; who types more waits.
const INPUT_KEPT: usize = 64 * 1024;
/// Pieces of output that wait for the viewer.
const OUTPUT_KEPT: usize = 4;

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
