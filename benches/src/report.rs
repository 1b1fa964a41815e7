//! The table and the JSON.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use fleeks_tests::Runtime;
use fleeks_tests::world::repository;
use serde::Serialize;

use crate::cycles::Outcome;
use crate::sample::Percentiles;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    machine: Option<Machine>,
    times: Vec<Time>,
    sizes: Vec<Size>,
    counts: Vec<Count>,
    cycles: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpus: usize,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Time {
    runtime: &'static str,
    what: String,
    /// What the design aims at, as it is written there.
    aim: &'static str,
    #[serde(flatten)]
    percentiles: Percentiles,
}

#[derive(Debug, Serialize)]
struct Size {
    runtime: &'static str,
    what: String,
    aim: &'static str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Count {
    runtime: &'static str,
    what: String,
    aim: &'static str,
    count: u64,
}

impl Report {
    /// Adds timings.
    pub fn time(
        &mut self,
        runtime: Runtime,
        what: impl Into<String>,
        aim: &'static str,
        percentiles: Percentiles,
    ) {
        self.times.push(Time {
            runtime: runtime.name(),
            what: what.into(),
            aim,
            percentiles,
        });
    }

    /// Adds a size.
    pub fn size(
        &mut self,
        runtime: Runtime,
        what: impl Into<String>,
        aim: &'static str,
        bytes: u64,
    ) {
        self.sizes.push(Size {
            runtime: runtime.name(),
            what: what.into(),
            aim,
            bytes,
        });
    }

    /// Adds a count.
    pub fn count(
        &mut self,
        runtime: Runtime,
        what: impl Into<String>,
        aim: &'static str,
        count: u64,
    ) {
        self.counts.push(Count {
            runtime: runtime.name(),
            what: what.into(),
            aim,
            count,
        });
    }

    /// Adds what came of cycles.
    pub fn cycles(&mut self, outcome: Outcome) {
        self.cycles.push(outcome);
    }

    /// Prints it all, and writes `target/bench/<name>.json`.
    pub fn finish(&mut self, name: &str) -> Result<()> {
        self.print()?;
        fs::write(
            directory()?.join(format!("{name}.json")),
            serde_json::to_vec_pretty(self)?,
        )?;
        Ok(())
    }

    /// Runtimes side by side.
    fn print(&mut self) -> Result<()> {
        self.machine = Some(Machine {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        });
        let runtimes = |text: &str| format!("runc{text} | runsc{text}");
        let times = self.times.iter().map(|time| {
            let Percentiles { p50, p95, p99, .. } = time.percentiles;
            let cell = format!("{p50:.1} / **{p95:.1}** / {p99:.1}");
            (time.what.as_str(), time.aim, time.runtime, cell)
        });
        let sizes = self.sizes.iter().map(|size| {
            let cell = format!("{:.2}", size.bytes as f64 / f64::from(1 << 20));
            (size.what.as_str(), size.aim, size.runtime, cell)
        });
        let counts = self.counts.iter().map(|count| {
            let cell = count.count.to_string();
            (count.what.as_str(), count.aim, count.runtime, cell)
        });
        let percentiles = runtimes(" P50 / P95 / P99");
        table(&format!("what (ms) | aim, P95 | {percentiles}"), times)?;
        table(&format!("what (MiB) | aim | {}", runtimes("")), sizes)?;
        table(&format!("what | aim | {}", runtimes("")), counts)?;
        let mut out = std::io::stdout().lock();
        for outcome in &self.cycles {
            writeln!(out, "\n{}", outcome.text())?;
        }
        Ok(())
    }
}

/// Where figures and evidence go.
pub fn directory() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    let directory = target.join("bench");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// (what, aim, runtime, cell)
type Row<'a> = (&'a str, &'a str, &'a str, String);

/// Prints what there is, one line for each `what`, runtimes side by side.
fn table<'a>(head: &str, rows: impl Iterator<Item = Row<'a>>) -> Result<()> {
    let mut lines: Vec<(&str, &str, [String; 2])> = Vec::new();
    for (what, aim, runtime, cell) in rows {
        let known = lines
            .iter()
            .position(|line| (line.0, line.1) == (what, aim));
        let line = known.unwrap_or_else(|| {
            lines.push((what, aim, ["–".to_owned(), "–".to_owned()]));
            lines.len() - 1
        });
        let column = usize::from(runtime != Runtime::Runc.name());
        lines[line].2[column] = cell;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n| {head} |\n|---|---|---|---|")?;
    for (what, aim, [runc, runsc]) in lines {
        writeln!(out, "| {what} | {aim} | {runc} | {runsc} |")?;
    }
    Ok(())
}

/// Says on standard error what is being done.
pub fn progress(runtime: Runtime, what: &str) {
    let _ = writeln!(std::io::stderr(), "{}: {what} …", runtime.name());
}

/// Says on standard error what went wrong.
pub fn complain(error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let _ = writeln!(std::io::stderr(), "fleeks-bench: {}", causes.join(": "));
}
