//! What the command line prints. The only place that writes to the terminal.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where printing lives"
)]

/// An error, for people.
pub fn error(text: &str) {
    eprintln!("fleeks: {text}");
}

/// What to do about it.
pub fn advice(text: &str) {
    eprintln!("        {text}");
}

/// An error, for scripts.
pub fn error_document(document: &serde_json::Value) {
    eprintln!("{document}");
}

/// A line of output.
pub fn line(text: &str) {
    println!("{text}");
}

/// How long work goes: to standard error, over the last such line at a terminal.
pub fn progress(text: &str) {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    } else {
        eprintln!("{text}");
    }
}
