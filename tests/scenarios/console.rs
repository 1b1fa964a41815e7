//! The console, used in a real browser against a real platform. What is clicked stands in
//! `console/test`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::ways::Ways;
use fleeks_tests::world::{Runtime, repository};
use fleeks_tests::{World, process};

/// Far more than the walk takes.
const WALK: Duration = Duration::from_secs(360);

/// On a platform of its own: what is in the list is then known.
pub fn an_owner_walks_through_it(runtime: Runtime) -> Result<()> {
    let world = World::builder(runtime).pool("python", 2).open()?;
    let ready = world.ready()?;
    let shots = repository().join("test-output/console");
    fs::create_dir_all(&shots).context("make a place for screenshots")?;
    let ways = Ways::to(&[ready.http.port(), ready.https.port()])?;
    let mut command = ways.command("node");
    command
        .arg(repository().join("console/test/run.mjs"))
        .arg("browser");
    command
        .env("FLEEKS_HTTP", format!("http://{}", ready.http))
        .env("FLEEKS_HTTPS", ready.https.port().to_string())
        .env("FLEEKS_DOMAIN", &ready.domain)
        .env("FLEEKS_KEY_FILE", &ready.api_key_file)
        .env("FLEEKS_SHOTS", &shots)
        .env("NO_PROXY", "*");
    let walked = process::run(command, WALK)?;
    let said = walked.success().with_context(|| {
        format!(
            "the walk ended early; the platform's log ends:\n{}",
            world.log_tail()
        )
    })?;
    ensure!(
        said.contains("by every address"),
        "it did not walk to its end:\n{said}"
    );
    world.stop()
}
