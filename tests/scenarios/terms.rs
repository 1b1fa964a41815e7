//! What keys and owners may: scopes, limits, quotas; and what they are told that they used.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Api, Curl, Workspace, World, python, wait};
use serde_json::{Value, json};

const KEYS: &str = "/api/v1/keys";
const PATIENCE: Duration = Duration::from_secs(60);

fn key(world: &World, body: Value) -> Result<(Value, Api)> {
    let made = world.api()?.post(KEYS, &body)?.ok()?;
    let api = world.api_as(&text(&made, "key")?);
    Ok((made, api))
}

fn owner() -> String {
    format!("owner-{:08x}", rand::random::<u32>())
}

/// A key does what its scopes say, and makes none that does more.
pub fn scopes_hold(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    workspace.write("a.txt", "a")?;
    let (project, container) = (&workspace.project, &workspace.container);
    let run = json!({"project_id": project, "command": "true"});
    let file = json!({"path": "b.txt", "content": "b"});
    let read = format!("/api/v1/sdk/files/{project}/content?path=a.txt");
    let write = format!("/api/v1/sdk/files/{project}");
    let (_, reader) = key(world, json!({"scopes": ["read"], "name": "reader"}))?;
    reader.get(&read)?.ok()?;
    reader.post(&write, &file)?.refused(&[403])?;
    reader
        .post("/api/v1/sdk/terminal/execute", &run)?
        .refused(&[403])?;
    let exec = format!("/api/v1/sdk/containers/{container}/exec");
    reader.post(&exec, &run)?.refused(&[403])?;
    let wake = format!("/api/v1/sdk/containers/{container}/wake");
    reader.call("POST", &wake, &[])?.refused(&[403])?;
    reader.get(KEYS)?.refused(&[403])?;
    let info = reader.get("/api/v1/sdk/auth/key-info")?.ok()?;
    ensure!(
        info["scopes"] == json!(["read"]) && info["name"] == "reader",
        "{info}"
    );
    let used = reader.get("/api/v1/sdk/usage/stats")?.ok()?;
    ensure!(used["requests_refused"]["total"] == 5, "{used}");
    let terminals = format!("/api/v1/sdk/workspaces/{project}/terminals");
    reader.get(&terminals)?.ok()?;
    let shell = json!({"command": "cat"});
    let (_, writer) = key(world, json!({"scopes": ["read", "write"]}))?;
    for without in [&reader, &writer] {
        without.post(&terminals, &shell)?.refused(&[403])?;
    }
    let (_, runner) = key(world, json!({"scopes": ["exec"]}))?;
    runner.post("/api/v1/sdk/terminal/execute", &run)?.ok()?;
    runner.get(&read)?.refused(&[403])?;
    let opened = runner.post(&terminals, &shell)?.ok()?;
    let opened = format!("{terminals}/{}", text(&opened, "terminal_id")?);
    writer.delete(&opened)?.refused(&[403])?;
    runner.delete(&opened)?.ok()?;
    // Who asks to talk otherwise may not see more.
    let url = format!("{}{read}", world.api()?.base());
    let sly = Curl::new(world, Version::H1, &url)?
        .header(&format!("X-API-Key: {}", runner.key()))
        .header("Upgrade: websocket")
        .header("Connection: Upgrade")
        .send()?;
    ensure!(sly.status == 403, "{sly:?}");

    let (_, manager) = key(
        world,
        json!({"owner_name": owner(), "scopes": ["read", "keys"]}),
    )?;
    let made = manager.post(KEYS, &json!({"scopes": ["read"]}))?.ok()?;
    ensure!(made["scopes"] == json!(["read"]), "{made}");
    for more in [
        json!({"scopes": ["write"]}),
        json!({"owner_name": "default"}),
    ] {
        manager.post(KEYS, &more)?.refused(&[403])?;
    }
    // No more than it has itself, if nothing is said.
    let same = manager.post(KEYS, &json!({}))?.ok()?;
    ensure!(same["scopes"] == json!(["read", "keys"]), "{same}");
    let listed = manager.get(KEYS)?.ok()?;
    ensure!(
        listed["keys"].as_array().map(Vec::len) == Some(3),
        "{listed}"
    );
    manager.get("/api/v1/owners")?.refused(&[403])?;
    for wrong in [
        json!({"scopes": []}),
        json!({"scopes": ["root"]}),
        json!({"rate_limit": {"requests_per_second": 0, "burst": 1}}),
        json!({"expires_in_seconds": 0}),
        json!({"name": "x".repeat(200)}),
    ] {
        world.api()?.post(KEYS, &wrong)?.refused(&[422])?;
    }
    Ok(())
}

