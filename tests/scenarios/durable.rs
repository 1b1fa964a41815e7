//! What survives: a container's end, the platform's end, a power cut.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, apps, wait};
use serde_json::json;

/// Files, URL and key are the same after a container's restart, an ordinary restart of the
/// platform, and a kill -9.
pub fn files_outlive_everything(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        let url = workspace.preview_url()?;
        let (key, host) = (world.api()?.key().to_owned(), workspace.host()?);
        workspace.write("deep/er/memory.json", "{\"patterns\": 1}")?;
        workspace.sh("mkdir -p .home && echo by-the-shell > shell.txt && chmod 750 shell.txt")?;
        let check = |world: &World, workspace: &Workspace, after: &str| -> Result<()> {
            ensure!(
                workspace.read("deep/er/memory.json")? == "{\"patterns\": 1}",
                "after {after}"
            );
            ensure!(
                workspace.sh("cat shell.txt; stat -c %a shell.txt")? == "by-the-shell\n750",
                "after {after}"
            );
            ensure!(workspace.host()? == host, "the URL changed after {after}");
            apps::serve_python(workspace, "0.0.0.0", 5000)?;
            let answer = Curl::new(world, Version::H2, &workspace.preview_url()?)?.send()?;
            ensure!(answer.status == 200, "after {after}: {answer:?}");
            Ok(())
        };
        check(&world, &workspace, "nothing")?;
        workspace.restart()?;
        check(&world, &workspace, "a restart of the container")?;
        has_all_kinds_of_traces(&world)?;
        world.terminate()?;
        world.start()?;
        // A visit starts the container around its volume; the app is the user's to start again.
        let visit = Curl::new(&world, Version::H2, &url)?.send()?;
        ensure!(visit.status == 502, "{visit:?}");
        check(&world, &workspace, "a restart of the platform")?;
        world.kill()?;
        world.start()?;
        ensure!(world.api()?.key() == key, "the API key changed");
        ensure!(workspace.preview_url()? == url, "the URL changed");
        ensure!(
            workspace.read("deep/er/memory.json")? == "{\"patterns\": 1}",
            "after a kill"
        );
        let answer = Curl::new(&world, Version::H2, &url)?.send()?;
        ensure!(
            answer.status == 200,
            "the app did not go on over a kill: {answer:?}"
        );
    }
    world.stop()
}

/// Only where they are seen while it runs does their absence after it mean something.
fn has_all_kinds_of_traces(world: &World) -> Result<()> {
    let traces = world.traces()?;
    let seen = [
        traces.processes.len(),
        traces.netns.len(),
        traces.links.len(),
        traces.tables.len(),
        traces.cgroups.len(),
    ];
    ensure!(!seen.contains(&0), "not all kinds are seen: {traces}");
    Ok(())
}

/// After a kill, `fleeks down` takes away what runs, and keeps what was written.
pub fn down_takes_everything_away(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    let workspace = world.workspace("python")?;
    workspace.write("kept.txt", "kept")?;
    workspace.background("sleep 300")?;
    world.kill()?;
    has_all_kinds_of_traces(&world)?;
    world.down()?;
    let left = world.traces()?;
    ensure!(left.is_empty(), "left behind by `fleeks down`:\n{left}");
    world.start()?;
    ensure!(workspace.sh("cat kept.txt")? == "kept");
    drop(workspace);
    world.stop()
}

/// A second platform on the same data dir says so and goes, and the first does not mind.
pub fn one_platform_per_data_dir(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let told = world.second()?;
    ensure!(!told.status.success(), "a second platform started");
    ensure!(
        told.stderr.contains("in use") || told.stderr.contains("runs"),
        "{}",
        told.stderr
    );
    ensure!(workspace.sh("echo fine")? == "fine");
    Ok(())
}

/// A background job does not notice that the platform was killed and came back.
pub fn a_job_outlives_a_kill(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        let job = apps::serve_python(&workspace, "127.0.0.1", 5000)?;
        let url = workspace.preview_url()?;
        let pid = |world: &World| -> Result<i64> {
            Curl::new(world, Version::H2, &url)?.send()?.json()?["pid"]
                .as_i64()
                .context("no pid")
        };
        let before = pid(&world)?;
        for _ in 0..2 {
            world.kill()?;
            world.start()?;
            ensure!(pid(&world)? == before, "another process answers");
            let state = workspace.job_state(&job)?;
            ensure!(state.status == "running", "{state:?}");
            ensure!(
                workspace.sh("cat app.py | head -c 3")? == "\"\"\"",
                "init does not answer"
            );
        }
    }
    world.stop()
}

/// A kill in the middle of creations: each is either there and works, or is not; nothing that
/// nobody knows stays behind.
pub fn a_kill_in_a_burst_leaves_nothing(runtime: Runtime) -> Result<()> {
    kills_in_bursts(runtime, 1)
}

/// The same, often.
pub fn many_kills(runtime: Runtime) -> Result<()> {
    kills_in_bursts(runtime, 20)
}

fn kills_in_bursts(runtime: Runtime, rounds: u32) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 2).open()?;
    for round in 0..rounds {
        kill_in_a_burst(&mut world, round)?;
    }
    world.stop()
}

fn kill_in_a_burst(world: &mut World, round: u32) -> Result<()> {
    let api = world.api()?;
    let first = Workspace::create(api.clone(), &format!("first-{round}"), "python")?;
    first.write("kept.txt", "acknowledged")?;
    let burst: Vec<_> = (0..6)
        .map(|n| {
            let api = api.clone();
            let body = json!({"project_id": format!("burst-{round}-{n}"), "template": "python"});
            std::thread::spawn(move || {
                api.post("/api/v1/sdk/workspaces", &body)
                    .is_ok_and(|reply| reply.status < 300)
            })
        })
        .collect();
    wait::until_true(
        "one of the burst to be made",
        Duration::from_secs(20),
        || Ok(burst.iter().any(|one| one.is_finished())),
    )?;
    world.kill()?;
    let acknowledged: Vec<bool> = burst
        .into_iter()
        .map(|one| one.join().unwrap_or(false))
        .collect();
    world.start()?;
    ensure!(first.read("kept.txt")? == "acknowledged");
    let listed = api
        .get("/api/v1/sdk/workspaces?page=1&page_size=100")?
        .ok()?;
    let known = |project: &str| {
        let all = listed["workspaces"].as_array();
        all.is_some_and(|all| all.iter().any(|one| one["project_id"] == project))
    };
    for (n, acknowledged) in acknowledged.into_iter().enumerate() {
        let project = format!("burst-{round}-{n}");
        ensure!(
            !acknowledged || known(&project),
            "{project} was acknowledged and is gone"
        );
        // Get-or-create: whatever became of it, the same call makes it right.
        let workspace = Workspace::create(api.clone(), &project, "python")?;
        ensure!(workspace.sh("echo works")? == "works");
    }
    drop(first);
    // What is left is the pool: two warm ones and perhaps one that is being made.
    wait::until_true("only the pool to be left", Duration::from_secs(60), || {
        Ok(world.traces()?.netns.len() <= 3)
    })
}
