//! Keys and owners.

use anyhow::{Result, ensure};
use fleeks_tests::workspace::text;
use fleeks_tests::{Api, Workspace, World};
use serde_json::json;

/// Missing, wrong and revoked keys are 401 on everything but `/health`.
pub fn keys_are_checked(world: &World) -> Result<()> {
    let api = world.api()?;
    let lists = "/api/v1/sdk/workspaces";
    ensure!(api.get(lists)?.status == 200);
    ensure!(api.without_key().get("/health")?.status == 200);
    api.without_key().get(lists)?.refused(&[401])?;
    let last = if api.key().ends_with('a') { 'b' } else { 'a' };
    let nearly = format!("{}{last}", &api.key()[..api.key().len() - 1]);
    let long = "x".repeat(8000);
    for wrong in [
        "fleeks_sk_0000000000000000000000000000000000000000",
        &nearly,
        "",
        "x",
        "%00",
        &long,
    ] {
        for path in [
            lists,
            "/api/v1/sdk/files/any?path=/",
            "/api/v1/sdk/auth/key-info",
            "/api/v1/sdk/nothing/here",
        ] {
            world.api_as(wrong).get(path)?.refused(&[401])?;
        }
    }
    let (id, other) = new_owner(world, "guest")?;
    ensure!(other.get(lists)?.status == 200);
    other
        .post("/api/v1/keys", &json!({"owner_name": "more"}))?
        .refused(&[403])?;
    other
        .delete(&format!("/api/v1/keys/{id}"))?
        .refused(&[403])?;
    api.delete(&format!("/api/v1/keys/{id}"))?.ok()?;
    other.get(lists)?.refused(&[401])?;
    ensure!(api.get(lists)?.status == 200);
    Ok(())
}

/// Two owners may both have `demo`; what is another's is 404, whatever is asked of it.
pub fn others_see_nothing(world: &World) -> Result<()> {
    let mine = world.workspace("python")?;
    mine.write("secret.txt", "mine")?;
    let job = mine.background("sleep 60")?;
    let (_, other) = new_owner(world, "stranger")?;
    let (project, container) = (&mine.project, &mine.container);
    for path in [
        format!("/api/v1/sdk/workspaces/{project}"),
        format!("/api/v1/sdk/workspaces/{project}/health"),
        format!("/api/v1/sdk/workspaces/{project}/preview-url"),
        format!("/api/v1/sdk/files/{project}?path=/"),
        format!("/api/v1/sdk/files/{project}/content?path=secret.txt"),
        format!("/api/v1/sdk/terminal/jobs?project_id={project}"),
        format!("/api/v1/sdk/terminal/jobs/{job}?project_id={project}"),
        format!("/api/v1/sdk/terminal/jobs/{job}/output?project_id={project}"),
        format!("/api/v1/sdk/containers/{container}/info"),
        format!("/api/v1/sdk/containers/{container}/processes"),
    ] {
        let reply = other.get(&path)?;
        reply
            .refused(&[404])
            .map_err(|error| error.context(path.clone()))?;
        ensure!(!reply.text().contains("mine"), "{path}: {}", reply.text());
    }
    other
        .delete(&format!("/api/v1/sdk/workspaces/{project}"))?
        .refused(&[404])?;
    other
        .delete(&format!(
            "/api/v1/sdk/terminal/jobs/{job}?project_id={project}"
        ))?
        .refused(&[404])?;
    let command = json!({"project_id": project, "command": "cat secret.txt", "working_dir": "/workspace", "timeout_seconds": 10});
    other
        .post("/api/v1/sdk/terminal/execute", &command)?
        .refused(&[404])?;
    other
        .post(
            &format!("/api/v1/sdk/files/{project}"),
            &json!({"path": "x", "content": "y"}),
        )?
        .refused(&[404])?;
    let listed = other.get("/api/v1/sdk/workspaces")?.ok()?;
    ensure!(!listed.to_string().contains(project.as_str()), "{listed}");

    let theirs = Workspace::create(other, project, "python")?;
    ensure!(theirs.container != mine.container && theirs.host()? != mine.host()?);
    theirs.write("secret.txt", "theirs")?;
    ensure!(mine.read("secret.txt")? == "mine" && theirs.read("secret.txt")? == "theirs");
    Ok(())
}

pub fn new_owner(world: &World, name: &str) -> Result<(String, Api)> {
    let name = format!("{name}-{:08x}", rand::random::<u32>());
    let made = world
        .api()?
        .post("/api/v1/keys", &json!({"owner_name": name}))?
        .ok()?;
    Ok((text(&made, "key_id")?, world.api_as(&text(&made, "key")?)))
}
