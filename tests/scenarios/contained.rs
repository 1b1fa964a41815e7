//! Commands that misbehave: the caller gets an answer, the neighbour notices nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::world::Runtime;
use fleeks_tests::{Workspace, World, memory, wait};

/// One storm at a time: a neighbour is asked to bear one, not two and a full machine.
static STORM: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    STORM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The neighbour's commands go on while another misbehaves.
fn neighbour_is_fine(neighbour: &Workspace) -> Result<()> {
    let start = Instant::now();
    ensure!(neighbour.sh("echo fine").context("the neighbour suffers")? == "fine");
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(8),
        "the neighbour waited {took:?}"
    );
    Ok(())
}

/// `cmd &` and `nohup cmd &` do not wait for the child that holds the pipes open.
pub fn background_returns_at_once(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    for command in [
        "sleep 300 &",
        "nohup sleep 300 &",
        "(sleep 300; echo late) & echo early",
    ] {
        let reply = workspace.execute(command, 25)?;
        reply.ok()?;
        ensure!(
            reply.took < Duration::from_secs(5),
            "{command} took {:?}",
            reply.took
        );
    }
    // The shell in the background may not have come to its `sleep` yet.
    wait::until_true("the children to live on", Duration::from_secs(20), || {
        let count = workspace.sh("pgrep -c sleep || ps ax | grep -c '[s]leep'")?;
        Ok(count.parse::<u32>()? >= 3)
    })?;
    Ok(())
}

/// A command that ignores SIGTERM is a 408, and gone.
pub fn a_deaf_command_times_out(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let reply = workspace.execute(
        "trap '' TERM INT HUP; echo $$ > deaf.pid; while :; do sleep 1; done",
        2,
    )?;
    reply.refused(&[408])?;
    ensure!(
        reply.took < Duration::from_secs(12),
        "the timeout of 2 s took {:?}",
        reply.took
    );
    let pid = workspace.read("deaf.pid")?;
    wait::until_true(
        "the deaf command to be killed",
        Duration::from_secs(10),
        || Ok(workspace.job(&format!("kill -0 {}", pid.trim()))?.exit_code != Some(0)),
    )
}

/// 1 GiB of output: the command ends, what is kept is bounded, and so is everybody's memory.
pub fn a_gib_of_output(runtime: Runtime) -> Result<()> {
    let _alone = alone();
    let world = World::builder(runtime).pool("python", 2).open()?;
    {
        let (workspace, neighbour) = (world.workspace("python")?, world.workspace("python")?);
        let pid = world.pid()?;
        memory::reset_peak(pid)?;
        let before = memory::resident(pid)?;
        let job = workspace
            .background("head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo the end")?;
        let state = wait::until("1 GiB to be printed", Duration::from_secs(90), || {
            neighbour_is_fine(&neighbour)?;
            let state = workspace.job_state(&job)?;
            Ok((state.status != "running").then_some(state))
        })?;
        ensure!(
            state.exit_code == Some(0),
            "exit code {:?}",
            state.exit_code
        );
        ensure!(
            state.stdout.len() < 4 << 20,
            "{} bytes were kept",
            state.stdout.len()
        );
        ensure!(
            state.stdout.starts_with("xxx") && state.stdout.trim_end().ends_with("the end"),
            "head and tail are kept"
        );
        let reply = workspace.execute("head -c 300000000 /dev/zero | tr '\\0' y", 25)?;
        ensure!(
            reply.ok()?["stdout"]
                .as_str()
                .is_some_and(|text| text.len() < 4 << 20)
        );
        let grown = memory::peak(pid)?.saturating_sub(before);
        ensure!(grown < 96 << 20, "the platform grew by {} MiB", grown >> 20);
    }
    world.stop()
}

/// A fork bomb hits its own wall of processes; the workspace can be used or deleted after it.
pub fn a_fork_bomb(world: &World) -> Result<()> {
    let _alone = alone();
    let (workspace, neighbour) = (world.workspace("python")?, world.workspace("python")?);
    // It may be over before its beginning is told.
    if let Err(error) = workspace.background("bomb() { bomb | bomb & }; bomb; sleep 30") {
        let error = format!("{error:#}");
        ensure!(error.contains("status 503"), "{error}");
    }
    for _ in 0..5 {
        neighbour_is_fine(&neighbour)?;
    }
    // Whatever the exploding workspace says, it says it, and in time.
    let reply = workspace.execute("echo alive", 5)?;
    ensure!(reply.took < Duration::from_secs(30), "{:?}", reply.took);
    ensure!(
        reply.status < 500 || reply.status == 503,
        "{}",
        reply.text()
    );
    workspace.delete()?;
    neighbour_is_fine(&neighbour)
}

/// Memory beyond the limit ends the command, perhaps the container, and nothing else.
pub fn a_memory_hog(world: &World) -> Result<()> {
    let _alone = alone();
    let (workspace, neighbour) = (world.workspace("python")?, world.workspace("python")?);
    workspace.write("kept.txt", "kept")?;
    let reply = workspace.execute(
        "python -c 'b = bytearray()\nwhile True: b += b\"x\" * (64 << 20)'",
        20,
    )?;
    if reply.status == 200 {
        ensure!(
            reply.json()?["exit_code"] != 0,
            "it got all the memory it wanted: {}",
            reply.text()
        );
    } else {
        reply.refused(&[408, 409, 503])?;
    }
    neighbour_is_fine(&neighbour)?;
    wait::until_true(
        "the workspace to be usable again",
        Duration::from_secs(30),
        || Ok(workspace.sh("cat kept.txt")? == "kept"),
    )
}
