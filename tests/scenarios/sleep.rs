//! Sleep and wake as users and visitors see them, mostly through the SDK.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::{Answer, Version};
use fleeks_tests::metrics::Metrics;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, apps, python, together, wait, websocket};
use serde_json::{Value, json};
use tungstenite::Message;

const LONG: Duration = Duration::from_secs(180);
/// For the keeper to look, and the machine to do.
const SOON: Duration = Duration::from_secs(90);

/// Each lifecycle call, typed, and that it does what it answers.
pub fn the_sdk_steers_a_life(world: &World) -> Result<()> {
    python::run(world, "lifecycle.py", &[&name("life")], LONG)?;
    Ok(())
}

/// The article's background job: hibernated and woken, it goes on with its process id, its memory
/// and its open file.
pub fn a_background_job_survives(world: &World) -> Result<()> {
    let told = python::run(world, "background_job.py", &[&name("monitor"), "3"], LONG)?;
    ensure!(told["stopped"] == true, "{told}");
    Ok(())
}

/// The learning agent: its `memory.json` outlives hibernation, an orderly restart of the platform,
/// and a crash; its container id stays.
pub fn a_learning_agent_forgets_nothing(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("default", 1).open()?;
    let project = name("learning");
    let mut container = None;
    for (sitting, then) in ["hibernate", "stay", "hibernate", "stay"]
        .iter()
        .enumerate()
    {
        let told = python::run(&world, "goes_on_learning.py", &[&project, "5", then], LONG)?;
        let learned = 5 * (sitting as u64 + 1);
        ensure!(told["iteration"] == learned, "sitting {sitting}: {told}");
        let expected: Vec<u64> = (1..=learned).map(|n| 2 * n).collect();
        ensure!(
            told["patterns"] == json!(expected),
            "sitting {sitting}: {told}"
        );
        let before = container.replace(told["container"].clone());
        ensure!(
            before.is_none_or(|before| before == told["container"]),
            "{told}"
        );
        match sitting {
            0 => {}
            1 => world.terminate()?,
            _ => world.kill()?,
        }
        if sitting > 0 {
            world.start()?;
        }
    }
    let workspace = Workspace::create(world.api()?, &project, "default")?;
    let memory: Value = serde_json::from_str(&workspace.read("memory.json")?)?;
    ensure!(memory["iteration"] == 20, "{memory}");
    drop(workspace);
    world.stop()
}

/// A visit to a hibernated workspace is answered through TLS by the app that was put to sleep.
pub fn a_visit_wakes_what_sleeps(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let pid = |answer: &Answer| -> Result<i64> { answer.json()?["pid"].as_i64().context("no pid") };
    let before = pid(&visit(world, &workspace)?)?;
    for _ in 0..2 {
        hibernate(&workspace)?;
        let answer = visit(world, &workspace)?;
        let life = lifecycle(&workspace)?;
        ensure!(life["woken"] == "memory", "{answer:?}\n{life}");
        ensure!(pid(&answer)? == before, "another process answers");
    }
    Ok(())
}

/// With `auto_wake` off a visit and a call are told so, a machine in JSON and a person in HTML, and
/// it sleeps on until its owner wakes it.
pub fn what_may_not_be_woken_says_so(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    configure(&workspace, &json!({"auto_wake": false}))?;
    hibernate(&workspace)?;
    let url = workspace.preview_url()?;
    let machine = Curl::new(world, Version::H2, &url)?.send()?;
    ensure!(machine.status == 503, "{machine:?}");
    ensure!(machine.header("x-fleeks-error") == "asleep", "{machine:?}");
    ensure!(
        machine.header("retry-after").is_empty(),
        "trying again does not help: {machine:?}"
    );
    let person = Curl::new(world, Version::H2, &url)?.header("Accept: text/html");
    let person = person.send()?;
    ensure!(
        person.status == 503 && person.text().contains("<!doctype html>"),
        "{person:?}"
    );
    ensure!(
        person.text().contains("visits do not wake it"),
        "{person:?}"
    );
    let call = workspace.execute("true", 10)?;
    call.refused(&[409])?;
    ensure!(call.text().contains("auto_wake"), "{}", call.text());
    ensure!(lifecycle(&workspace)?["lifecycle_state"] == "hibernated");
    act(&workspace, "wake")?;
    ensure!(workspace.sh("echo awake")? == "awake");
    Ok(())
}

type Act<'a> = Box<dyn Fn() -> Result<()> + 'a>;

