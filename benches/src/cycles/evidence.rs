//! What is kept of a cycle that failed: `target/bench/evidence/<runtime>/<cycle>/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fleeks_tests::{Runtime, World};

use super::workload::Subject;
use crate::report::directory;

/// Of so many failures the volume and snapshots are kept as well.
const WHOLE: usize = 5;
/// Lines of the platform's log.
const LINES: usize = 400;

/// What an earlier run kept goes.
pub fn clear(runtime: Runtime) -> Result<()> {
    let _ = fs::remove_dir_all(directory()?.join("evidence").join(runtime.name()));
    Ok(())
}

/// Error, log, and of the first failures everything of the workspace.
pub fn keep(
    world: &World,
    subject: &Subject,
    number: usize,
    failures: usize,
    text: &str,
) -> Result<()> {
    let of_runtime = directory()?.join("evidence").join(world.runtime().name());
    let place = of_runtime.join(number.to_string());
    fs::create_dir_all(&place)?;
    let log = fs::read_to_string(world.log_file()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let container = &subject.workspace.container;
    fs::write(
        place.join("error.txt"),
        format!("{text}\n{container}\n\n{end}\n"),
    )?;
    if failures > WHOLE {
        return Ok(());
    }
    let data = world.data_dir();
    for home in fs::read_dir(data.join("volumes"))? {
        let home = home?.path();
        let record = fs::read_to_string(home.join("workspace.json")).unwrap_or_default();
        if record.contains(container) {
            let name = home.file_name().context("a volume without a name")?;
            copy(&home, &place.join("volume"))?;
            copy(&data.join("snapshots").join(name), &place.join("snapshots"))?;
        }
    }
    Ok(())
}

/// Directories and plain files; what goes meanwhile is gone.
fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy(&entry.path(), &to)?,
            Ok(kind) if kind.is_file() => drop(fs::copy(entry.path(), to)),
            _ => {}
        }
    }
    Ok(())
}
