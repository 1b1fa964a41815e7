//! Runs a runtime's program, bounded in time and output.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use fleet::timing;
use tokio::process::Command;

use super::RuntimeError;

/// How much of what a program printed goes into an error.
const OUTPUT_TAIL: usize = 2000;

/// How a command's output is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// Read both streams.
    Both,
    /// Give it /dev/null: what it starts keeps these files for its whole life.
    Nothing,
}

/// Runs `command` to its end.
///
/// # Errors
/// It cannot be run, or takes longer than `timing::RUNTIME_COMMAND` (it is killed then).
pub async fn run(
    mut command: Command,
    action: &'static str,
    capture: Capture,
) -> Result<Output, RuntimeError> {
    let stream = || match capture {
        Capture::Both => Stdio::piped(),
        Capture::Nothing => Stdio::null(),
    };
    command
        .stdin(Stdio::null())
        .stdout(stream())
        .stderr(stream())
        .kill_on_drop(true);
    let program = command.as_std().get_program().to_owned();
    let child = command.spawn().map_err(|error| RuntimeError::Unusable {
        program: PathBuf::from(program).display().to_string(),
        reason: error.to_string(),
    })?;
    tokio::time::timeout(timing::RUNTIME_COMMAND, child.wait_with_output())
        .await
        .map_err(|_| RuntimeError::TimedOut { action })?
        .map_err(|source| RuntimeError::Io {
            context: action,
            source,
        })
}

/// The error of a command that ran and failed.
pub fn failed(action: &'static str, output: &Output, log: &str) -> RuntimeError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = if stderr.trim().is_empty() {
        log
    } else {
        stderr.trim()
    };
    let mut start = said.len().saturating_sub(OUTPUT_TAIL);
    while !said.is_char_boundary(start) {
        start += 1;
    }
    RuntimeError::Failed {
        action,
        output: format!("{}: {}", output.status, &said[start..]),
    }
}

/// The same end, with nothing printed.
pub fn silent(output: &Output) -> Output {
    Output {
        status: output.status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    }
}
