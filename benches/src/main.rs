//! `fleeks-bench [runc] [runsc]`: what the platform costs, measured from outside on a real
//! `fleeks up` per runtime. Prints a table, writes `target/bench/fleeks.json`.
//!
//! Must never happen here: an assertion about time. Benches report, tests decide.

mod measure;
mod report;
mod sample;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fleeks_tests::Runtime;

use crate::report::Report;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::default();
    for runtime in [Runtime::Runc, Runtime::Runsc] {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == runtime.name()) {
            continue;
        }
        report::progress(runtime, "measuring");
        measure::all(runtime, &mut report)
            .with_context(|| format!("measure {}", runtime.name()))?;
    }
    report.print()?;
    report.write()
}
