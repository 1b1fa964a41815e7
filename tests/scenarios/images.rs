//! Templates on OCI images: pulled from a real registry, run like any other, and nothing of what a
//! registry or an image may try.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::process;
use fleeks_tests::registry::{AUTH, Flaky, Image, Registry};
use fleeks_tests::templates;
use fleeks_tests::wait;
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, World};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

const BUSYBOX: &str = "/bin/busybox";
const BUILT: Duration = Duration::from_secs(120);

/// A layer in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Result<Self> {
        let mut header = Header::new_gnu();
        // As it is: the library would refuse what an attacker writes.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1234);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data)?;
        Ok(self)
    }

    fn file(self, path: &str, data: &str) -> Result<Self> {
        self.entry(EntryType::Regular, path, "", data.as_bytes())
    }

    fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// Busybox, a page, and a server of it as its command.
fn tiny(page: &str) -> Result<Image> {
    let busybox = fs::read(BUSYBOX).context("busybox-static: `ops/setup --tests` installs it")?;
    let mut below = Tar::new().entry(EntryType::Regular, "bin/busybox", "", &busybox)?;
    for name in [
        "sh", "cat", "id", "ls", "sleep", "touch", "env", "stat", "httpd",
    ] {
        below = below.entry(EntryType::Symlink, &format!("bin/{name}"), "busybox", b"")?;
    }
    let below = below.file("www/old.html", "old")?.file("secret", "old")?;
    let above = Tar::new()
        .file("www/.wh.old.html", "")?
        .file(".wh.secret", "")?
        .file("www/index.html", page)?
        .entry(EntryType::Directory, "opt/own/bin", "", b"")?
        .file("opt/own/bin/greet", "#!/bin/sh\necho found\n")?
        .entry(
            EntryType::Link,
            "opt/own/bin/hello",
            "opt/own/bin/greet",
            b"",
        )?;
    let mut image = Image::default()
        .layer(&below.bytes()?, "gzip")?
        .layer(&above.bytes()?, "zstd")?;
    image.said = json!({
        "Env": ["PATH=/opt/own/bin:/bin", "GREETING=from the image", "HOME=/nowhere"],
        "Cmd": ["httpd", "-f", "-p", "8080", "-h", "."], "WorkingDir": "/www",
        "ExposedPorts": { "8080/tcp": {} }, "User": "nobody",
    });
    Ok(image)
}

fn template(directory: &Path, name: &str, image: &str) -> Result<()> {
    let own = directory.join(name);
    fs::create_dir_all(&own)?;
    let said = format!("description = 'on an image'\nimage = '{image}'\n");
    Ok(fs::write(own.join("template.toml"), said)?)
}

fn build(world: &World, arguments: &[&str]) -> Result<process::Finished> {
    on_templates(world, "build", arguments)
}

/// What `fleeks template prune` says of images: that they are unused.
fn prune(world: &World, arguments: &[&str]) -> Result<Vec<String>> {
    let said = on_templates(world, "prune", &[arguments, &["--json"]].concat())?.success()?;
    let said: Value = serde_json::from_str(&said)?;
    let items = said["items"].as_array().context("no items")?;
    let images = items.iter().filter(|item| item["kind"] == "image");
    images.map(|item| text(item, "name")).collect()
}

fn on_templates(world: &World, what: &str, arguments: &[&str]) -> Result<process::Finished> {
    let mut command = Command::new(fleeks_tests::world::binary()?);
    command.args(["template", what]).args(arguments);
    command
        .env("FLEEKS_BASE_URL", world.api()?.base())
        .env("FLEEKS_DATA_DIR", world.data_dir())
        .env_remove("FLEEKS_API_KEY");
    process::run(command, BUILT)
}

/// What is in the directory of images, but for names that they were pulled by.
fn pulled(world: &World) -> Result<Vec<String>> {
    let directory = world.data_dir().join("images");
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.push(name);
    }
    for entry in fs::read_dir(world.data_dir().join("images/.staging"))
        .into_iter()
        .flatten()
    {
        names.push(format!(".staging/{}", entry?.file_name().to_string_lossy()));
    }
    names.retain(|name| !matches!(name.as_str(), "refs" | ".staging"));
    names.sort();
    Ok(names)
}

