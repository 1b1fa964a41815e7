//! `fleeks-bench [WHAT…] [runc] [runsc]`: what the platform costs, measured from outside on a real
//! `fleeks up` per runtime. Prints tables, writes JSON to `target/bench/`.
//!
//! Must never happen here: an assertion about time. Benches report, tests decide.

mod article;
mod crowd;
mod cycles;
mod measure;
mod options;
mod pool;
mod report;
mod sample;
mod sleep;
mod stampede;
mod templates;
mod typing;
mod watch;
mod yardstick;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::options::{Options, What};
use crate::report::Report;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    for what in options.what() {
        for runtime in options.runtimes() {
            report::progress(runtime, what.name());
            let measured = match what {
                What::Basics => measure::all(runtime, &mut report),
                What::Crowd => crowd::all(runtime, options, &mut report),
                What::Sleep => sleep::all(runtime, options, &mut report),
                What::Stampede => stampede::all(runtime, options, &mut report),
                What::Pool => pool::all(runtime, options, &mut report),
                What::Cycles => cycles::all(runtime, options, &mut report),
                What::Templates => templates::all(runtime, options, &mut report),
                What::Article => article::all(runtime, &mut report),
            };
            if let Err(error) = measured {
                // What was measured before counts all the same.
                report.finish(&options.name())?;
                let context = format!("measure {} of {}", what.name(), runtime.name());
                return Err(error.context(context));
            }
        }
    }
    report.finish(&options.name())
}
