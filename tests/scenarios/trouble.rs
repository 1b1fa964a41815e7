//! What happens to a machine: its disk is full, its clock is set. And visitors who come at any
//! moment of a workspace's sleep.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::disk::Disk;
use fleeks_tests::metrics::Metrics;
use fleeks_tests::tally::{Tally, volume};
use fleeks_tests::world::Runtime;
use fleeks_tests::{Workspace, World, wait};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(40);
/// In Debian's libfaketime.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The disk is full in the middle of a checkpoint: the workspace runs on and says why it does not
/// sleep, what slept already can be woken, and nothing half-written stays.
pub fn a_full_disk(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 0).open()?;
    let snapshots = world.data_dir().join("snapshots");
    let disk = Disk::mount(&snapshots, 512)?;
    {
        let sleeper = world.workspace("python")?;
        let mut kept = Tally::begin(&world, &sleeper)?;
        let remembered = kept.ask(&world)?.boot;
        sleeper.hibernate()?.ok()?;
        let workspace = world.workspace("python")?;
        let mut tally = Tally::begin(&world, &workspace)?;
        let boot = tally.ask(&world)?.boot;
        let go = volume(&world, &workspace)?.join("go");
        world.kill()?;
        let point = format!("hibernate.drafted=wait:{}", go.display());
        world.set("FLEEKS_FAIL_POINTS", &point);
        world.start()?;
        world.set("FLEEKS_FAIL_POINTS", "");

        let hibernating = workspace.begin_hibernate();
        let reached = go.with_extension("reached");
        wait::until_true("the checkpoint", DEADLINE, || Ok(reached.exists()))?;
        disk.fill()?;
        fs::write(&go, "")?;
        let refused = hibernating
            .join()
            .ok()
            .context("the call's thread died")??;
        is_told(&workspace, refused.refused(&[507])?.text())?;
        ensure!(tally.ask(&world)?.boot == boot, "another process answers");
        ensure!(useful_in(&snapshots)? == 1, "something half-written stays");
        let told = "fleeks_step_failures_total{step=\"hibernate\",reason=\"no_space\"}";
        ensure!(Metrics::of(&world)?.get(told) == 1.0, "it is not counted");
        // Now it is known before anything is tried.
        let refused = workspace.hibernate()?;
        is_told(&workspace, refused.refused(&[507])?.text())?;
        ensure!(tally.ask(&world)?.boot == boot, "another process answers");

        // What sleeps needs no room to wake.
        let woken = kept.send(&world)?.answer()?;
        ensure!(kept.take(&woken)?.boot == remembered, "memory was lost");
        disk.empty()?;
        workspace.hibernate()?.ok()?;
        let woken = tally.send(&world)?.answer()?;
        ensure!(tally.take(&woken)?.boot == boot, "memory was lost");
        tally.check_log()?;
        kept.check_log()?;
    }
    world.kill()?;
    disk.unmount()?;
    world.start()?;
    world.stop()
}

fn is_told(workspace: &Workspace, refusal: String) -> Result<()> {
    ensure!(refusal.contains("full"), "{refusal}");
    let lifecycle = workspace.lifecycle()?;
    ensure!(lifecycle["state"] == "running", "{lifecycle}");
    let problem = lifecycle["problem"].as_str().unwrap_or_default();
    ensure!(problem.contains("full"), "{lifecycle}");
    Ok(())
}

/// Snapshots, half-written ones included.
fn useful_in(snapshots: &Path) -> Result<usize> {
    let mut useful = 0;
    for workspace in fs::read_dir(snapshots)?.flatten() {
        if workspace.file_name().to_string_lossy().starts_with("ws_") {
            useful += fs::read_dir(workspace.path())?.count();
        }
    }
    Ok(useful)
}

/// Snapshots take no more than they may: who would hibernate stays in memory and is told so.
pub fn snapshots_are_bounded(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 0).open()?;
    {
        let workspace = world.workspace("python")?;
        let mut tally = Tally::begin(&world, &workspace)?;
        let boot = tally.ask(&world)?.boot;
        let file = world.scratch()?.join("fleeks.toml");
        fs::write(&file, "[snapshots]\nmax_mib = 1\n")?;
        world.kill()?;
        world.set("FLEEKS_CONFIG", &file.to_string_lossy());
        world.start()?;
        let refused = workspace.hibernate()?;
        let text = refused.refused(&[507])?.text();
        ensure!(text.contains("at most 1 MiB"), "{text}");
        ensure!(tally.ask(&world)?.boot == boot, "another process answers");
        ensure!(workspace.lifecycle()?["state"] == "running");
        tally.check_log()?;
    }
    world.stop()
}

