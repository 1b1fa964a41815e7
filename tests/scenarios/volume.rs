//! Files at volume: archives, ten thousand small files, pages, ranges, races, uploads in parts; and
//! that a quota ends them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Workspace, World, python};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(300);

/// All of it, as a client in another language sees it; on gVisor with fewer files, since each
/// costs it more than anybody wants to wait for every day.
pub fn archives_pages_ranges_and_parts(world: &World) -> Result<()> {
    let (files, rounds) = match world.runtime() {
        Runtime::Runc => ("10000", "10"),
        Runtime::Runsc => ("2000", "3"),
    };
    volume(world, files, rounds)
}

/// With as many on both.
pub fn ten_thousand_files_and_more_races(world: &World) -> Result<()> {
    volume(world, "10000", "50")
}

fn volume(world: &World, files: &str, rounds: &str) -> Result<()> {
    let workspace = world.workspace("python")?;
    let arguments = ["all", &workspace.project, files, rounds];
    let told = python::run(world, "volume.py", &arguments, LIMIT)?;
    ensure!(told["ok"] == true, "{told}");
    Ok(())
}

/// An upload goes on after the platform was killed.
pub fn an_upload_outlives_a_kill(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime).pool("default", 1).open()?;
    let workspace = world.workspace("default")?;
    let told = python::run(&world, "volume.py", &["half", &workspace.project], LIMIT)?;
    let place = text(&told, "place")?;
    world.kill()?;
    world.start()?;
    let arguments = ["rest", &workspace.project, &place];
    python::run(&world, "volume.py", &arguments, LIMIT)?;
    drop(workspace);
    world.stop()
}

/// What would go over an owner's quota is refused with 507: a body while it comes, an archive before
/// anything of it is written, an upload before it begins; what the sandbox wrote counts as well.
pub fn quotas_end_uploads(world: &World) -> Result<()> {
    let name = format!("vol-{:08x}", rand::random::<u32>());
    let made = world
        .api()?
        .post("/api/v1/keys", &json!({"owner_name": name}))?
        .ok()?;
    let (owner, api) = (text(&made, "owner_id")?, world.api_as(&text(&made, "key")?));
    let path = format!("/api/v1/owners/{owner}/quota");
    world.api()?.put(&path, &json!({"disk_mib": 16}))?.ok()?;
    let workspace = Workspace::create(api.clone(), "small", "default")?;
    workspace.sh("head -c 6M /dev/zero > own")?;
    let large = vec![b'x'; 20 << 20];
    let raw = workspace.files("/raw?path=large");
    api.call("PUT", &raw, &large)?.refused(&[507])?;
    workspace.try_read("large")?.refused(&[404])?;
    let upload = workspace.files("/uploads?path=large");
    let length = [("Upload-Length", "20971520")];
    api.call_with("POST", &upload, &length, &[])?
        .refused(&[507])?;
    // Small as it comes, too large as it is: 40 MiB in one file of zeros.
    workspace.sh("rm own")?;
    workspace.sh("head -c 20M /dev/zero > /tmp/zeros; tar czf all.tar.gz -C /tmp zeros")?;
    let archive = api.get(&workspace.files("/raw?path=all.tar.gz"))?.body;
    let put = workspace.files("/archive");
    api.call("PUT", &put, &archive)?.refused(&[507])?;
    workspace.try_read("zeros")?.refused(&[404])?;
    // What fits is taken.
    let fits = api.call("PUT", &raw, &large[..4 << 20])?.ok();
    fits.context("what fits")?;
    world.api()?.put(&path, &json!({}))?.ok()?;
    let free = api.call("PUT", &put, &archive)?.ok();
    free.context("without a quota")?;
    Ok(())
}
