//! Runs the administrators' programs that own the stores.

use std::io;
use std::process::Stdio;

use fleet::timing;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs `command` to its end with `input`; its output, or why it failed (for people).
pub async fn run(command: &mut Command, input: &str) -> Result<String, Failure> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ran = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want it all says so by its exit status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(timing::STORE_UPDATE, ran).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        Ok(Err(error)) => return Err(Failure::Failed(format!("{program}: {error}"))),
        Err(_) => {
            let limit = timing::STORE_UPDATE;
            return Err(Failure::Failed(format!(
                "{program} did not end within {limit:?}"
            )));
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default();
    Err(Failure::Failed(format!(
        "{program}: {} {said}",
        output.status
    )))
}

/// Why there is no output.
#[derive(Debug)]
pub enum Failure {
    /// The program is not installed.
    Missing,
    /// It ended badly; the text says how.
    Failed(String),
}
