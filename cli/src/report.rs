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
