//! Changes of files and output of jobs, told as they happen: server-sent events.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::{Stream, Version};
use fleeks_tests::workspace::{encoded, text};
use fleeks_tests::{Curl, Workspace, World};
use serde_json::{Value, json};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(40);

/// Events of a stream of the API, as curl gets them through the gateway.
struct Events(Stream);

/// Its name, its id, what it says.
#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    fn open(world: &World, path: &str, last: Option<&str>) -> Result<Self> {
        let api = world.api()?;
        let url = format!("{}{path}", api.base());
        let mut curl = Curl::new(world, Version::H1, &url)?
            .header(&format!("X-API-Key: {}", api.key()))
            .header("Accept: text/event-stream")
            .argument("--no-buffer");
        if let Some(last) = last {
            curl = curl.header(&format!("Last-Event-ID: {last}"));
        }
        Ok(Self(curl.stream()?))
    }

    /// The changes of files, from now on.
    fn of_files(workspace: &Workspace, world: &World, query: &str) -> Result<Self> {
        let path = workspace.files(&format!("/watch{query}"));
        let mut events = Self::open(world, &path, None)?;
        let ready = events.next()?;
        ensure!(ready.name == "ready", "{ready:?}");
        Ok(events)
    }

    fn next(&mut self) -> Result<Event> {
        let mut event = Event {
            name: String::new(),
            id: String::new(),
            data: Value::Null,
        };
        // Beats come all the time; an event has to.
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "only beats within {SOON:?}");
            let line = self.0.line(left)?;
            match line.split_once(": ") {
                _ if line.is_empty() && !event.name.is_empty() => return Ok(event),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data)?,
                _ => {}
            }
        }
    }

    /// Everything up to the change of a path.
    fn until(&mut self, path: &str) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            let event = self
                .next()
                .with_context(|| format!("{path} after {events:?}"))?;
            let found = event.data["path"] == path;
            events.push(event);
            if found {
                return Ok(events);
            }
        }
    }
}

/// Patterns, renames, the number of a write, and where to go on after a connection broke.
pub fn changes_are_told_and_gone_on_with(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let pattern = encoded("**/*.{py,js}");
    let mut events = Events::of_files(&workspace, world, &format!("?pattern={pattern}"))?;
    let written = workspace.write("src/a.py", "1")?;
    // A file in a new directory has to be there until it is looked for.
    let mut told = events.until("src/a.py")?;
    workspace
        .sh("echo x > src/b.txt; mv src/a.py src/c.js; mkdir -p .home/x; touch .home/x/d.py")?;
    told.extend(events.until("src/c.js")?);
    let first = &told[0].data;
    ensure!(
        first["event"] == "created" && first["path"] == "src/a.py",
        "{told:?}"
    );
    ensure!(
        first["write_id"] == written["write_id"] && !first["write_id"].is_null(),
        "{told:?}"
    );
    let moved = &told[told.len() - 1].data;
    ensure!(
        moved["event"] == "moved" && moved["old_path"] == "src/a.py",
        "{told:?}"
    );
    ensure!(
        told.iter().all(|event| event.data["path"] != "src/b.txt"),
        "{told:?}"
    );
    let last = told[told.len() - 1].id.clone();
    drop(events);

    workspace.write("src/missed.py", "1")?;
    let path = workspace.files(&format!("/watch?pattern={pattern}"));
    let mut events = Events::open(world, &path, Some(&last))?;
    let told = events.until("src/missed.py")?;
    let names: Vec<_> = told.iter().map(|event| event.name.as_str()).collect();
    ensure!(names == ["ready", "change"], "{told:?}");
    let mut events = Events::open(world, &path, Some("0-1"))?;
    events.next()?;
    let overflow = events.next()?;
    ensure!(
        overflow.name == "overflow" && overflow.data["reason"] == "forgotten",
        "{overflow:?}"
    );

    let api = world.api()?;
    let wrong = api.get(&workspace.files("/watch?pattern=%5B"))?;
    wrong.refused(&[422])?;
    api.get("/api/v1/sdk/files/no-such-project/watch")?
        .refused(&[404])?;
    Ok(())
}

