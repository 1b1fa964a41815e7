//! The Python SDK from PyPI, unmodified, driving the platform as its users do.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process;
use crate::world::{World, repository};

/// Runs `tests/sdk/<script>` with arguments; the JSON of the last line it prints.
pub fn run(world: &World, script: &str, arguments: &[&str], limit: Duration) -> Result<Value> {
    let output = process::run(command(world, script, arguments)?, limit)?
        .success()
        .with_context(|| format!("tests/sdk/{script}"))?;
    let last = output.trim().lines().next_back().unwrap_or("null");
    serde_json::from_str(last).with_context(|| format!("{script} printed {last:?}"))
}

/// What [`run`] runs.
pub fn command(world: &World, script: &str, arguments: &[&str]) -> Result<Command> {
    let python = repository().join(".venv/bin/python");
    ensure!(
        python.exists(),
        "{} is missing: run `ops/setup --tests`",
        python.display()
    );
    let api = world.api()?;
    let mut command = Command::new(python);
    command
        .arg(repository().join("tests/sdk").join(script))
        .args(arguments);
    command
        .env("FLEEKS_BASE_URL", api.base())
        .env("FLEEKS_API_KEY", api.key());
    command
        .env("NO_PROXY", "*")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
