//! The API against its own description: whatever is sent, no answer is a fault of ours, and every
//! answer is as described.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::world::{Runtime, repository};
use fleeks_tests::{Workspace, World, process};

/// A few strange calls of each kind.
pub fn calls_and_answers_agree(runtime: Runtime) -> Result<()> {
    agree(runtime, 2, Duration::from_secs(300))
}

/// Many.
pub fn calls_and_answers_agree_for_long(runtime: Runtime) -> Result<()> {
    agree(runtime, 300, Duration::from_secs(3 * 3600))
}

/// On a platform of its own: strangers' calls make, change and delete whatever they hit upon.
fn agree(runtime: Runtime, examples: u32, limit: Duration) -> Result<()> {
    let world = World::builder(runtime).pool("default", 1).open()?;
    let api = world.api()?;
    let described = api.without_key().get("/openapi.json")?.ok()?;
    ensure!(
        described["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let paths = described["paths"].as_object().context("no paths")?;
    ensure!(paths.len() > 40, "only {} paths are described", paths.len());
    // Generated clients name their functions after these.
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, call) in item.as_object().context("no calls")? {
            let id = call["operationId"].as_str();
            let id = id.with_context(|| format!("{method} {path} has no id"))?;
            ensure!(ids.insert(id), "{method} {path}: {id} is another's id");
        }
    }
    let page = api.without_key().get("/docs")?;
    ensure!(
        page.status == 200 && page.content_type.starts_with("text/html"),
        "{page:?}"
    );
    ensure!(
        !page.text().contains("https://"),
        "the page is not all from here"
    );

    // One that is there, for calls to get further than to a 404.
    let workspace = Workspace::create(api.clone(), "described", "default")?;
    let scratch = world.scratch()?;
    let known = format!(
        "[parameters]\n\"path.project_id\" = \"{}\"\n\"path.container_id\" = \"{}\"\n\
         \"path.name\" = \"default\"\n",
        workspace.project, workspace.container
    );
    std::fs::write(scratch.join("schemathesis.toml"), known)?;
    let tool = repository().join(".venv/bin/schemathesis");
    let mut command = Command::new(&tool);
    command
        .arg("run")
        .arg(format!("{}/openapi.json", api.base()));
    command.args(["--header", &format!("X-API-Key: {}", api.key())]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    // It finds out the ids of keys, its own among them, and would be locked out. A watch goes on
    // until its reader leaves, and this reader waits for the end.
    command.args(["--exclude-path-regex", "/api/v1/keys/|/watch$"]);
    command.args([
        "--exclude-name",
        "DELETE /api/v1/sdk/workspaces/{project_id}",
    ]);
    command.args([
        "--phases",
        "fuzzing",
        "--max-examples",
        &examples.to_string(),
    ]);
    command.args([
        "--workers",
        "2",
        "--generation-database",
        "none",
        "--no-color",
    ]);
    command.env("NO_PROXY", "*").current_dir(&scratch);
    let finished = process::run(command, limit)?;
    finished
        .success()
        .with_context(|| format!("{} found a disagreement", tool.display()))?;
    drop(workspace);
    world.stop()
}
