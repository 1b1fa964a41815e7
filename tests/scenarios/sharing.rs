//! Private previews and share links, through real TLS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::{Answer, Version};
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, apps, wait};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A link lets its holder in, and nobody else, also after sleep, kill and restart; until it is
/// revoked.
pub fn a_link_outlives_sleep_and_restarts(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 8000)?;
    let url = workspace.preview_url()?;
    ensure!(visit(&world, &url, None)?.status == 200, "public at first");
    let access = format!("/api/v1/sdk/workspaces/{}/access", workspace.project);
    let set = workspace
        .api()
        .put(&access, &json!({"visibility": "private"}))?
        .ok()?;
    ensure!(set["visibility"] == "private", "{set}");
    wait::until_true("the preview to be private", PATIENCE, || {
        Ok(visit(&world, &url, None)?.status == 403)
    })?;

    let (main, other) = (
        share(&workspace, json!({}))?,
        share(&workspace, json!({"port": 8000}))?,
    );
    let cookie = redeem(&world, &main)?;
    ensure!(visit(&world, &url, Some(&cookie))?.status == 200);
    let labelled = url.replace("https://", "https://8000--");
    ensure!(
        visit(&world, &labelled, Some(&cookie))?.status == 403,
        "one port only"
    );
    ensure!(visit(&world, &labelled, Some(&redeem(&world, &other)?))?.status == 200);
    // What the app sees has neither cookie nor token.
    let seen = visit(&world, &url, Some(&format!("{cookie}; mine=1")))?;
    ensure!(
        seen.json()?["headers"]["cookie"] == "mine=1",
        "{}",
        seen.text()
    );

    let hibernate = format!("/api/v1/sdk/containers/{}/hibernate", workspace.container);
    workspace.api().call("POST", &hibernate, &[])?.ok()?;
    ensure!(visit(&world, &url, None)?.status == 403);
    ensure!(
        lifecycle(&workspace)?["state"] == "hibernating",
        "nobody was let in"
    );
    ensure!(
        visit(&world, &url, Some(&cookie))?.status == 200,
        "woken for its guest"
    );
    world.kill()?;
    world.start()?;
    ensure!(visit(&world, &url, None)?.status == 403);
    ensure!(visit(&world, &url, Some(&cookie))?.status == 200);
    world.terminate()?;
    world.start()?;
    ensure!(visit(&world, &url, None)?.status == 403);
    ensure!(visit(&world, &url, Some(&redeem(&world, &main)?))?.status != 403);

    let links = format!("/api/v1/sdk/workspaces/{}/share-links", workspace.project);
    let listed = workspace.api().get(&links)?.ok()?;
    ensure!(
        listed["share_links"].as_array().map(Vec::len) == Some(2),
        "{listed}"
    );
    ensure!(
        !listed.to_string().contains("fleeks_share"),
        "a token was told again"
    );
    let revoke = format!("{links}/{}", text(&main, "link_id")?);
    workspace.api().delete(&revoke)?.ok()?;
    workspace.api().delete(&revoke)?.refused(&[404])?;
    wait::until_true("the link to be of no use", PATIENCE, || {
        Ok(visit(&world, &url, Some(&cookie))?.status == 403)
    })?;
    let gone = Curl::new(&world, Version::H2, &text(&main, "url")?)?.send()?;
    ensure!(gone.status == 403, "{gone:?}");
    workspace
        .api()
        .put(&access, &json!({"visibility": "public"}))?
        .ok()?;
    wait::until_true("the preview to be public", PATIENCE, || {
        Ok(visit(&world, &url, None)?.status != 403)
    })?;
    drop(workspace);
    world.stop()
}

/// A link ends by itself, and nonsense makes none.
pub fn a_link_expires(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let access = format!("/api/v1/sdk/workspaces/{}/access", workspace.project);
    workspace
        .api()
        .put(&access, &json!({"visibility": "private"}))?
        .ok()?;
    let link = share(
        &workspace,
        json!({"expires_in_seconds": 1, "label": "a moment"}),
    )?;
    wait::until_true("the link to be over", PATIENCE, || {
        let answer = Curl::new(world, Version::H2, &text(&link, "url")?)?.send()?;
        Ok(answer.status == 403)
    })?;
    let links = format!("/api/v1/sdk/workspaces/{}/share-links", workspace.project);
    for body in [
        json!({"port": 0}),
        json!({"port": 70000}),
        json!({"expires_in_seconds": 0}),
        json!({"expires_in_seconds": 1_000_000_000_i64}),
        json!({"port": "x"}),
    ] {
        workspace.api().post(&links, &body)?.refused(&[422])?;
    }
    workspace
        .api()
        .put(&access, &json!({"visibility": "secret"}))?
        .refused(&[422])?;
    Ok(())
}

fn share(workspace: &Workspace, body: Value) -> Result<Value> {
    let links = format!("/api/v1/sdk/workspaces/{}/share-links", workspace.project);
    workspace.api().post(&links, &body)?.ok()
}

/// Opens a link as a browser does; the cookie.
fn redeem(world: &World, link: &Value) -> Result<String> {
    let url = text(link, "url")?;
    let answer = Curl::new(world, Version::H2, &url)?.send()?;
    ensure!(answer.status == 302, "{answer:?}");
    let location = answer.headers.get("location").context("no location")?;
    ensure!(
        !location.contains("fleeks_share") && url.starts_with(location.as_str()),
        "{location}"
    );
    let cookie = answer.headers.get("set-cookie").context("no cookie")?;
    for part in [
        "__Host-fleeks-share-",
        "Secure",
        "HttpOnly",
        "Path=/",
        "SameSite=Lax",
    ] {
        ensure!(cookie.contains(part), "{cookie}");
    }
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

fn visit(world: &World, url: &str, cookie: Option<&str>) -> Result<Answer> {
    let mut curl = Curl::new(world, Version::H2, url)?;
    if let Some(cookie) = cookie {
        curl = curl.header(&format!("Cookie: {cookie}"));
    }
    curl.send()
}

fn lifecycle(workspace: &Workspace) -> Result<Value> {
    let path = format!("/api/v1/sdk/containers/{}/lifecycle", workspace.container);
    workspace.api().get(&path)?.ok()
}
