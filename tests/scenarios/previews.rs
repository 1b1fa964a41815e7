//! Apps that a workspace shows: started by a call, and there again after whatever happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, python, wait};
use serde_json::{Value, json};

/// Counts its visits, so that a new process is told from one that slept.
const APP: &str = r#"
import http.server, os
visits = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global visits
        visits += 1
        body = f"{os.environ['GREETING']} {visits}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
/// Processes of a loaded machine take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every call of the SDK's preview manager.
pub fn the_sdk_shows_an_app(world: &World) -> Result<()> {
    let project = format!("shown-{:08x}", rand::random::<u32>());
    python::run(world, "previews.py", &[&project], Duration::from_secs(180))?;
    Ok(())
}

/// An app that was shown goes on after hibernation, and is started again after everything else.
pub fn an_app_is_there_again(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    let workspace = world.workspace("python")?;
    workspace.write("shown.py", APP)?;
    let body = json!({
        "port": 7001, "command": "python shown.py", "env_vars": {"GREETING": "visit"},
    });
    let path = format!("/api/v1/preview/sessions/{}/start", workspace.project);
    let session = workspace.api().post(&path, &body)?.ok()?;
    let id = text(&session, "session_id")?;
    running(&workspace, &id)?;
    let url = workspace.preview_url()?;
    ensure!(visit(&world, &url)? == "visit 1");

    let container = format!("/api/v1/sdk/containers/{}", workspace.container);
    let hibernate = format!("{container}/hibernate");
    workspace.api().call("POST", &hibernate, &[])?.ok()?;
    ensure!(visit(&world, &url)? == "visit 2", "its memory slept");

    let broken = json!({"port": 7002, "command": "exit 3"});
    let broken = text(&workspace.api().post(&path, &broken)?.ok()?, "session_id")?;
    let broken = format!("/api/v1/preview/sessions/{broken}");
    wait::until_true("the other app to fail", PATIENCE, || {
        Ok(workspace.api().get(&broken)?.ok()?["status"] == "failed")
    })?;
    ensure!(
        visit(&world, &url)? == "visit 3",
        "one that failed took the address"
    );
    workspace.api().delete(&broken)?.ok()?;

    workspace.restart()?;
    running(&workspace, &id)?;
    ensure!(visit(&world, &url)? == "visit 1", "started again");

    world.kill()?;
    world.start()?;
    ensure!(
        visit(&world, &url)? == "visit 2",
        "the container outlived it"
    );

    world.terminate()?;
    world.start()?;
    // The visit starts the container, and that the app.
    wait::until_true("the app to be there again", PATIENCE, || {
        Ok(visit(&world, &url)? == "visit 1")
    })?;
    let session = running(&workspace, &id)?;
    ensure!(session["port"] == 7001, "{session}");
    drop(workspace);
    world.stop()
}

fn running(workspace: &Workspace, id: &str) -> Result<Value> {
    wait::until("the app to run", PATIENCE, || {
        let path = format!("/api/v1/preview/sessions/{id}");
        let session = workspace.api().get(&path)?.ok()?;
        Ok((session["status"] == "running").then_some(session))
    })
}

fn visit(world: &World, url: &str) -> Result<String> {
    Ok(Curl::new(world, Version::H2, url)?.send()?.text())
}

/// What a container used is measured: CPU, memory, network, disk, processes.
pub fn usage_is_measured(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let stats = || -> Result<Value> {
        let path = format!("/api/v1/sdk/containers/{}/stats", workspace.container);
        workspace.api().get(&path)?.ok()
    };
    let before = stats()?;
    workspace.sh("dd if=/dev/zero of=big bs=1M count=8 conv=fsync 2>/dev/null; rm big")?;
    workspace.background("sleep 300")?;
    workspace.background("python3 -c 'held = bytearray(b\"x\") * (64 << 20)\nwhile True: pass'")?;
    wait::until_true("the work to be seen", PATIENCE, || {
        let now = stats()?;
        let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or(-1.0);
        let risen = |name: &str, by: f64| number(&now, name) >= number(&before, name) + by;
        Ok(number(&now, "cpu_percent") > 10.0
            && risen("memory_mb", 48.0)
            && number(&now, "memory_percent") > number(&before, "memory_percent")
            && risen("process_count", 2.0)
            && risen("network_rx_mb", 0.0001)
            && risen("network_tx_mb", 0.0001)
            && risen("disk_write_mb", 7.9))
    })
}
