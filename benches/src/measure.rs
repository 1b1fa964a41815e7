//! What is measured, and how. Each measurement is bounded in count and in time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::traces::Traces;
use fleeks_tests::workspace::text;
use fleeks_tests::{Api, Runtime, Workspace, World, apps, memory, raw, wait};
use serde_json::{Value, json};

use crate::report::{Report, progress};
use crate::sample::time;
use crate::{typing, yardstick};

/// One measurement takes no longer.
const LIMIT: Duration = Duration::from_secs(12);
/// Warm containers of the acquisition and the memory measurement.
const WARM: u32 = 10;
const CREATE: &str = "/api/v1/sdk/workspaces";

/// Everything, on one runtime.
pub fn all(runtime: Runtime, report: &mut Report) -> Result<()> {
    let world = World::builder(runtime).pool("python", WARM).open()?;
    pool_is_full(&world.api()?)?;
    yardstick::all(runtime, report)?;
    progress(runtime, "memory");
    sizes(&world, report)?;
    progress(runtime, "acquisition");
    acquisition(&world, report)?;
    progress(runtime, "commands and files");
    calls(&world, report)?;
    progress(runtime, "streams");
    crate::watch::all(&world, report)?;
    progress(runtime, "terminals");
    typing::echo(&world, report)?;
    progress(runtime, "previews");
    previews(&world, report)?;
    world.stop()
}

/// The API call that makes a workspace: from a full pool, and from an empty one.
fn acquisition(world: &World, report: &mut Report) -> Result<()> {
    let api = world.api()?;
    let create = |n: usize, template: &str| -> Result<()> {
        let body = json!({"project_id": format!("{template}-{n}"), "template": template});
        api.post(CREATE, &body)?.ok()?;
        Ok(())
    };
    let delete = |n: usize, template: &str| -> Result<()> {
        api.delete(&format!("{CREATE}/{template}-{n}"))?.ok()?;
        Ok(())
    };
    let warm = time(
        100,
        LIMIT,
        |n| create(n, "python"),
        |n| {
            delete(n, "python")?;
            pool_is_full(&api)
        },
    )?;
    report.time(
        world.runtime(),
        "acquire a warm container (API call)",
        "≤ 20",
        warm,
    );
    // No pool is kept for this template in this world.
    let aim = "≤ 300 runc, ≤ 500 runsc";
    let cold = time(20, LIMIT, |n| create(n, "node"), |n| delete(n, "node"))?;
    report.time(
        world.runtime(),
        "cold start, pool empty (API call)",
        aim,
        cold,
    );
    Ok(())
}

/// What an agent does all day.
fn calls(world: &World, report: &mut Report) -> Result<()> {
    let (workspace, runtime) = (world.workspace("python")?, world.runtime());
    let api = workspace.api();
    let nothing = |_: usize| Ok(());
    // A program alone, what init starts without a shell as well, and what needs one.
    for (line, aim) in [
        ("true", "≤ 10"),
        ("cd /workspace && echo 'it is here'", "≤ 10"),
        ("echo here | cat", "–"),
    ] {
        let command = json!({"project_id": workspace.project, "command": line, "working_dir": "/workspace", "timeout_seconds": 20});
        let run = |_| {
            let answer = api.post("/api/v1/sdk/terminal/execute", &command)?.ok()?;
            ensure!(answer["exit_code"] == 0, "{answer}");
            Ok(())
        };
        let exec = time(300, LIMIT, run, nothing)?;
        report.time(runtime, format!("exec of `{line}`"), aim, exec);
    }

    let content = "0123456789abcdef".repeat(256);
    let path = workspace.files("");
    let write = time(
        500,
        LIMIT,
        |n| {
            let body = json!({"path": format!("bench/{}.txt", n % 50), "content": content, "encoding": "utf-8"});
            api.post(&path, &body)?.ok()?;
            Ok(())
        },
        nothing,
    )?;
    report.time(runtime, "write a file of 4 KiB", "≤ 2", write);
    let read = time(
        500,
        LIMIT,
        |n| {
            let answer = api
                .get(&workspace.files(&format!("/content?path=bench/{}.txt", n % 5)))?
                .ok()?;
            ensure!(
                answer["content"]
                    .as_str()
                    .is_some_and(|text| text.len() == 4096)
            );
            Ok(())
        },
        nothing,
    )?;
    report.time(runtime, "read a file of 4 KiB", "–", read);
    Ok(())
}

