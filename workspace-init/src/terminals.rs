//! All terminals of this container.
//!
//! Must never happen here: a number of terminals, or memory for them, without a bound.

mod pty;
mod scrollback;
mod terminal;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use init_protocol::RefusalKind;
use init_protocol::terminal::{MAX_RUNNING, MAX_TERMINALS, OpenTerminal, TerminalState};

use crate::jobs::{self, Jobs};
use crate::refusal::Refusal;
pub use terminal::{Attachment, Sight, Terminal};

/// See the module.
pub struct Terminals {
    /// Who reaps.
    jobs: Rc<Jobs>,
    /// Oldest first.
    terminals: RefCell<Vec<Rc<Terminal>>>,
    scratch: Rc<RefCell<Vec<u8>>>,
}

impl Terminals {
    pub fn new(jobs: Rc<Jobs>) -> Self {
        Self {
            jobs,
            terminals: RefCell::default(),
            scratch: Rc::new(RefCell::new(vec![0; terminal::CHUNK])),
        }
    }

    /// Opens a terminal, or finds the one that has this id.
    pub fn open(&self, call: &OpenTerminal) -> Result<Rc<Terminal>, Refusal> {
        if let Ok(there) = self.get(&call.terminal) {
            return Ok(there);
        }
        check(call)?;
        self.make_room()?;
        let terminal = Rc::new(Terminal::open(call)?);
        let exit = self.jobs.exit_of(terminal.pid);
        let mut terminals = self.terminals.borrow_mut();
        for other in terminals.iter().filter(|other| other.pid == terminal.pid) {
            other.lose_session();
        }
        terminals.push(terminal.clone());
        let (reading, scratch) = (terminal.clone(), self.scratch.clone());
        tokio::task::spawn_local(async move { reading.read(&scratch).await });
        let feeding = terminal.clone();
        tokio::task::spawn_local(async move { feeding.feed().await });
        let (ending, scratch) = (terminal.clone(), self.scratch.clone());
        tokio::task::spawn_local(async move {
            if let Ok(status) = exit.await {
                ending.exited(status, &mut scratch.borrow_mut());
            }
        });
        Ok(terminal)
    }

    pub fn get(&self, id: &str) -> Result<Rc<Terminal>, Refusal> {
        let terminals = self.terminals.borrow();
        let found = terminals.iter().find(|terminal| terminal.id == id);
        found
            .cloned()
            .ok_or_else(|| Refusal::new(RefusalKind::NotFound, "no such terminal"))
    }

    /// Oldest first.
    pub fn states(&self) -> Vec<TerminalState> {
        let terminals = self.terminals.borrow();
        terminals.iter().map(|terminal| terminal.state()).collect()
    }

    /// Ends it and forgets it. It goes on when the caller does not wait.
    pub async fn close(&self, id: &str, grace: Duration) -> Result<TerminalState, Refusal> {
        let terminal = self.get(id)?;
        let ending = terminal.clone();
        let ended = tokio::task::spawn_local(async move { ending.close(grace).await });
        // A task of ours ends only by ending: nothing aborts it.
        let _ = ended.await;
        self.terminals
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &terminal));
        Ok(terminal.state())
    }

    /// Forgets the oldest that has ended, when there are too many; lets go of those whose program
    /// has exited and left somebody behind.
    fn make_room(&self) -> Result<(), Refusal> {
        let mut terminals = self.terminals.borrow_mut();
        let running = terminals.iter().filter(|terminal| terminal.is_running());
        if running.count() >= MAX_RUNNING {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                "too many terminals are open",
            ));
        }
        while terminals.len() >= MAX_TERMINALS {
            let ended = terminals.iter().position(|terminal| !terminal.is_running());
            let Some(at) = ended else {
                return Err(Refusal::new(RefusalKind::TooMany, "too many terminals"));
            };
            terminals.remove(at).shut();
        }
        Ok(())
    }
}

/// What is wrong with a call, seen without trying.
fn check(call: &OpenTerminal) -> Result<(), Refusal> {
    jobs::check_id(&call.terminal)?;
    jobs::check_words(
        call.command.as_deref().unwrap_or_default(),
        &call.working_dir,
        &call.environment,
    )
}
