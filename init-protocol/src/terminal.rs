//! Interactive terminals: programs at a pseudo terminal that several viewers see and use at once.
//!
//! A terminal's output is numbered from its first byte on. The end of it is kept
//! ([`SCROLLBACK`]), so whoever lost a connection goes on where it was, or learns how much it missed.
//! A viewer that reads too slowly holds the program up for a moment only, then it misses output.

use serde::{Deserialize, Serialize};

/// Bytes of output that are kept.
pub const SCROLLBACK: usize = 256 * 1024;
/// Terminals with a program in them, at a time.
pub const MAX_RUNNING: usize = 16;
/// Terminals that are remembered; the oldest that has ended goes first.
pub const MAX_TERMINALS: usize = 32;
/// Viewers of one terminal at a time.
pub const MAX_VIEWERS: usize = 32;
/// Bytes of input that wait for the program to read.
pub const INPUT: usize = 64 * 1024;
/// Widest and highest window.
pub const MAX_SIDE: u16 = 1000;

/// A terminal to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenTerminal {
    /// Minted by the node; a second call with the same id finds the first one's.
    pub terminal: String,
    /// A shell line; none: an interactive shell.
    pub command: Option<String>,
    /// Absolute, inside the container.
    pub working_dir: String,
    /// Added to the container's own.
    pub environment: Vec<(String, String)>,
    /// Of its window.
    pub size: TerminalSize,
}

/// Of a window, in letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Its width.
    pub cols: u16,
    /// Its height.
    pub rows: u16,
}

impl TerminalSize {
    /// Within what a window may be: 1 to [`MAX_SIDE`] each.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            cols: self.cols.clamp(1, MAX_SIDE),
            rows: self.rows.clamp(1, MAX_SIDE),
        }
    }
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalState {
    /// Its id.
    pub terminal: String,
    /// The start of its command, of an interactive shell the shell's name.
    pub command: String,
    /// Of its window.
    pub size: TerminalSize,
    /// Milliseconds since the Unix epoch, by the container's clock.
    pub opened_at_ms: u64,
    /// Once its program has exited: the exit code, 128 + signal when a signal ended it.
    pub exit_code: Option<i32>,
    /// Bytes of output so far; the last [`SCROLLBACK`] of them are kept.
    pub output: u64,
}