/// From the call for the URL to the app's first 200, on a new TLS connection.
fn previews(world: &World, report: &mut Report) -> Result<()> {
    let (workspace, runtime) = (world.workspace("python")?, world.runtime());
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let nothing = |_: usize| Ok(());
    let url = time(200, LIMIT, |_| workspace.preview_url().map(drop), nothing)?;
    report.time(runtime, "call for the preview URL", "–", url);
    let usable = time(200, LIMIT, |_| first_answer(world, &workspace), nothing)?;
    report.time(
        runtime,
        "call to usable preview URL (new TLS connection, 200)",
        "≤ 5",
        usable,
    );
    Ok(())
}

fn first_answer(world: &World, workspace: &Workspace) -> Result<()> {
    let host = workspace.host()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = raw::talk(&mut raw::connect_tls(world, &host)?, request.as_bytes())?;
    ensure!(raw::status(&answer) == Some(200), "{answer}");
    Ok(())
}

/// What warm containers cost, and the platform itself.
fn sizes(world: &World, report: &mut Report) -> Result<()> {
    let runtime = world.runtime();
    let traces = world.traces()?;
    let (platform, all) = warm_memory(world, &traces)?;
    let what = "the platform itself, idle (PSS)";
    report.size(runtime, what, "–", platform);
    let inits = traces.processes.iter().filter(|(pid, command)| {
        runtime == Runtime::Runc
            && !command.contains("runc")
            && Ok(*pid) != world.pid().map_err(drop)
    });
    let inits: Vec<u64> = inits
        .filter_map(|(pid, _)| memory::resident(*pid).ok())
        .collect();
    let aim = "≈ 1.3 runc, ≈ 14 runsc";
    report.size(
        runtime,
        "a warm container (PSS of all its processes)",
        aim,
        all / u64::from(WARM),
    );
    report.size(
        runtime,
        "a warm container (its control group, kernel memory included)",
        "–",
        cgroups(&traces) / u64::from(WARM),
    );
    // Under gVisor init lives in the sandbox's memory and cannot be told apart from outside.
    if let Some(largest) = inits.iter().max() {
        report.size(runtime, "init (resident, the largest)", "≤ 3", *largest);
    }
    Ok(())
}

/// The proportional shares of the platform's process, and of all others together.
pub fn warm_memory(world: &World, traces: &Traces) -> Result<(u64, u64)> {
    let platform = world.pid()?;
    let (mut own, mut others) = (0, 0);
    for (pid, _) in &traces.processes {
        // A helper of the runtime may have ended since it was listed.
        match memory::proportional(*pid) {
            Ok(bytes) if *pid == platform => own = bytes,
            Ok(bytes) => others += bytes,
            Err(_) => {}
        }
    }
    Ok((own, others))
}

/// The instance's outermost control groups.
pub fn outer_cgroups(traces: &Traces) -> Vec<PathBuf> {
    let all: HashSet<&Path> = traces.cgroups.iter().map(PathBuf::as_path).collect();
    let outer = |path: &&PathBuf| path.parent().is_none_or(|parent| !all.contains(parent));
    traces.cgroups.iter().filter(outer).cloned().collect()
}

/// Memory charged to the instance's outermost control groups.
pub fn cgroups(traces: &Traces) -> u64 {
    let charged = |path: &PathBuf| {
        let files = ["memory.current", "memory.usage_in_bytes"];
        let text = files
            .iter()
            .find_map(|file| fs::read_to_string(path.join(file)).ok())?;
        text.trim().parse::<u64>().ok()
    };
    outer_cgroups(traces).iter().filter_map(charged).sum()
}

/// Waits until the pool has what it is told to have.
fn pool_is_full(api: &Api) -> Result<()> {
    let start = Instant::now();
    wait::until_true("the pool to fill", Duration::from_secs(60), || {
        let answer = api.get("/api/v1/pools")?.ok()?;
        let pools = answer["pools"].as_array().context("no pools")?;
        let full = |pool: &Value| -> Result<bool> {
            let number = |field: &str| {
                pool[field]
                    .as_u64()
                    .with_context(|| format!("no {field} in {pool}"))
            };
            Ok(text(pool, "template")? != "python" || number("ready")? >= number("target")?)
        };
        pools
            .iter()
            .map(full)
            .try_fold(true, |all, one| Ok(all && one?))
    })
    .with_context(|| format!("after {:?}", start.elapsed()))
}
