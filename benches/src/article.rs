//! The article's headline, from code to a production URL, and its own script 'Benchmark It
//! Yourself', as it stands there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::workspace::text;
use fleeks_tests::{Runtime, Workspace, World, python, raw, wait};

use crate::report::{Report, progress};
use crate::sample::{percentiles, time};

const ROUNDS: usize = 30;
const LIMIT: Duration = Duration::from_secs(60);
const ANSWERS: Duration = Duration::from_secs(20);
/// Each makes ten workspaces.
const SCRIPT_ROUNDS: &str = "5";
const APP: &str = r#"
from http.server import BaseHTTPRequestHandler, HTTPServer

class App(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Hello from a sandbox")

HTTPServer(("0.0.0.0", 8000), App).serve_forever()
"#;

/// Both, on one runtime.
pub fn all(runtime: Runtime, report: &mut Report) -> Result<()> {
    let world = World::builder(runtime)
        .pool("python", 4)
        .pool("default", 4)
        .open()?;
    progress(runtime, "code to production URL");
    let mut last: Option<Workspace> = None;
    let headline = time(
        ROUNDS,
        LIMIT,
        |_| {
            let workspace = world.workspace("python")?;
            workspace.write("app.py", APP)?;
            workspace.background("python app.py")?;
            until_200(&world, &workspace.host()?)?;
            last = Some(workspace);
            Ok(())
        },
        // The last workspace is deleted when the next one takes its place.
        |_| Ok(()),
    )?;
    drop(last);
    let what = "code to production URL: create, write, start, first 200 through TLS";
    report.time(runtime, what, "31,000 (the article)", headline);
    progress(runtime, "the article's own script");
    let told = python::run(&world, "run_benchmark.py", &[SCRIPT_ROUNDS], 2 * LIMIT)?;
    let timings = told["milliseconds"].as_array().context("no timings")?;
    let timings = timings.iter().filter_map(serde_json::Value::as_f64);
    let timings: Vec<Duration> = timings
        .map(|milliseconds| Duration::from_secs_f64(milliseconds / 1000.0))
        .collect();
    ensure!(
        !timings.is_empty(),
        "no timings: {}",
        text(&told, "milliseconds")?
    );
    let what = "the article's 'Benchmark It Yourself', each create by the SDK";
    report.time(runtime, what, "≤ 200 (the article)", percentiles(timings));
    world.stop()
}

/// Asks, each time on a new TLS connection, until the app answers.
pub fn until_200(world: &World, host: &str) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    wait::until_true("the first 200", ANSWERS * 10, || {
        let answer = raw::talk(&mut raw::connect_tls(world, host)?, request.as_bytes())?;
        Ok(raw::status(&answer) == Some(200))
    })
}
