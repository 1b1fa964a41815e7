//! What the command line says besides its output. A terminal or pipe that is gone stops no command:
//! there is nobody left to tell.

use std::io::{self, IsTerminal as _, Write as _};

/// An error, for people.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr(), "fleeks: {text}");
}

/// What to do about it.
pub fn advice(text: &str) {
    let _ = writeln!(io::stderr(), "        {text}");
}

/// An error, for scripts.
pub fn error_document(document: &serde_json::Value) {
    let _ = writeln!(io::stderr(), "{document}");
}

/// A line of output that nothing depends on.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// How long work goes: to standard error, over the last such line at a terminal.
pub fn progress(text: &str) {
    let mut stderr = io::stderr();
    let _ = match stderr.is_terminal() {
        true => write!(stderr, "\r\x1b[K{text}"),
        false => writeln!(stderr, "{text}"),
    };
}
