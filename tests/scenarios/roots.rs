//! The Debian root: made from the machine's own archives, used by templates that name it, and
//! nothing left of one that was killed in the making.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{World, process, templates, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// All languages of it, on a machine that has other things to do.
const MADE: Duration = Duration::from_secs(3000);
const SOON: Duration = Duration::from_secs(30);

/// One with a single language.
pub fn a_small_debian_root(runtime: Runtime) -> Result<()> {
    let (world, _templates) = world(runtime, "'ruby'")?;
    let info = templates::info(&world, "deb")?;
    ensure!(info["available"] == false, "{info}");
    ensure!(
        text(&info, "fix")?.contains("template build --root debian"),
        "{info}"
    );
    killed_in_the_making(&world)?;

    let finished = process::run(command(&world, &["--language", "ruby"])?, MADE)?;
    let progress = finished.stderr.clone();
    let made: Value = serde_json::from_str(&finished.success()?)?;
    ensure!(made["languages"] == serde_json::json!(["ruby"]), "{made}");
    ensure!(!progress.contains("Error"), "{progress}");
    ensure!(
        !building(&world).exists(),
        "something of the making is left"
    );
    wait::until_true("the root to be seen", SOON, || {
        Ok(templates::info(&world, "deb")?["available"] == true)
    })?;
    let workspace = world.workspace("deb")?;
    ensure!(workspace.sh("ruby -e 'print 6 * 7'")? == "42");
    ensure!(
        workspace
            .sh("ls /usr/bin/python3 /usr/bin/node 2>/dev/null || echo none")?
            .contains("none")
    );
    // Where the machine fetches its packages from is nobody's business inside.
    ensure!(
        workspace.sh("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | wc -l")?
            == "0"
    );
    let slept = workspace.hibernate()?;
    ensure!(slept.status == 200, "{}", slept.text());
    ensure!(workspace.sh("ruby -e 'print 6 * 7'")? == "42");
    drop(workspace);
    world.stop()
}

/// One with every language.
pub fn a_whole_debian_root(runtime: Runtime) -> Result<()> {
    let all = "'python', 'nodejs', 'go', 'rust', 'java', 'php', 'ruby'";
    let (world, _templates) = world(runtime, all)?;
    process::run(command(&world, &[])?, MADE)?.success()?;
    wait::until_true("the root to be seen", SOON, || {
        Ok(templates::info(&world, "deb")?["available"] == true)
    })?;
    let workspace = world.workspace("deb")?;
    let languages = workspace.info["languages"].as_array().map(Vec::len);
    ensure!(languages == Some(7), "{}", workspace.info);
    workspace.write(
        "a.go",
        "package main\nimport \"fmt\"\nfunc main() { fmt.Print(6 * 7) }\n",
    )?;
    workspace.write("a.rs", "fn main() { print!(\"{}\", 6 * 7) }\n")?;
    workspace.write(
        "A.java",
        "class A { public static void main(String[] a) { System.out.print(6 * 7); } }\n",
    )?;
    for line in [
        "python -c 'print(6 * 7)'",
        "node -p '6 * 7'",
        "go run a.go",
        "rustc a.rs && ./a",
        "java A.java",
        "php -r 'print 6 * 7;'",
        "ruby -e 'print 6 * 7'",
        "pip --version >/dev/null && npm --version >/dev/null && git --version >/dev/null && gcc --version >/dev/null && echo 42",
    ] {
        ensure!(workspace.sh(line)?.trim() == "42", "{line}");
    }
    drop(workspace);
    world.stop()
}

fn world(runtime: Runtime, languages: &str) -> Result<(World, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("deb");
    fs::create_dir(&own)?;
    let said = format!("description = 'Debian'\nrootfs = 'debian'\nlanguages = [{languages}]\n");
    fs::write(own.join("template.toml"), said)?;
    let world = World::builder(runtime)
        .pool("default", 0)
        .templates(directory.path())
        .open()?;
    Ok((world, directory))
}

fn command(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(fleeks_tests::world::binary()?);
    command.args(["template", "build", "--root", "debian", "--json"]);
    command
        .args(arguments)
        .env("FLEEKS_DATA_DIR", world.data_dir());
    Ok(command)
}

fn building(world: &World) -> std::path::PathBuf {
    world.data_dir().join("roots/.building")
}

fn killed_in_the_making(world: &World) -> Result<()> {
    let mut command = command(world, &["--language", "ruby"])?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = process::spawn(command, Signal::SIGKILL)?;
    let building = building(world);
    wait::until_true("the making to begin", SOON * 4, || {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("it ended with {status}");
        }
        Ok(building.join("root/var").exists())
    })?;
    // It alone, as an operator or the kernel would.
    kill(Pid::from_raw(child.id().try_into()?), Signal::SIGKILL)?;
    child.wait()?;
    wait::until_true("its helpers to end", SOON, || {
        Ok(users_of(&building)?.is_empty())
    })
    .with_context(|| format!("still there: {:?}", users_of(&building)))?;
    ensure!(!world.data_dir().join("roots/debian").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = mounts.contains(&building.display().to_string());
    ensure!(!mounted, "something is mounted in {}", building.display());
    Ok(())
}

/// Processes that are told of the directory.
fn users_of(directory: &Path) -> Result<Vec<String>> {
    let name = directory.display().to_string();
    let mut users = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&name) {
            users.push(line);
        }
    }
    Ok(users)
}
