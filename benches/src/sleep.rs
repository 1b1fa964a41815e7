//! Sleep and wake as owners and visitors see them: each step by the API, and the first answer
//! through TLS from each state, of processes of several sizes. Every answer is compared with what
//! the process knew before.

mod cost;
pub mod mass;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::{Runtime, World};

use self::mass::Mass;
use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::Samples;

/// Resident sizes of the measured processes.
const SIZES: [u64; 3] = [10, 50, 200];
/// For all rounds of one size.
const LIMIT: Duration = Duration::from_secs(60);
/// Workspaces that are found stopped by visitors, after a restart of the platform.
const STOPPED: usize = 8;

/// Everything, on one runtime.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    for size in SIZES {
        progress(runtime, &format!("sleep of {size} MiB"));
        let mass = Mass::start(&world, size)?;
        let mut taken = Taken::default();
        let begun = std::time::Instant::now();
        for round in 0..options.rounds {
            taken
                .round(&world, &mass)
                .with_context(|| format!("round {round} of {size} MiB"))?;
            if begun.elapsed() > LIMIT && round >= 4 {
                break;
            }
        }
        taken.report(runtime, size, report);
    }
    progress(runtime, "what sleepers cost");
    cost::of_sleepers(&world, report)?;
    progress(runtime, "what held connections cost");
    cost::of_held(&world, report)?;
    progress(runtime, "first answer of a stopped one");
    stopped(&mut world, report)?;
    world.stop()
}

/// What was measured of one size.
#[derive(Default)]
struct Taken {
    freeze: Samples,
    thaw: Samples,
    hibernate: Samples,
    wake: Samples,
    running: Samples,
    frozen: Samples,
    hibernated: Samples,
    snapshot: u64,
}

impl Taken {
    fn round(&mut self, world: &World, mass: &Mass) -> Result<()> {
        let visit = || mass.visit(world);
        self.running.time(visit)?;
        self.freeze.time(|| mass.order("freeze"))?;
        self.frozen.time(visit)?;
        self.freeze.time(|| mass.order("freeze"))?;
        self.thaw.time(|| mass.order("wake"))?;
        self.hibernate.time(|| mass.order("hibernate"))?;
        self.snapshot = self.snapshot.max(mass.snapshot_bytes(world));
        self.hibernated.time(visit)?;
        mass.check(world).context("woken by a visitor")?;
        self.hibernate.time(|| mass.order("hibernate"))?;
        self.wake.time(|| mass.order("wake"))?;
        mass.check(world).context("woken by its owner")
    }

    fn report(self, runtime: Runtime, size: u64, report: &mut Report) {
        // The design's numbers are for 50 MiB.
        let aim = |aim: &'static str| if size == 50 { aim } else { "–" };
        let mut say = |what: &str, aim: &'static str, samples: Samples| {
            report.time(runtime, format!("{what}, {size} MiB"), aim, samples.into());
        };
        say("freeze (API call)", aim("–"), self.freeze);
        say("thaw (API call)", aim("–"), self.thaw);
        say("hibernate (API call)", aim("≤ 400"), self.hibernate);
        say("wake (API call)", aim("≤ 300"), self.wake);
        say(
            "first byte, running (new TLS connection)",
            aim("–"),
            self.running,
        );
        say("first byte, frozen", aim("–"), self.frozen);
        say("first byte, hibernated", aim("≤ 500"), self.hibernated);
        report.size(
            runtime,
            format!("snapshot of {size} MiB on disk"),
            "–",
            self.snapshot,
        );
    }
}

/// A visitor comes to a workspace that is started from its volume. Its app is not: the answer says
/// that nothing listens.
fn stopped(world: &mut World, report: &mut Report) -> Result<()> {
    let masses: Vec<Mass> = (0..STOPPED)
        .map(|_| Mass::start(world, 10))
        .collect::<Result<_>>()?;
    world.terminate()?;
    world.start()?;
    let mut samples = Samples::default();
    for mass in &masses {
        samples.time(|| {
            let answer = mass.ask(world, "/")?;
            ensure!(answer.starts_with("HTTP/1.1 502"), "{answer}");
            Ok(())
        })?;
    }
    let what = "first byte, stopped (its app does not start by itself)";
    report.time(world.runtime(), what, "–", samples.into());
    Ok(())
}
