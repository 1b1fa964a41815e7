//! What a hibernated workspace costs while nobody uses it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use fleeks_tests::{World, memory, wait};

use super::mass::{Mass, bytes_below};
use crate::report::Report;

/// Workspaces put to sleep.
const SLEEPERS: usize = 40;
/// How long the platform's CPU time is watched.
const WATCH: Duration = Duration::from_secs(10);

/// Memory and CPU time of the platform, kernel objects, and disk.
pub fn of_sleepers(world: &World, report: &mut Report) -> Result<()> {
    let (runtime, platform) = (world.runtime(), world.pid()?);
    // Once around, so that what the platform allocates for good is allocated.
    hibernated(world, 4)?;
    let idle = || pool_rests(world);
    idle()?;
    let (memory_before, objects_before) = (memory::proportional(platform)?, objects(world)?);
    let cpu_before = cpu_over(platform)?;
    let volumes_before = bytes_below(&world.data_dir().join("volumes"));
    let sleepers = hibernated(world, SLEEPERS)?;
    idle()?;
    let grown = memory::proportional(platform)?.saturating_sub(memory_before);
    let left = objects(world)?.into_iter().zip(objects_before);
    let left: usize = left.map(|(now, before)| now.saturating_sub(before)).sum();
    let cpu = cpu_over(platform)?.saturating_sub(cpu_before);
    let count = SLEEPERS as u64;
    let what = "a hibernated workspace: memory of the platform (KiB of PSS)";
    report.count(runtime, what, "–", grown / count / 1024);
    let snapshots: u64 = sleepers.iter().map(|mass| mass.snapshot_bytes(world)).sum();
    report.size(
        runtime,
        "a hibernated workspace, 10 MiB: snapshot on disk",
        "–",
        snapshots / count,
    );
    let volumes = bytes_below(&world.data_dir().join("volumes")).saturating_sub(volumes_before);
    report.size(
        runtime,
        "a hibernated workspace: volume and records on disk",
        "–",
        volumes / count,
    );
    let what = format!("{SLEEPERS} hibernated: processes, namespaces, links, control groups left");
    report.count(runtime, what, "0", left as u64);
    let what = format!("{SLEEPERS} hibernated: CPU time of the platform in a second (µs)");
    report.count(runtime, what, "–", cpu.as_micros() as u64 / WATCH.as_secs());
    Ok(())
}

fn hibernated(world: &World, count: usize) -> Result<Vec<Mass>> {
    let sleeper = || {
        let mass = Mass::start(world, 10)?;
        mass.order("hibernate")?;
        Ok(mass)
    };
    (0..count).map(|_| sleeper()).collect()
}

/// How many processes, namespaces, links and control groups there are.
fn objects(world: &World) -> Result<[usize; 4]> {
    let traces = world.traces()?;
    Ok([
        traces.processes.len(),
        traces.netns.len(),
        traces.links.len(),
        traces.cgroups.len(),
    ])
}

/// Waits until nothing is made or taken away any more.
fn pool_rests(world: &World) -> Result<()> {
    let mut last = None;
    let mut since = Instant::now();
    wait::until_true("the platform to rest", Duration::from_secs(60), || {
        let now = objects(world)?;
        if last != Some(now) {
            last = Some(now);
            since = Instant::now();
        }
        Ok(since.elapsed() > Duration::from_secs(2))
    })
}

/// CPU time that a process takes in [`WATCH`].
fn cpu_over(pid: i32) -> Result<Duration> {
    let before = cpu(pid)?;
    let begun = Instant::now();
    wait::until_true("time to pass", WATCH * 2, || Ok(begun.elapsed() >= WATCH))?;
    Ok(cpu(pid)?.saturating_sub(before))
}

/// Of all its threads, to the nanosecond.
fn cpu(pid: i32) -> Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that ended meanwhile counts no more.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let taken = text
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        sum += taken.unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}