/// Requests, what is said on websockets, commands, file calls and heartbeats are use, visits only if
/// their owner says so; looks at it, pings and heartbeats of libraries are not.
pub fn what_counts_as_use(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let api = workspace.api();
    let call = |method: &str, what: &str| -> Result<()> {
        let reply = api.call(method, &path(&workspace, what), b"{}")?;
        reply.ok().with_context(|| what.to_owned()).map(drop)
    };
    let url = workspace.preview_url()?.replace("https://", "wss://");
    let engine_io = format!("{url}/ws?EIO=4&transport=websocket");
    let mut socket = websocket::open(world, &engine_io)?;
    let mut say = |message: Message, answer: Message| -> Result<()> {
        socket.send(message)?;
        let said = socket.read()?;
        ensure!(said == answer, "{said:?}");
        Ok(())
    };
    let text = |text: &'static str| Message::text(text);
    let visits = |count: bool| configure(&workspace, &json!({"keep_alive_on_preview": count}));
    let visited = || -> Result<()> {
        let answer = visit(world, &workspace)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    let files = workspace.files("");

    let acts: Vec<(&str, bool, Act)> = vec![
        ("a visit", true, Box::new(visited)),
        ("lifecycle", false, Box::new(|| call("GET", "lifecycle"))),
        ("info", false, Box::new(|| call("GET", "info"))),
        ("stats", false, Box::new(|| call("GET", "stats"))),
        (
            "a command",
            true,
            Box::new(|| workspace.sh("true").map(drop)),
        ),
        ("processes", false, Box::new(|| call("GET", "processes"))),
        (
            "a write",
            true,
            Box::new(|| workspace.write("a", "b").map(drop)),
        ),
        ("a read", true, Box::new(|| workspace.read("a").map(drop))),
        ("a list", true, Box::new(|| api.get(&files)?.ok().map(drop))),
        ("a heartbeat", true, Box::new(|| call("POST", "heartbeat"))),
    ];
    let mut last = lifecycle(&workspace)?["last_activity_at"].clone();
    let mut judge = |what: &str, counts: bool| -> Result<()> {
        let now = lifecycle(&workspace)?["last_activity_at"].clone();
        ensure!(
            (now != last) == counts,
            "{what}: {last} before, {now} after"
        );
        last = now;
        Ok(())
    };
    for (what, counts, act) in acts {
        act().with_context(|| what.to_owned())?;
        judge(what, counts)?;
    }
    say(Message::Ping("a".into()), Message::Pong("a".into()))?;
    judge("a ping", false)?;
    say(text("3"), text("3"))?;
    judge("the answer to engine.io's heartbeat", false)?;
    say(text("42[\"chat\"]"), text("42[\"chat\"]"))?;
    judge("a message", true)?;
    visits(false)?;
    visited()?;
    say(text("hello"), text("hello"))?;
    judge("a visitor whom nobody counts", false)
}

/// What was said of a life survives a crash: when it was used, how far it was extended, how long
/// it may run, what happens then. Time is not waited for; the records say that it has passed.
pub fn a_crash_forgets_no_settings(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 2).open()?;
    {
        let make = |settings: Value| -> Result<Workspace> {
            let workspace = world.workspace("python")?;
            configure(&workspace, &settings)?;
            Ok(workspace)
        };
        let idle = make(json!({"idle_action": "shutdown"}))?;
        let sleepy = make(json!({"idle_action": "hibernate"}))?;
        let kept = make(json!({"idle_action": "keep_alive"}))?;
        let extended = make(json!({"idle_action": "shutdown"}))?;
        let body = json!({"additional_minutes": 60});
        extended
            .api()
            .post(&path(&extended, "extend-timeout"), &body)?
            .ok()?;
        let aged = make(json!({"max_duration_hours": 1}))?;
        ensure!(aged.sh("echo young > age.txt; cat age.txt")? == "young");
        world.kill()?;
        for workspace in [&idle, &sleepy, &kept, &extended] {
            rewrite(&world, workspace, |record| {
                record["activity"]["last_at"] = "2026-01-02T03:04:05Z".into();
            })?;
        }
        rewrite(&world, &aged, |record| {
            record["started_at"] = "2026-01-02T03:04:05Z".into()
        })?;
        world.start()?;

        wait_for(&idle, "stopped")?;
        wait_for(&sleepy, "hibernated")?;
        let life = lifecycle(&extended)?;
        ensure!(life["state"] == "running", "{life}");
        ensure!(life["last_activity_at"] == "2026-01-02T03:04:05Z", "{life}");
        let left = life["time_remaining_seconds"].as_u64().unwrap_or_default();
        // 30 minutes, and 60 of the extension.
        ensure!((80 * 60..=90 * 60).contains(&left), "{life}");
        ensure!(
            life["kept_awake_by"].to_string().contains("extended"),
            "{life}"
        );
        let life = lifecycle(&kept)?;
        ensure!(
            life["state"] == "running" && life["timeout_at"].is_null(),
            "{life}"
        );
        ensure!(
            life["kept_awake_by"].to_string().contains("keep_alive"),
            "{life}"
        );
        wait_for(&aged, "hibernated")?;
        ensure!(
            aged.sh("cat age.txt")? == "young",
            "the next use starts its time anew"
        );
        let life = lifecycle(&aged)?;
        ensure!(life["uptime_seconds"].as_u64() < Some(600), "{life}");
    }
    world.stop()
}

/// Sleepers are made so many at a time.
const MAKERS: usize = 3;

/// A dozen sleepers woken at once.
pub fn a_dozen_wake_at_once(runtime: Runtime) -> Result<()> {
    all_wake_at_once(runtime, 12)
}

