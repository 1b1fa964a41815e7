//! Socket.IO, as the SDK's streaming client speaks it, and as nobody should.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::world::Runtime;
use fleeks_tests::{World, process, python, wait};
use nix::sys::signal::Signal;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(200);

fn project() -> String {
    format!("stream-{:08x}", rand::random::<u32>())
}

/// The SDK's own client, by polling and by websocket.
pub fn the_sdk_streams(world: &World) -> Result<()> {
    python::run(world, "streaming.py", &[&project()], LONG)?;
    Ok(())
}

/// Who shows no key, who sends junk, who reads nothing: none of them holds up anybody else.
pub fn strangers_and_junk(world: &World) -> Result<()> {
    let pid = world.pid()?.to_string();
    python::run(world, "hostile_sockets.py", &[&project(), &pid], LONG)?;
    Ok(())
}

/// SIGTERM ends sockets, and the drain does not wait for polls. The next server has those back who
/// come back by themselves.
pub fn the_end_is_told(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    // Not the world's: the clients outlive what runs in it.
    let scratch = tempfile::tempdir()?;
    let ready = scratch.path().join("ready");
    let (name, ready_path) = (project(), ready.to_string_lossy().into_owned());
    let command = python::command(&world, "sockets_end.py", &[&name, &ready_path])?;
    let mut client = process::spawn(command, Signal::SIGKILL)?;
    wait::until_true("clients to listen", LONG, || {
        ensure!(client.try_wait()?.is_none(), "the clients ended");
        Ok(ready.exists())
    })?;
    world.terminate()?;
    ensure!(
        !world.log_tail().contains("cut off by the end of the drain"),
        "the drain waited in vain: {}",
        world.log_tail()
    );
    world.start()?;
    let status = process::wait_for_end(&mut client, LONG)?.context("the clients go on")?;
    ensure!(status.success(), "the clients ended with {status}");
    world.stop()
}
