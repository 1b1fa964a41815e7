//! What is said over a terminal's websocket besides bytes, and how it ends. docs/api/terminal.md
//! has it for clients.
//!
//! Must never happen here: a message of a client that decides by its size what it costs.

use http::StatusCode;
use pool_backend::workspaces::{TerminalSize, View};
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::Problem;

/// From a client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// First, where no header had the key.
    Auth { key: String },
    /// Its window has this size.
    Resize { cols: u16, rows: u16 },
}

impl Said {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// To a client.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told<'a> {
    /// First.
    Ready {
        terminal_id: &'a str,
        /// The number of the first byte of output that follows.
        offset: u64,
        cols: u16,
        rows: u16,
    },
    /// So much output is lost.
    Gap { bytes: u64 },
    /// The workspace sleeps.
    Asleep,
    /// It is awake again.
    Awake { woken: &'static str },
    /// The program has exited; -1: it ended with its container.
    Exit { exit_code: i32 },
}

impl Told<'_> {
    pub(super) fn message(&self) -> Message {
        // Plain data always serializes.
        Message::text(serde_json::to_string(self).unwrap_or_default())
    }
}

/// The first message.
pub(super) fn ready(view: &View) -> Message {
    let TerminalSize { cols, rows } = view.terminal.size;
    Told::Ready {
        terminal_id: view.terminal.id.as_str(),
        offset: view.offset,
        cols,
        rows,
    }
    .message()
}

/// How it ends: a code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: String,
}

/// Longest reason that fits into a close frame, with room for its code.
const REASON_MAX: usize = 120;

impl Farewell {
    pub(super) const EXITED: u16 = 1000;
    pub(super) const LEAVING: u16 = 1001;
    pub(super) const NOT_UNDERSTOOD: u16 = 1003;
    pub(super) const TOO_LARGE: u16 = 1009;
    pub(super) const TRY_LATER: u16 = 1013;
    pub(super) const NO_KEY: u16 = 4401;
    pub(super) const MAY_NOT: u16 = 4403;
    pub(super) const NOT_FOUND: u16 = 4404;
    pub(super) const GONE: u16 = 4410;

    pub(super) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(REASON_MAX));
        Self { code, reason }
    }

    /// For what would have been the answer to a request.
    pub(super) fn of(problem: &Problem) -> Self {
        let code = match problem.status() {
            StatusCode::UNAUTHORIZED => Self::NO_KEY,
            StatusCode::FORBIDDEN => Self::MAY_NOT,
            StatusCode::NOT_FOUND => Self::NOT_FOUND,
            _ => Self::TRY_LATER,
        };
        Self::new(code, problem.detail())
    }

    pub(super) fn frame(self) -> CloseFrame {
        CloseFrame {
            code: self.code.into(),
            reason: self.reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire() {
        let text = |told: Told<'_>| told.message().into_text().unwrap().to_string();
        let ready = Told::Ready {
            terminal_id: "tty_a",
            offset: 7,
            cols: 80,
            rows: 24,
        };
        assert_eq!(
            text(ready),
            r#"{"type":"ready","terminal_id":"tty_a","offset":7,"cols":80,"rows":24}"#
        );
        assert_eq!(text(Told::Gap { bytes: 3 }), r#"{"type":"gap","bytes":3}"#);
        assert_eq!(text(Told::Asleep), r#"{"type":"asleep"}"#);
        assert_eq!(
            text(Told::Awake { woken: "memory" }),
            r#"{"type":"awake","woken":"memory"}"#
        );
        assert_eq!(
            text(Told::Exit { exit_code: 130 }),
            r#"{"type":"exit","exit_code":130}"#
        );
        assert!(matches!(
            Said::parse(r#"{"type":"resize","cols":10,"rows":20}"#),
            Some(Said::Resize { cols: 10, rows: 20 })
        ));
        assert!(matches!(
            Said::parse(r#"{"type":"auth","key":"k"}"#),
            Some(Said::Auth { key }) if key == "k"
        ));
        for bad in [
            "",
            "resize",
            "[]",
            r#"{"type":"resize"}"#,
            r#"{"type":"resize","cols":70000,"rows":1}"#,
            r#"{"type":"resize","cols":-1,"rows":1}"#,
            r#"{"type":"run"}"#,
        ] {
            assert!(Said::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn reasons_fit_into_a_close_frame() {
        let long = Farewell::new(Farewell::GONE, "ü".repeat(200));
        assert!(long.reason.len() <= 123 && !long.reason.is_empty());
    }
}
