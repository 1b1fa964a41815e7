//! Interactive terminals: opened, listed, ended, and viewed ([`view`]).
//!
//! They live in the container and sleep with it. Opening one, or coming to view one, is use, and
//! wakes the workspace; merely having one open is not, and neither is what it prints.
//!
//! Must never happen here: a terminal of another workspace's, or one that is started to be looked
//! at.

mod view;

use fleet::id::TerminalId;
use fleet::timing;
use init_protocol::terminal::{OpenTerminal, TerminalState};
use time::OffsetDateTime;

pub use init_protocol::terminal::TerminalSize;
pub use view::{Keyboard, View, Viewed};

use super::jobs::{checked, moment};
use super::{Command, Workspace};
use crate::error::{Error, ErrorKind};

/// A terminal to open.
#[derive(Debug, Clone)]
pub struct TerminalWish {
    /// A shell line; none: an interactive shell.
    pub command: Option<String>,
    /// As in [`Command`].
    pub working_dir: String,
    /// Added to the container's own.
    pub environment: Vec<(String, String)>,
    /// Of its window; kept within 1 to 1000 each.
    pub size: TerminalSize,
}

/// A terminal.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Its id.
    pub id: TerminalId,
    /// The start of its command; an interactive shell's name.
    pub command: String,
    /// Of its window.
    pub size: TerminalSize,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// Once its program has exited.
    pub exit_code: Option<i32>,
}

impl Workspace {
    /// Starts a program at a terminal of its own.
    ///
    /// # Errors
    /// `Invalid`; `TooMany` when as many are open as may be; `NotReady` when the workspace does not
    /// start, or ends meanwhile.
    pub async fn open_terminal(&self, wish: TerminalWish) -> Result<Terminal, Error> {
        let run = checked(
            Command {
                command: wish.command.clone().unwrap_or_default(),
                working_dir: wish.working_dir,
                environment: wish.environment,
                timeout: None,
            },
            None,
        )?;
        let id = TerminalId::mint();
        let open = OpenTerminal {
            terminal: id.as_str().to_owned(),
            command: wish.command,
            working_dir: run.working_dir,
            environment: run.environment,
            size: wish.size.clamped(),
        };
        let state = self
            .calling(|init| {
                let open = open.clone();
                async move { init.open_terminal(&open).await }
            })
            .await?;
        Ok(terminal(state, &id))
    }

    /// All terminals that init remembers, oldest first. None of a stopped workspace; a sleeping one
    /// is woken to look.
    ///
    /// # Errors
    /// `NotReady`.
    pub async fn terminals(&self) -> Result<Vec<Terminal>, Error> {
        let states = self.while_alive(|init| async move { init.terminals().await });
        let states = states.await?.unwrap_or_default();
        // The client has checked that the ids are ids.
        let known = states.into_iter().filter_map(|state| {
            let id = state.terminal.parse().ok()?;
            Some(terminal(state, &id))
        });
        Ok(known.collect())
    }

    /// One terminal.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`.
    pub async fn terminal(&self, id: &TerminalId) -> Result<Terminal, Error> {
        let state = self.while_alive(|init| async move { init.terminal(id).await });
        let state = state.await?.ok_or_else(no_such_terminal)?;
        Ok(terminal(state, id))
    }

    /// Ends all that runs at a terminal, and forgets it.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`.
    pub async fn close_terminal(&self, id: &TerminalId) -> Result<Terminal, Error> {
        let state = self.while_alive(|init| async move {
            init.close_terminal(id, timing::TERMINAL_GRACE).await
        });
        let state = state.await?.ok_or_else(no_such_terminal)?;
        self.handle.touch();
        Ok(terminal(state, id))
    }
}

fn terminal(state: TerminalState, id: &TerminalId) -> Terminal {
    Terminal {
        id: id.clone(),
        command: state.command,
        size: state.size,
        created_at: moment(state.opened_at_ms),
        exit_code: state.exit_code,
    }
}

fn no_such_terminal() -> Error {
    Error::new(ErrorKind::NotFound, "no such terminal")
}