/// From a registry that wants to know who asks, by a name that leads to an index: built with
/// progress, then exec, preview, sleep and wake like any other; pulled again when the tag moves.
pub fn a_workspace_on_an_image(runtime: Runtime) -> Result<()> {
    let registry = Registry::start(true)?;
    let digest = registry.push("tiny/web", "first", &tiny("It is an image")?)?;
    registry.push_index("tiny/web", "1", &digest)?;
    let directory = tempfile::tempdir()?;
    let reference = format!("{}/tiny/web:1", registry.address());
    template(directory.path(), "web", &reference)?;
    let pinned = format!("{}/tiny/web@{digest}", registry.address());
    template(directory.path(), "pinned", &pinned)?;
    let credentials = directory.path().join("credentials.json");
    let world = World::builder(runtime)
        .pool("default", 1)
        .templates(directory.path())
        .set("FLEEKS_REGISTRY_AUTH", &credentials.display().to_string())
        .open()?;

    let info = templates::info(&world, "web")?;
    ensure!(info["available"] == true, "{info}");
    ensure!(info["dependencies"]["status"] == "missing", "{info}");
    ensure!(
        info["image"] == json!({"reference": reference, "digest": null}),
        "{info}"
    );
    // Without credentials, and with a file that others may read.
    let refused = build(&world, &["web"])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("credentials"),
        "{}",
        refused.stderr
    );
    let auths = json!({"auths": {registry.address().to_string(): {"auth": AUTH}}});
    fs::write(&credentials, auths.to_string())?;
    set_mode(&credentials, 0o600)?;
    let built = wait::until("the image to be pulled", BUILT, || {
        let built = build(&world, &["web"])?;
        ensure!(built.status.success(), "{}", built.stderr);
        Ok(Some(built))
    })?;
    ensure!(
        built.stderr.contains("web: begins"),
        "no progress: {}",
        built.stderr
    );
    let info = templates::info(&world, "web")?;
    ensure!(info["image"]["digest"] == digest.as_str(), "{info}");
    ensure!(info["main_ports"] == json!([8080]), "{info}");
    ensure!(info["languages"] == json!([]), "{info}");

    let workspace = world.workspace("web")?;
    ensure!(workspace.sh("cat /www/index.html")? == "It is an image");
    ensure!(
        workspace
            .sh("ls /www /secret 2>/dev/null || echo gone")?
            .contains("gone")
    );
    ensure!(
        workspace.sh("echo $GREETING $HOME $SHELL")? == "from the image /workspace/.home /bin/sh"
    );
    ensure!(workspace.sh("greet && hello")? == "found\nfound");
    ensure!(
        workspace.job("touch /www/new")?.exit_code != Some(0),
        "the root can be written to"
    );
    ensure!(workspace.sh("stat -c %a-%u /bin/busybox")? == "755-0");
    ensure!(
        workspace
            .sh("test -s /etc/resolv.conf && test -s /etc/ssl/certs/ca-certificates.crt && pwd")?
            == "/workspace"
    );
    workspace.write("own.txt", "mine")?;
    ensure!(workspace.sh("cat own.txt")? == "mine");
    // A counter in memory, beside the image's own server.
    workspace.background("i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.1; done")?;
    workspace.background(&text(&info, "run")?)?;
    let shown = || -> Result<()> {
        let answer = Curl::new(&world, Version::H2, &workspace.preview_url()?)?.send()?;
        ensure!(
            answer.status == 200 && answer.text() == "It is an image",
            "{answer:?}"
        );
        Ok(())
    };
    wait::until("the image's own server", BUILT, || shown().map(Some))?;
    let before: u64 = workspace.wait_for_file("count")?.trim().parse()?;
    let slept = workspace.hibernate()?;
    ensure!(slept.status == 200, "{}", slept.text());
    shown()?;
    ensure!(
        workspace.lifecycle()?["woken"] == "memory",
        "{}",
        workspace.lifecycle()?
    );
    wait::until_true("the counter to go on", BUILT, || {
        let now = workspace.read("count")?;
        Ok(now.trim().parse::<u64>().is_ok_and(|now| now > before))
    })?;

    // The same bytes by another name are not pulled twice.
    let other = world.workspace("pinned")?;
    ensure!(other.sh("cat /www/index.html")? == "It is an image");
    ensure!(pulled(&world)?.len() == 1, "{:?}", pulled(&world)?);
    // The tag moves: at a word, and only for those who follow it.
    let moved = registry.push("tiny/web", "1", &tiny("It moved")?)?;
    let document = build(&world, &["web", "--pull", "--json"])?.success()?;
    let document: Value = serde_json::from_str(&document)?;
    let built = &document["templates"][0];
    ensure!(built["image"]["digest"] == moved.as_str(), "{document}");
    let newer = world.workspace("web")?;
    ensure!(newer.sh("cat /www/index.html")? == "It moved");
    ensure!(world.workspace("pinned")?.sh("cat /www/index.html")? == "It is an image");
    shown()?;
    // What was pulled and left behind goes when no container is on it any more.
    registry.push("tiny/web", "1", &tiny("It moved again")?)?;
    build(&world, &["web", "--pull"])?.success()?;
    ensure!(pulled(&world)?.len() == 3, "{:?}", pulled(&world)?);
    ensure!(prune(&world, &[])?.is_empty(), "pruned below a container");
    ensure!(newer.sh("cat /www/index.html")? == "It moved");
    newer.delete()?;
    let unused = vec![format!("images/{}", moved.trim_start_matches("sha256:"))];
    ensure!(prune(&world, &["--dry-run"])? == unused);
    ensure!(pulled(&world)?.len() == 3, "a trial that takes away");
    ensure!(prune(&world, &[])? == unused);
    ensure!(prune(&world, &[])?.is_empty());
    wait::until_true("it to be gone", BUILT, || {
        Ok(fs::read_dir(world.data_dir().join("layers/.staging"))?.count() == 0)
    })?;
    shown()?;
    ensure!(world.workspace("pinned")?.sh("cat /www/index.html")? == "It is an image");
    ensure!(world.workspace("web")?.sh("cat /www/index.html")? == "It moved again");
    drop((workspace, other));
    world.stop()
}

