//! What those get who wait for a wake: a person a page that continues by itself, everybody else
//! the answer, or at the deadline a clear refusal. The wake is held up by a fail point.

use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::{Answer, Version};
use fleeks_tests::metrics::Metrics;
use fleeks_tests::tally::volume;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Reply, Workspace, World, apps, process, wait, websocket};
use serde_json::json;
use tungstenite::Message;

const SOON: Duration = Duration::from_secs(40);
/// As the design has it: the SDK gives up after 30 s.
const DEADLINE: Duration = Duration::from_secs(25);

/// Runs the page's own script, as a browser would: it asks the gateway, and loads the page again.
const BROWSER: &str = r#"
const http = require("http"), [script, port, host] = process.argv.slice(1);
globalThis.location = { href: "/", reload() { console.log("loads again"); process.exit(); } };
globalThis.fetch = (path, { method }) => new Promise((answered, failed) => {
    const headers = { host, accept: "*/*", "sec-fetch-mode": "cors" };
    console.log("asks");
    http.request({ host: "127.0.0.1", port, path, method, headers }, (answer) => {
        answer.resume();
        answered({ headers: { get: (name) => answer.headers[name] ?? null } });
    }).on("error", failed).end();
});
(0, eval)(script);
"#;

/// Nobody is turned away while there is time: requests, calls and websockets are held, a person
/// sees a page, and all of them are served by one wake.
pub fn a_person_sees_a_page_and_all_are_served(runtime: Runtime) -> Result<()> {
    let stage = Stage::open(runtime)?;
    {
        let world = &stage.world;
        let machine = stage.visit(&[])?;
        let call = stage.call("terminal/execute");
        let socket = stage.socket()?;
        for _ in 0..2 {
            let began = Instant::now();
            let page = stage.visit(&NAVIGATION)?.answer()?;
            ensure!(began.elapsed() < Duration::from_secs(15), "it was held");
            ensure!(page.status == 503, "{page:?}");
            ensure!(page.header("x-fleeks-error") == "waking", "{page:?}");
            ensure!(page.header("retry-after") == "1", "{page:?}");
            ensure!(page.header("cache-control") == "no-store", "{page:?}");
            ensure!(page.text().contains("http-equiv=\"refresh\""), "{page:?}");
        }
        let browser = stage.browser(&stage.visit(&NAVIGATION)?.answer()?)?;
        wait::until_true("all of them to wait", SOON, || {
            Ok(Metrics::of(world)?.get("fleeks_gateway_requests_in_flight") >= 4.0)
        })?;
        let held = [machine.0.is_finished(), call.is_finished()];
        ensure!(held == [false, false], "{held:?}");
        ensure!(!socket.is_finished() && !browser.is_finished());

        stage.go_on()?;
        ensure!(machine.answer()?.json()?["pid"] == stage.pid);
        ensure!(joined(call)?.ok()?["stdout"] == "here\n");
        joined(socket)?;
        let told = joined(browser)?;
        ensure!(told == "asks\nloads again\n", "the page's script: {told:?}");
        let page = stage.visit(&NAVIGATION)?.answer()?;
        ensure!(page.json()?["pid"] == stage.pid, "{page:?}");
        let woken = Metrics::of(world)?.sum("fleeks_wakes_total");
        ensure!(woken == 1.0, "{woken} wakes");
    }
    stage.close()
}

/// Whoever waits until the deadline is told so, and when to come again; the wake goes on.
pub fn nobody_waits_for_ever(runtime: Runtime) -> Result<()> {
    let stage = Stage::open(runtime)?;
    {
        let began = Instant::now();
        let visits = [
            stage.visit(&[])?,
            stage.visit(&["Accept: text/html", "Sec-Fetch-Mode: cors"])?,
            stage.visit(&UPGRADE)?,
        ];
        let call = stage.call("files");
        for visit in visits {
            let answer = visit.answer()?;
            let waited = began.elapsed();
            ensure!(waited >= DEADLINE - Duration::from_secs(1), "{waited:?}");
            ensure!(answer.status == 503, "{answer:?}");
            ensure!(
                answer.header("x-fleeks-error") == "wake_timeout",
                "{answer:?}"
            );
            ensure!(answer.header("retry-after") == "2", "{answer:?}");
            ensure!(
                answer.header("content-type") == "application/json",
                "{answer:?}"
            );
        }
        let refused = joined(call)?;
        let text = refused.refused(&[503])?.text();
        ensure!(!refused.retry_after.is_empty(), "{text}");
        let waited = began.elapsed();
        ensure!(waited < Duration::from_secs(30), "{waited:?}");

        stage.go_on()?;
        let answer = wait::until("the wake that went on", SOON, || {
            let answer = stage.visit(&[])?.answer()?;
            Ok((answer.status == 200).then_some(answer))
        })?;
        ensure!(answer.json()?["pid"] == stage.pid, "{answer:?}");
        let woken = Metrics::of(&stage.world)?.sum("fleeks_wakes_total");
        ensure!(woken == 1.0, "{woken} wakes");
    }
    stage.close()
}

