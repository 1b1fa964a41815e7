//! Many visitors at once: all at one sleeper, and one at each of many sleepers.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use fleeks_tests::metrics::Metrics;
use fleeks_tests::{Runtime, World, raw, together};

use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::Samples;
use crate::sleep::mass::Mass;

/// Requests at one sleeper.
const VISITORS: usize = 500;
/// Memory of each sleeper, in MiB.
const SIZE: u64 = 10;
/// Workspaces that are made and put to sleep together.
const MADE_TOGETHER: usize = 3;
/// Nobody needs more stack than a TLS connection.
const STACK: usize = 256 << 10;

/// Everything, on one runtime.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let world = World::builder(runtime).pool("python", 2).open()?;
    progress(runtime, &format!("{VISITORS} requests at one sleeper"));
    one_sleeper(&world, report)?;
    let count = options.sleepers;
    progress(runtime, &format!("{count} sleepers at once"));
    many_sleepers(&world, count, report)?;
    world.stop()
}

fn one_sleeper(world: &World, report: &mut Report) -> Result<()> {
    let runtime = world.runtime();
    let sleeper = Mass::start(world, 50)?;
    sleeper.order("hibernate")?;
    let generation = sleeper.generation()?;
    let visitors = vec![&sleeper; VISITORS];
    let (answers, restores) = visit(world, &visitors)?;
    let mut samples = Samples::default();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers {
        samples.add(answer.took);
    }
    let restored = sleeper.generation()? - generation;
    ensure!(restored == 1, "{restored} restores for one stampede");
    let what = format!("first byte of {VISITORS} requests at once at one sleeper of 50 MiB");
    report.time(runtime, what, "–", samples.into());
    let what = format!("{VISITORS} requests at one sleeper: served");
    report.count(runtime, what, "500", served as u64);
    let what = format!("{VISITORS} requests at one sleeper: restores");
    report.count(runtime, what, "1", restored.max(restores as u64));
    Ok(())
}

fn many_sleepers(world: &World, count: usize, report: &mut Report) -> Result<()> {
    let runtime = world.runtime();
    let sleepers = together::made(count, MADE_TOGETHER, || {
        let mass = Mass::start(world, SIZE)?;
        mass.order("hibernate")?;
        Ok(mass)
    })?;
    let (answers, restores) = visit(world, &sleepers.iter().collect::<Vec<_>>())?;
    let mut samples = Samples::default();
    let (mut served, mut later) = (0, 0);
    for answer in answers {
        match answer.status {
            200 => served += 1,
            503 => later += 1,
            status => return Err(anyhow!("a sleeper answered {status}")),
        }
        samples.add(answer.took);
    }
    for sleeper in &sleepers {
        sleeper.check_lenient(world)?;
    }
    let what = format!("first byte of {count} sleepers of {SIZE} MiB woken at once");
    report.time(runtime, what, "–", samples.into());
    report.count(
        runtime,
        format!("{count} sleepers at once: served"),
        "all",
        served,
    );
    report.count(
        runtime,
        format!("{count} sleepers at once: told 503"),
        "0",
        later,
    );
    let what = format!("{count} sleepers at once: most restores at a time (cap 8)");
    report.count(runtime, what, "≤ 8", restores as u64);
    Ok(())
}

struct Answer {
    status: u16,
    took: Duration,
}

/// All ask at the same moment, on TLS connections that are open by then. And how many restores
/// there were at a time, by the platform's own count.
fn visit(world: &World, sleepers: &[&Mass]) -> Result<(Vec<Answer>, usize)> {
    let ready = Barrier::new(sleepers.len() + 1);
    std::thread::scope(|scope| {
        let visitor = |sleeper: &Mass| -> Result<Answer> {
            let connected = raw::connect_tls(world, &sleeper.host);
            ready.wait();
            let request = format!(
                "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                sleeper.host
            );
            let begun = Instant::now();
            let answer = raw::talk(&mut connected?, request.as_bytes())?;
            let status = raw::status(&answer).with_context(|| answer.clone())?;
            Ok(Answer {
                status,
                took: begun.elapsed(),
            })
        };
        let visitors: Result<Vec<_>> = sleepers
            .iter()
            .map(|sleeper| {
                let builder = std::thread::Builder::new().stack_size(STACK);
                Ok(builder.spawn_scoped(scope, move || visitor(sleeper))?)
            })
            .collect();
        ready.wait();
        let died = |_| Err(anyhow!("a visitor died"));
        let answers: Vec<Result<Answer>> = visitors?
            .into_iter()
            .map(|visitor| visitor.join().unwrap_or_else(died))
            .collect();
        // Of the platform's whole life: the sleepers before them were woken one by one.
        let most = Metrics::of(world)?.get("fleeks_restores_peak");
        Ok((answers.into_iter().collect::<Result<_>>()?, most as usize))
    })
}