/// A key beyond its limit is told to wait, in whole seconds, and goes on when it has waited. The SDK
/// does that by itself.
pub fn limits_hold(world: &World) -> Result<()> {
    let limit = json!({"rate_limit": {"requests_per_second": 1, "burst": 3}});
    let (made, api) = key(world, limit)?;
    let lists = "/api/v1/sdk/workspaces";
    let mut refused = None;
    for _ in 0..20 {
        let answer = api.get(lists)?;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.ok()?;
    }
    let refused = refused.ok_or_else(|| anyhow::anyhow!("20 requests were let through"))?;
    refused.refused(&[429])?;
    let seconds: u32 = refused.retry_after.parse()?;
    ensure!((1..=5).contains(&seconds), "{seconds}");
    wait::until_true("its turn to come", PATIENCE, || {
        Ok(api.get(lists)?.status == 200)
    })?;
    let info = wait::until("its turn to come", PATIENCE, || {
        let answer = api.get("/api/v1/sdk/auth/key-info")?;
        Ok((answer.status == 200).then_some(answer))
    })?;
    ensure!(info.ok()?["rate_limit"]["burst"] == 3);
    // Other keys of the same owner are not held up.
    ensure!(world.api()?.get(lists)?.status == 200);
    let id = text(&made, "key_id")?;
    world.api()?.delete(&format!("{KEYS}/{id}"))?.ok()?;
    api.get(lists)?.refused(&[401])?;
    Ok(())
}

/// An owner gets no more than its quota, is told so clearly, and goes on after making room.
pub fn quotas_hold(world: &World) -> Result<()> {
    let (made, api) = key(world, json!({"owner_name": owner()}))?;
    let owner = text(&made, "owner_id")?;
    let quota = |body: Value| -> Result<()> {
        let path = format!("/api/v1/owners/{owner}/quota");
        world.api()?.put(&path, &body)?.ok()?;
        Ok(())
    };
    quota(json!({"workspaces": 2}))?;
    let first = Workspace::create(api.clone(), "one", "python")?;
    let second = Workspace::create(api.clone(), "two", "default")?;
    let create = |project: &str| {
        let body = json!({"project_id": project, "template": "default"});
        api.post("/api/v1/sdk/workspaces", &body)
    };
    create("three")?.refused(&[403])?;
    create("two")?.ok()?;
    drop(second);
    let third = create("three")?.ok()?;
    ensure!(third["project_id"] == "three");
    // Many at once do not get past it either.
    api.delete("/api/v1/sdk/workspaces/three")?.ok()?;
    let made = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..6)
            .map(|n| scope.spawn(move || create(&format!("many-{n}")).map(|answer| answer.status)))
            .collect();
        let tries = tries.into_iter().map(|one| one.join());
        tries.filter(|status| matches!(status, Ok(Ok(200)))).count()
    });
    ensure!(made == 1, "{made} were made where one place was left");

    quota(json!({"running": 1}))?;
    let hibernate = format!("/api/v1/sdk/containers/{}/hibernate", first.container);
    api.call("POST", &hibernate, &[])?.ok()?;
    // The other one runs: this one may not.
    first.execute("true", 10)?.refused(&[403])?;
    create("four")?.refused(&[403])?;
    let used = api.get("/api/v1/sdk/usage/stats")?.ok()?;
    ensure!(
        used["workspaces_running"] == 1 && used["quota"]["running"] == 1,
        "{used}"
    );
    quota(json!({}))?;
    first.sh("true")?;

    quota(json!({"disk_mib": 16}))?;
    first.sh("head -c 20M /dev/zero > big")?;
    let body = json!({"path": "more.txt", "content": "more"});
    let write = first.files("");
    wait::until_true("the disk to be used up", PATIENCE, || {
        Ok(api.post(&write, &body)?.status == 507)
    })?;
    api.post(&write, &body)?.refused(&[507])?;
    create("five")?.refused(&[507])?;
    let used = api.get("/api/v1/sdk/usage/stats")?.ok()?;
    ensure!(used["disk_mb"].as_f64() > Some(19.0), "{used}");
    api.delete(&first.files("/content?path=big"))?.ok()?;
    wait::until_true("room to be made", PATIENCE, || {
        Ok(api.post(&write, &body)?.status == 200)
    })?;
    quota(json!({}))?;
    Ok(())
}

/// What was used is counted, and goes on being counted after a restart.
pub fn usage_is_counted(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("python", 1).open()?;
    let workspace = world.workspace("python")?;
    let usage = |world: &World| world.api()?.get("/api/v1/sdk/usage/stats")?.ok();
    let before = usage(&world)?;
    for _ in 0..10 {
        workspace.sh("true")?;
    }
    let number = |of: &Value, window: &str| of["requests"][window].as_u64().unwrap_or_default();
    let after = usage(&world)?;
    ensure!(
        number(&after, "total") == number(&before, "total") + 11,
        "{before} {after}"
    );
    ensure!(
        after["workspaces"] == 1 && after["workspaces_ready"] == 1,
        "{after}"
    );
    world.terminate()?;
    world.start()?;
    let again = usage(&world)?;
    ensure!(number(&again, "total") > number(&after, "total"), "{again}");
    ensure!(
        again["running_hours"]["total"].as_f64() > Some(0.0),
        "{again}"
    );
    ensure!(world.api()?.get("/api/v1/billing/usage")?.ok()?["owner_id"] == after["owner_id"]);
    drop(workspace);
    world.stop()
}

/// Account, and all that belongs to the customer's own AI, from the SDK.
pub fn the_sdk_looks_around(world: &World) -> Result<()> {
    let project = format!("around-{:08x}", rand::random::<u32>());
    python::run(
        world,
        "look_around.py",
        &[&project],
        Duration::from_secs(120),
    )?;
    Ok(())
}
