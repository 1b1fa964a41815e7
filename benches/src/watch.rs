//! How long a change of a file takes to whoever watches, and a line that a job prints to whoever
//! follows.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fleeks_tests::curl::{Stream, Version};
use fleeks_tests::{Curl, World};

use crate::report::Report;
use crate::sample::Samples;

/// An event takes no longer, or something is wrong.
const LIMIT: Duration = Duration::from_secs(20);
/// How many are measured.
const COUNT: usize = 200;

/// Everything, on one runtime.
pub fn all(world: &World, report: &mut Report) -> Result<()> {
    let (workspace, runtime) = (world.workspace("python")?, world.runtime());
    let mut events = open(world, &workspace.files("/watch"))?;
    until(&mut events, "\"ready\"")?;
    let mut written = Samples::default();
    for n in 0..COUNT {
        let begun = Instant::now();
        workspace.write(&format!("watched-{n}.txt"), "x")?;
        until(&mut events, &format!("\"watched-{n}.txt\""))?;
        written.add(begun.elapsed());
    }
    let what = "write of a file (API call) to its event at the client";
    report.time(runtime, what, "–", written.into());

    // Inside, each at its own moment; the clock is the machine's.
    let line = format!(
        "import os, time\nfor n in range({COUNT}):\n    time.sleep(0.03)\n    os.close(os.open(f'inside-{{time.time_ns()}}', os.O_CREAT))\n"
    );
    workspace.write("touch.py", &line)?;
    workspace.background("python touch.py")?;
    let mut inside = Samples::default();
    for _ in 0..COUNT {
        let line = until(&mut events, "\"inside-")?;
        let now = now()?;
        let digits = line.split("inside-").nth(1).unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let then = Duration::from_nanos(digits.parse()?);
        ensure!(then <= now, "the container's clock is ahead");
        inside.add(now - then);
    }
    let what = "file made inside to its event at the client";
    report.time(runtime, what, "–", inside.into());

    let line = format!(
        "import time\nfor n in range({COUNT}):\n    time.sleep(0.03)\n    print(f'printed-{{time.time_ns()}}', flush=True)\n"
    );
    workspace.write("print.py", &line)?;
    let job = workspace.background("python print.py")?;
    let path = format!(
        "/api/v1/sdk/terminal/jobs/{job}/follow?project_id={}",
        workspace.project
    );
    let mut events = open(world, &path)?;
    let mut printed = Samples::default();
    for _ in 0..COUNT {
        let line = until(&mut events, "\"printed-")?;
        let now = now()?;
        let digits = line.rsplit("printed-").next().unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        printed.add(now.saturating_sub(Duration::from_nanos(digits.parse()?)));
        if line.contains("\"ended\"") {
            break;
        }
    }
    let what = "line printed by a job to its event at the client";
    report.time(runtime, what, "–", printed.into());
    Ok(())
}

fn open(world: &World, path: &str) -> Result<Stream> {
    let api = world.api()?;
    Curl::new(world, Version::H1, &format!("{}{path}", api.base()))?
        .header(&format!("X-API-Key: {}", api.key()))
        .header("Accept: text/event-stream")
        .argument("--no-buffer")
        .stream()
}

/// The next line with a text in it.
fn until(events: &mut Stream, text: &str) -> Result<String> {
    loop {
        let line = events.line(LIMIT)?;
        if line.contains(text) {
            return Ok(line);
        }
    }
}

/// Since the epoch, by the clock that a container's is.
fn now() -> Result<Duration> {
    let nanos = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    Ok(Duration::from_nanos(nanos.try_into()?))
}