/// A watch wakes nobody, keeps nobody awake, and misses nothing unsaid when it has slept.
pub fn a_watch_sleeps_and_wakes(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    workspace.write("doomed.txt", "1")?;
    let mut events = Events::of_files(&workspace, world, "")?;
    for round in 0..2 {
        workspace.hibernate()?.ok()?;
        let lifecycle = workspace.lifecycle()?;
        ensure!(
            lifecycle["state"] == "hibernating" || lifecycle["state"] == "hibernated",
            "{lifecycle}"
        );
        // This wakes it, and is told with its number all the same.
        let path = format!("woken-{round}.txt");
        let written = workspace.write(&path, "1")?;
        let told = events.until(&path)?;
        ensure!(told.iter().all(|event| event.name == "change"), "{told:?}");
        let woke = &told[told.len() - 1].data;
        ensure!(
            woke["write_id"] == written["write_id"] && !woke["write_id"].is_null(),
            "{written} {told:?}"
        );
    }
    // One that begins while it sleeps is ready at once, and wakes it not.
    workspace.hibernate()?.ok()?;
    let mut other = Events::of_files(&workspace, world, "?pattern=doomed.txt")?;
    let lifecycle = workspace.lifecycle()?;
    ensure!(lifecycle["state"] != "running", "{lifecycle}");
    workspace.sh("rm doomed.txt")?;
    let told = other.next()?;
    let deleted = told.data["event"] == "deleted" && told.data["path"] == "doomed.txt";
    let said = told.name == "overflow" && told.data["reason"] == "asleep";
    ensure!(deleted || said, "{told:?}");
    workspace.delete()?;
    loop {
        if other.next()?.name == "end" {
            return Ok(());
        }
    }
}

/// Who does not read is told so, and it costs nobody else anything.
pub fn who_reads_slowly_hears_of_it(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let mut slow = Events::of_files(&workspace, world, "")?;
    let mut quick = Events::of_files(
        &workspace,
        world,
        &format!("?pattern={}", encoded("last-*")),
    )?;
    // More than waits for a reader, the kernel's buffers on the way included.
    workspace.write(
        "many.py",
        "import os, sys\nfor n in range(60000):\n    name = 'f' * 200 + str(n)\n    os.close(os.open(name, os.O_CREAT))\n    os.unlink(name)\n",
    )?;
    workspace.execute("python many.py", 120)?.ok()?;
    workspace.write("last-1", "x")?;
    loop {
        let event = quick.next()?;
        if event.data["path"] == "last-1" {
            break;
        }
        // What came before this was said may be missing: even the last one.
        ensure!(event.name == "overflow", "{event:?}");
        workspace.write("last-1", "x")?;
    }
    let mut reasons = HashSet::new();
    let mut count = 0;
    let mut number = 1;
    loop {
        let event = slow.next()?;
        count += 1;
        if event.name == "overflow" {
            reasons.insert(text(&event.data, "reason")?);
            // What comes now is told again, once it was caught up with.
            number += 1;
            workspace.write(&format!("last-{number}"), "x")?;
        }
        if event.data["path"] == format!("last-{number}") && !reasons.is_empty() {
            break;
        }
    }
    ensure!(
        reasons
            .iter()
            .all(|reason| reason == "slow_reader" || reason == "burst"),
        "{reasons:?}"
    );
    ensure!(count < 120_000, "{count} events waited for a reader");
    Ok(())
}

/// A job is followed to its end, from anywhere in its output, over a sleep.
pub fn a_job_is_followed(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let job = workspace.background(
        "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; echo bad >&2; exit 4",
    )?;
    let path = format!(
        "/api/v1/sdk/terminal/jobs/{job}/follow?project_id={}",
        encoded(&workspace.project)
    );
    let mut events = Events::open(world, &path, None)?;
    let first = events.next()?;
    ensure!(
        first.data == json!({"stream": "stdout", "text": "one\n"}),
        "{first:?}"
    );
    workspace.hibernate()?.ok()?;
    workspace.write("go", "")?;
    let mut rest = Vec::new();
    while rest
        .last()
        .is_none_or(|event: &Event| event.name == "output")
    {
        rest.push(events.next()?);
    }
    let said = |stream: &str| -> String {
        let parts = rest.iter().filter(|event| event.data["stream"] == stream);
        parts
            .filter_map(|event| event.data["text"].as_str())
            .collect()
    };
    ensure!(
        said("stdout") == "two\n" && said("stderr") == "bad\n",
        "{rest:?}"
    );
    let ended = &rest[rest.len() - 1];
    ensure!(
        ended.name == "ended" && ended.data["exit_code"] == 4,
        "{ended:?}"
    );
    // Again, from where the first one was.
    let mut again = Events::open(world, &path, Some(&first.id))?;
    let part = again.next()?;
    ensure!(
        part.data["text"] != "one\n" && part.name == "output",
        "{part:?}"
    );
    Ok(())
}