/// A hundred.
pub fn a_hundred_wake_at_once(runtime: Runtime) -> Result<()> {
    all_wake_at_once(runtime, 100)
}

/// Never more restores at a time than the cap, which the platform's own count shows; who waits for
/// too long is told to come again, and is served then.
fn all_wake_at_once(runtime: Runtime, count: usize) -> Result<()> {
    let world = World::builder(runtime).pool("python", 4).open()?;
    {
        let sleepers = together::made(count, MAKERS, || {
            let workspace = world.workspace("python")?;
            apps::serve_python(&workspace, "0.0.0.0", 5000)?;
            hibernate(&workspace)?;
            Ok(workspace)
        })?;
        let before = Metrics::of(&world)?;
        let asleep = before.get("fleeks_workspaces{state=\"hibernated\"}");
        ensure!(asleep == count as f64, "{asleep} of {count} sleep");
        let cap = before.get("fleeks_restores_limit");
        ensure!(
            cap >= 1.0 && cap < count as f64,
            "a cap of {cap} is never reached"
        );
        let told: Vec<Result<(Answer, u32)>> = std::thread::scope(|scope| {
            let visits: Vec<_> = sleepers
                .iter()
                .map(|sleeper| scope.spawn(|| visit_until_served(&world, sleeper)))
                .collect();
            let ended = visits.into_iter().map(|visit| visit.join());
            ended
                .map(|told| told.unwrap_or_else(|_| anyhow::bail!("a visitor panicked")))
                .collect()
        });
        for (told, sleeper) in told.into_iter().zip(&sleepers) {
            let (answer, _again) = told?;
            let life = lifecycle(sleeper)?;
            ensure!(life["generation"] == 2, "woken more than once: {life}");
            ensure!(
                answer.status == 200 && life["woken"] == "memory",
                "{answer:?}\n{life}"
            );
        }
        let after = Metrics::of(&world)?;
        let peak = after.get("fleeks_restores_peak");
        ensure!(
            (1.0..=cap).contains(&peak),
            "{peak} restores at once, of {cap} at most"
        );
        ensure!(after.get("fleeks_restores") == 0.0, "{after:?}");
        let woken = after.get("fleeks_wakes_total{cause=\"visit\",outcome=\"memory\"}");
        ensure!(woken == count as f64, "{woken} of {count}: {after:?}");
    }
    world.stop()
}

/// As a patient client: a 503 that says when to come again is obeyed. How often that was.
fn visit_until_served(world: &World, workspace: &Workspace) -> Result<(Answer, u32)> {
    let mut again = 0;
    wait::until("a visit to be served", Duration::from_secs(300), || {
        let answer = visit(world, workspace)?;
        if answer.status == 503 {
            ensure!(!answer.header("retry-after").is_empty(), "{answer:?}");
            again += 1;
            return Ok(None);
        }
        Ok(Some((answer, again)))
    })
}

fn name(what: &str) -> String {
    format!("{what}-{:08x}", rand::random::<u32>())
}

fn visit(world: &World, workspace: &Workspace) -> Result<Answer> {
    Curl::new(world, Version::H2, &workspace.preview_url()?)?.send()
}

fn path(workspace: &Workspace, end: &str) -> String {
    format!("/api/v1/sdk/containers/{}/{end}", workspace.container)
}

fn act(workspace: &Workspace, what: &str) -> Result<Value> {
    let reply = workspace.api().call("POST", &path(workspace, what), &[])?;
    reply.ok().with_context(|| what.to_owned())
}

fn hibernate(workspace: &Workspace) -> Result<()> {
    act(workspace, "hibernate").map(drop)
}

fn configure(workspace: &Workspace, settings: &Value) -> Result<()> {
    let reply = workspace
        .api()
        .put(&path(workspace, "lifecycle"), settings)?;
    reply.ok().with_context(|| settings.to_string()).map(drop)
}

fn lifecycle(workspace: &Workspace) -> Result<Value> {
    workspace.api().get(&path(workspace, "lifecycle"))?.ok()
}

fn wait_for(workspace: &Workspace, state: &str) -> Result<()> {
    let mut seen = Value::Null;
    let reached = wait::until_true(state, SOON, || {
        seen = lifecycle(workspace)?;
        Ok(seen["lifecycle_state"] == state)
    });
    reached.with_context(|| format!("it is {seen}"))
}

/// Changes a workspace's record while the platform is down.
fn rewrite(world: &World, workspace: &Workspace, change: impl Fn(&mut Value)) -> Result<()> {
    let volumes = world.data_dir().join("volumes");
    for entry in std::fs::read_dir(&volumes)? {
        let file: PathBuf = entry?.path().join("workspace.json");
        let Ok(text) = std::fs::read(&file) else {
            continue;
        };
        let mut record: Value = serde_json::from_slice(&text)?;
        if record["container"] == workspace.container.as_str() {
            change(&mut record);
            std::fs::write(&file, record.to_string())?;
            return Ok(());
        }
    }
    anyhow::bail!("no record of {}", workspace.project)
}