const NAVIGATION: [&str; 2] = [
    "Accept: text/html,application/xhtml+xml",
    "Sec-Fetch-Mode: navigate",
];
const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: aGVyZSBhcmUgMTYgYg==",
];

/// A workspace that sleeps, and whose wake stands still until it may go on.
struct Stage {
    world: World,
    workspace: Option<Workspace>,
    pid: i64,
    go: PathBuf,
}

struct Visit(JoinHandle<Result<Answer>>);

impl Visit {
    fn answer(self) -> Result<Answer> {
        joined(self.0)
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().ok().context("a thread died")?
}

impl Stage {
    fn open(runtime: Runtime) -> Result<Self> {
        let mut world = World::builder(runtime).pool("python", 0).open()?;
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let url = workspace.preview_url()?;
        let app = Curl::new(&world, Version::H2, &url)?.send()?.json()?;
        let go = volume(&world, &workspace)?.join("go");
        workspace.hibernate()?.ok()?;
        world.kill()?;
        let point = format!("wake.recorded=wait:{}", go.display());
        world.set("FLEEKS_FAIL_POINTS", &point);
        world.start()?;
        Ok(Self {
            world,
            workspace: Some(workspace),
            pid: app["pid"].as_i64().context("no pid")?,
            go,
        })
    }

    fn workspace(&self) -> Result<&Workspace> {
        self.workspace.as_ref().context("no workspace")
    }

    fn visit(&self, headers: &[&str]) -> Result<Visit> {
        let url = self.workspace()?.preview_url()?;
        let mut curl = Curl::new(&self.world, Version::H1, &url)?;
        for header in headers {
            curl = curl.header(header);
        }
        Ok(Visit(std::thread::spawn(move || curl.send())))
    }

    /// A call of its owner's that needs it awake.
    fn call(&self, what: &'static str) -> JoinHandle<Result<Reply>> {
        let of = self.workspace.as_ref();
        let of = of.map(|workspace| (workspace.api().clone(), workspace.project.clone()));
        std::thread::spawn(move || {
            let (api, project) = of.context("no workspace")?;
            let (path, body) = match what {
                "files" => (
                    format!("/api/v1/sdk/files/{project}"),
                    json!({"path": "a", "content": "b", "encoding": "utf-8"}),
                ),
                _ => (
                    format!("/api/v1/sdk/{what}"),
                    json!({"project_id": project, "command": "echo here"}),
                ),
            };
            api.post(&path, &body)
        })
    }

    /// Opens a websocket and says something.
    fn socket(&self) -> Result<JoinHandle<Result<()>>> {
        let (host, port) = (self.workspace()?.host()?, self.world.ready()?.http.port());
        let address = self.world.ready()?.http;
        Ok(std::thread::spawn(move || {
            let mut socket = websocket::plain(address, &format!("ws://{host}:{port}/ws"))?;
            socket.send(Message::text("here"))?;
            ensure!(socket.read()? == Message::text("here"));
            Ok(())
        }))
    }

    /// What a browser does with the page; what it did.
    fn browser(&self, page: &Answer) -> Result<JoinHandle<Result<String>>> {
        let text = page.text();
        let (_, script) = text.rsplit_once("<script>").context("no script")?;
        let (script, _) = script.split_once("</script>").context("no end of it")?;
        let mut node = Command::new("node");
        node.args(["-e", BROWSER, "--", script]);
        node.arg(self.world.ready()?.http.port().to_string());
        node.arg(self.workspace()?.host()?);
        Ok(std::thread::spawn(move || {
            process::run(node, SOON)?.success()
        }))
    }

    fn go_on(&self) -> Result<()> {
        Ok(std::fs::write(&self.go, "")?)
    }

    fn close(mut self) -> Result<()> {
        drop(self.workspace.take());
        self.world.stop()
    }
}