/// Blobs that are not what they should be, an image that leads out of its directory, connections
/// that break: refused or mended, and nothing of it is left.
pub fn what_a_registry_may_not_do(runtime: Runtime) -> Result<()> {
    let registry = Registry::start(false)?;
    let directory = tempfile::tempdir()?;
    let declare = |name: &str, at: SocketAddr| {
        template(directory.path(), name, &format!("{at}/tests/{name}:1"))
    };
    // The layers differ, so that one's harm is not the other's.
    let layer = tiny("a")?;
    registry.push("tests/layer", "1", &layer)?;
    registry.tamper(&layer.blob(1))?;
    declare("layer", registry.address())?;

    let manifest = registry.push("tests/manifest", "1", &tiny("b")?)?;
    registry.tamper(&manifest)?;
    let pinned = format!("{}/tests/manifest@{manifest}", registry.address());
    template(directory.path(), "manifest", &pinned)?;

    let escape = Tar::new().file("../../escaped", "theirs")?.bytes()?;
    registry.push(
        "tests/escape",
        "1",
        &Image::default().layer(&escape, "gzip")?,
    )?;
    declare("escape", registry.address())?;
    let device = Tar::new()
        .entry(EntryType::Block, "dev/sda", "", b"")?
        .bytes()?;
    registry.push("tests/device", "1", &Image::default().layer(&device, "")?)?;
    declare("device", registry.address())?;
    declare("missing", registry.address())?;

    registry.push("tests/cut", "1", &tiny("c")?)?;
    let flaky = Flaky::before(registry.address(), 300_000)?;
    declare("cut", flaky.address())?;
    let hopeless = Flaky::before(registry.address(), 20)?;
    declare("hopeless", hopeless.address())?;

    let world = World::builder(runtime)
        .pool("default", 0)
        .templates(directory.path())
        .open()?;
    for (name, why) in [
        ("layer", "digest"),
        ("manifest", "digest"),
        ("escape", "upwards"),
        ("device", "device"),
        ("missing", "manifest unknown"),
        ("hopeless", "does not answer"),
    ] {
        let refused = build(&world, &[name])?;
        ensure!(
            !refused.status.success() && refused.stderr.contains(why),
            "{name}: {}",
            refused.stderr
        );
        let left = pulled(&world)?;
        ensure!(left.is_empty(), "{name} leaves {left:?}");
        let body = json!({"project_id": format!("no-{name}"), "template": name});
        let refused = world.api()?.post("/api/v1/sdk/workspaces", &body)?;
        ensure!(
            refused.status == 503,
            "{name}: {} {}",
            refused.status,
            refused.text()
        );
    }
    ensure!(!world.data_dir().join("escaped").exists());
    let cut = build(&world, &["cut"])?;
    ensure!(
        cut.status.success() && cut.stderr.contains("cut: pulls layer 1 of 2 ("),
        "no progress: {}",
        cut.stderr
    );
    ensure!(flaky.broken() > 0, "no connection was broken");
    ensure!(pulled(&world)?.len() == 1);
    let workspace = world.workspace("cut")?;
    ensure!(workspace.sh("cat /www/index.html")? == "c");
    drop(workspace);
    world.stop()
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}