/// Somebody sets the machine's clock by an hour, forth and back: nobody falls asleep or ends for
/// that, no wait becomes longer, and memory of before it comes back.
pub fn the_clock_is_set(runtime: Runtime) -> Result<()> {
    let home = std::env::temp_dir().join(format!("fleeks-clock-{:08x}", rand::random::<u32>()));
    fs::create_dir(&home)?;
    let told = with_a_clock(runtime, &home.join("clock"));
    fs::remove_dir_all(&home)?;
    told
}

fn with_a_clock(runtime: Runtime, clock: &Path) -> Result<()> {
    ensure!(
        Path::new(FAKETIME).exists(),
        "libfaketime is missing: ops/setup --tests"
    );
    // Whole or not at all: it is read at any moment.
    let set = |offset: &str| -> Result<()> {
        let new = clock.with_extension("new");
        fs::write(&new, format!("{offset}\n"))?;
        Ok(fs::rename(new, clock)?)
    };
    set("+0")?;
    let world = World::builder(runtime)
        .pool("python", 0)
        .set("LD_PRELOAD", FAKETIME)
        .set("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy())
        .set("FAKETIME_NO_CACHE", "1")
        // As when a real clock is set.
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .set("DONT_FAKE_MONOTONIC", "1")
        .open()?;
    {
        let workspace = world.workspace("python")?;
        let mut tally = Tally::begin(&world, &workspace)?;
        let boot = tally.ask(&world)?.boot;
        let settings = json!({"max_duration_hours": 1, "idle_action": "shutdown"});
        let path = format!("/api/v1/sdk/containers/{}/lifecycle", workspace.container);
        workspace.api().put(&path, &settings)?.ok()?;
        let sleeper = world.workspace("python")?;
        let mut slept = Tally::begin(&world, &sleeper)?;
        for offset in ["+3700", "-3700"] {
            let remembered = slept.ask(&world)?.boot;
            sleeper.hibernate()?.ok()?;
            set(offset)?;
            let since = Instant::now();
            // Longer than between two looks for those who idle or are overdue.
            let looked = || Ok(since.elapsed() > Duration::from_secs(7));
            wait::until_true("a look", DEADLINE, looked)?;
            let lifecycle = workspace.lifecycle()?;
            ensure!(lifecycle["state"] == "running", "{offset}: {lifecycle}");
            ensure!(tally.ask(&world)?.boot == boot, "{offset}: it was ended");
            ensure!(
                sleeper.lifecycle()?["lifecycle_state"] == "hibernated",
                "{offset}"
            );
            let woken = slept.send(&world)?.answer()?;
            let said = slept.take(&woken)?;
            ensure!(said.boot == remembered, "{offset}: memory was lost");
            let late = workspace.execute("sleep 60", 2)?;
            ensure!(late.took < Duration::from_secs(20), "{offset}: {late:?}");
        }
        tally.check_log()?;
        slept.check_log()?;
    }
    world.stop()
}

/// Visitors who come at any moment of falling asleep and waking are served, each once.
pub fn visitors_at_any_moment(runtime: Runtime) -> Result<()> {
    visitors(runtime, Duration::from_secs(10))
}

/// The same, for long.
pub fn visitors_for_long(runtime: Runtime) -> Result<()> {
    visitors(runtime, Duration::from_secs(300))
}

fn visitors(runtime: Runtime, long: Duration) -> Result<()> {
    let world = World::builder(runtime).pool("python", 0).open()?;
    {
        let workspace = world.workspace("python")?;
        let mut tally = Tally::begin(&world, &workspace)?;
        let boot = tally.ask(&world)?.boot;
        let since = Instant::now();
        let (mut asleep, mut asked) = (0, 0);
        while since.elapsed() < long {
            let hibernating = workspace.begin_hibernate();
            let mut visits = Vec::new();
            let pause = Duration::from_millis(rand::random_range(0..900));
            let begun = Instant::now();
            wait::until_true("its moment", DEADLINE, || Ok(begun.elapsed() >= pause))?;
            for _ in 0..rand::random_range(1..4) {
                visits.push(tally.send(&world)?);
            }
            for visit in visits {
                let said = tally.take(&visit.answer()?)?;
                ensure!(said.boot == boot, "another process answers");
                asked += 1;
            }
            let reply = hibernating.join().ok().context("a thread died")??;
            match reply.status {
                200 => asleep += 1,
                409 => {}
                _ => ensure!(false, "{}: {}", reply.status, reply.text()),
            }
        }
        ensure!(asleep > 0, "it never slept; {asked} visits");
        // Its last requests, and nobody's number is missing.
        let last = tally.ask(&world)?;
        ensure!(last.number == asked + 2, "{asked} visits, {last:?}");
        tally.check_log()?;
    }
    world.stop()
}
