//! The table and the JSON.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use fleeks_tests::Runtime;
use fleeks_tests::world::repository;
use serde::Serialize;

use crate::sample::Percentiles;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    machine: Option<Machine>,
    times: Vec<Time>,
    sizes: Vec<Size>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpus: usize,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Time {
    runtime: &'static str,
    what: &'static str,
    /// What the design aims at, as it is written there.
    aim: &'static str,
    #[serde(flatten)]
    percentiles: Percentiles,
}

#[derive(Debug, Serialize)]
struct Size {
    runtime: &'static str,
    what: &'static str,
    aim: &'static str,
    bytes: u64,
}

impl Report {
    /// Adds timings.
    pub fn time(
        &mut self,
        runtime: Runtime,
        what: &'static str,
        aim: &'static str,
        percentiles: Percentiles,
    ) {
        self.times.push(Time {
            runtime: runtime.name(),
            what,
            aim,
            percentiles,
        });
    }

    /// Adds a size.
    pub fn size(&mut self, runtime: Runtime, what: &'static str, aim: &'static str, bytes: u64) {
        self.sizes.push(Size {
            runtime: runtime.name(),
            what,
            aim,
            bytes,
        });
    }

    /// Prints the table, runtimes side by side.
    pub fn print(&mut self) -> Result<()> {
        self.machine = Some(Machine {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        });
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "| what (ms) | aim, P95 | runc P50 / P95 / P99 | runsc P50 / P95 / P99 |"
        )?;
        writeln!(out, "|---|---|---|---|")?;
        for what in distinct(self.times.iter().map(|time| (time.what, time.aim))) {
            let cell = |runtime: &str| {
                let found = self
                    .times
                    .iter()
                    .find(|time| time.runtime == runtime && time.what == what.0);
                found.map_or("–".to_owned(), |time| {
                    let Percentiles { p50, p95, p99, .. } = time.percentiles;
                    format!("{p50:.1} / **{p95:.1}** / {p99:.1}")
                })
            };
            writeln!(
                out,
                "| {} | {} | {} | {} |",
                what.0,
                what.1,
                cell("runc"),
                cell("runsc")
            )?;
        }
        writeln!(out, "\n| what (MiB) | aim | runc | runsc |")?;
        writeln!(out, "|---|---|---|---|")?;
        for what in distinct(self.sizes.iter().map(|size| (size.what, size.aim))) {
            let cell = |runtime: &str| {
                let found = self
                    .sizes
                    .iter()
                    .find(|size| size.runtime == runtime && size.what == what.0);
                found.map_or("–".to_owned(), |size| {
                    format!("{:.1}", size.bytes as f64 / f64::from(1 << 20))
                })
            };
            writeln!(
                out,
                "| {} | {} | {} | {} |",
                what.0,
                what.1,
                cell("runc"),
                cell("runsc")
            )?;
        }
        Ok(())
    }

    /// Writes `target/bench/fleeks.json`.
    pub fn write(&self) -> Result<()> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repository().join("target"), PathBuf::from);
        let directory = target.join("bench");
        fs::create_dir_all(&directory)?;
        fs::write(
            directory.join("fleeks.json"),
            serde_json::to_vec_pretty(self)?,
        )?;
        Ok(())
    }
}

fn distinct<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
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
