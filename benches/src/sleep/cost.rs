//! What a hibernated workspace costs while nobody uses it, and each connection that is held for it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::websocket::{self, Line};
use fleeks_tests::{Runtime, Workspace, World, apps, memory, wait};
use tungstenite::{Message, WebSocket};

use super::mass::{Mass, bytes_below};
use crate::report::Report;

/// Workspaces put to sleep.
const SLEEPERS: usize = 40;
/// Websockets that are held for one that sleeps, and those before them that only warm up.
const HELD: usize = 400;
const FIRST: usize = 40;
/// How long the platform's CPU time is watched.
const WATCH: Duration = Duration::from_secs(10);
/// The same with open websockets: long enough for a ping to each of them.
const WATCH_HELD: Duration = Duration::from_secs(35);
/// A clock tick in `/proc/<pid>/stat`: a constant of the kernel's interface.
const TICK_MILLIS: u64 = 10;

/// Memory and CPU time of the platform, kernel objects, and disk. What it remembers of a sleeper
/// is less than its memory varies by itself, so both are said, not the difference.
pub fn of_sleepers(world: &World, report: &mut Report) -> Result<()> {
    let (runtime, platform) = (world.runtime(), world.pid()?);
    // Once around, so that what the platform allocates for good is allocated.
    hibernated(world, 4)?;
    let idle = || pool_rests(world);
    idle()?;
    let (memory_before, objects_before) = (memory::proportional(platform)?, objects(world)?);
    let cpu_before = cpu_over(platform, WATCH)?;
    let volumes_before = bytes_below(&world.data_dir().join("volumes"));
    let sleepers = hibernated(world, SLEEPERS)?;
    idle()?;
    let memory_now = memory::proportional(platform)?;
    let left = objects(world)?.into_iter().zip(objects_before);
    let left: usize = left.map(|(now, before)| now.saturating_sub(before)).sum();
    let cpu = cpu_over(platform, WATCH)?;
    let count = SLEEPERS as u64;
    let what = "the platform before they were made (PSS)";
    report.size(runtime, what, "–", memory_before);
    let what = format!("the platform with {SLEEPERS} hibernated (PSS)");
    report.size(runtime, what, "–", memory_now);
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
    for (sleepers, cpu) in [(0, cpu_before), (SLEEPERS, cpu)] {
        let what = format!("{sleepers} hibernated: CPU time of the platform in a second (µs)");
        let micros = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        report.count(runtime, what, "–", micros / WATCH.as_secs());
    }
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

/// Memory and CPU time of the platform for open websockets of a workspace, awake and hibernated.
/// gVisor's are ended by its sleep, so there is nothing to hold for long.
pub fn of_held(world: &World, report: &mut Report) -> Result<()> {
    let (runtime, platform) = (world.runtime(), world.pid()?);
    if runtime != Runtime::Runc {
        return Ok(());
    }
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let hibernate = || workspace.hibernate()?.ok().map(drop);
    // What is taken once, by the first of them and by a hibernation, is not theirs.
    let mut sockets = opened(world, &workspace, FIRST)?;
    hibernate()?;
    for socket in &mut sockets {
        echo(socket)?;
    }
    let before = memory::proportional(platform)?;
    sockets.extend(opened(world, &workspace, HELD)?);
    let each = |when: &str, report: &mut Report| -> Result<()> {
        let grown = memory::proportional(platform)?.saturating_sub(before);
        let what = format!("an open websocket over TLS, {when}: memory of the platform (PSS)");
        report.size(runtime, what, "≤ 60 KiB", grown / HELD as u64);
        let cpu = cpu_over(platform, WATCH_HELD)?;
        let what = format!(
            "{} of them, {when}: CPU time in a second (µs)",
            FIRST + HELD
        );
        let micros = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        report.count(runtime, what, "–", micros / WATCH_HELD.as_secs());
        Ok(())
    };
    each("awake", report)?;
    hibernate()?;
    each("held while it sleeps", report)?;
    for socket in &mut sockets {
        echo(socket)?;
    }
    Ok(())
}

fn opened(world: &World, workspace: &Workspace, count: usize) -> Result<Vec<WebSocket<Line>>> {
    let url = workspace.preview_url()?.replace("https://", "wss://");
    let open = || {
        let mut socket = websocket::open(world, &format!("{url}/ws"))?;
        echo(&mut socket)?;
        Ok(socket)
    };
    (0..count).map(|_| open()).collect()
}

fn echo(socket: &mut WebSocket<Line>) -> Result<()> {
    let message = Message::text("here");
    socket.send(message.clone())?;
    loop {
        match socket.read()? {
            // The gateway's own, to whoever has been silent; the client's library answers them.
            Message::Ping(_) | Message::Pong(_) => {}
            heard => {
                ensure!(heard == message, "{heard:?} came back");
                return Ok(());
            }
        }
    }
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

/// CPU time that a process takes meanwhile.
fn cpu_over(pid: i32, time: Duration) -> Result<Duration> {
    let before = cpu(pid)?;
    let begun = Instant::now();
    wait::until_true("time to pass", time * 2, || Ok(begun.elapsed() >= time))?;
    Ok(cpu(pid)?.saturating_sub(before))
}

/// User and system time of all its threads, in whole ticks.
fn cpu(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').context("stat")?.1;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(words.get(at).context("stat")?.parse()?) };
    Ok(Duration::from_millis(
        (ticks(11)? + ticks(12)?) * TICK_MILLIS,
    ))
}
