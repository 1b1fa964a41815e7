//! The hot calls of the API under a crowd: how many a second, and how long each takes, when fifty
//! clients, each with its own connection, call without a pause. The clients are threads of this
//! process and share the machine with the platform: what they cost is in the figures.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use fleeks_tests::{Api, Runtime, Workspace, World};
use serde_json::json;

use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::Samples;

/// Workspaces that the clients share.
const WORKSPACES: usize = 8;
/// Each call is made for this long.
const LONG: Duration = Duration::from_secs(8);

/// On one runtime.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let world = World::builder(runtime).pool("default", WORKSPACES).open()?;
    let workspaces: Vec<Workspace> = (0..WORKSPACES)
        .map(|_| world.workspace("default"))
        .collect::<Result<_>>()?;
    let content = "0123456789abcdef".repeat(256);
    for workspace in &workspaces {
        workspace.write("hot.txt", &content)?;
    }
    let calls: [(&str, &Call<'_>); 5] = [
        ("exec of `true`", &|api, workspace, _| {
            let body = json!({"project_id": workspace.project, "command": "true",
                "working_dir": "/workspace", "timeout_seconds": 20});
            let answer = api.post("/api/v1/sdk/terminal/execute", &body)?.ok()?;
            ensure!(answer["exit_code"] == 0, "{answer}");
            Ok(())
        }),
        ("write a file of 4 KiB", &|api, workspace, client| {
            let body = json!({"path": format!("c/{client}.txt"), "content": content});
            api.post(&workspace.files(""), &body)?.ok()?;
            Ok(())
        }),
        ("read a file of 4 KiB", &|api, workspace, _| {
            api.get(&workspace.files("/content?path=hot.txt"))?.ok()?;
            Ok(())
        }),
        ("get a workspace", &|api, workspace, _| {
            let path = format!("/api/v1/sdk/workspaces/{}", workspace.project);
            api.get(&path)?.ok()?;
            Ok(())
        }),
        ("call for the preview URL", &|api, workspace, _| {
            let path = format!("/api/v1/sdk/workspaces/{}/preview-url", workspace.project);
            api.get(&path)?.ok()?;
            Ok(())
        }),
    ];
    for (what, call) in calls {
        progress(runtime, what);
        crowd(&world, &workspaces, options.clients, what, call, report)?;
    }
    drop(workspaces);
    world.stop()
}

type Call<'a> = dyn Fn(&Api, &Workspace, usize) -> Result<()> + Sync + 'a;

/// One call, by all clients at once.
fn crowd(
    world: &World,
    workspaces: &[Workspace],
    clients: usize,
    what: &str,
    call: &Call<'_>,
    report: &mut Report,
) -> Result<()> {
    let ready = Barrier::new(clients + 1);
    let (all, took) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let ready = &ready;
                scope.spawn(move || -> Result<Samples> {
                    let prepared = world.api().and_then(|api| {
                        let workspace = &workspaces[client % workspaces.len()];
                        // The connection is not what is measured.
                        call(&api, workspace, client)?;
                        Ok((api, workspace))
                    });
                    ready.wait();
                    let (api, workspace) = prepared?;
                    let (mut samples, end) = (Samples::default(), Instant::now() + LONG);
                    while Instant::now() < end {
                        samples.time(|| call(&api, workspace, client))?;
                    }
                    Ok(samples)
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let mut all = Samples::default();
        for thread in threads {
            let samples = thread.join().map_err(|_| anyhow!("a client panicked"))?;
            all.append(samples?);
        }
        Ok::<_, anyhow::Error>((all, begun.elapsed()))
    })
    .with_context(|| what.to_owned())?;
    let name = format!("{what}, {clients} clients");
    let count = all.len() as f64 / took.as_secs_f64();
    report.time(world.runtime(), name.clone(), "–", all.into());
    report.count(
        world.runtime(),
        format!("{name}: a second"),
        "–",
        count.round() as u64,
    );
    Ok(())
}
