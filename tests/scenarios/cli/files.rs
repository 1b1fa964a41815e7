//! Files in and out: the bytes, the directories, and what only changed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::{World, process, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{LIMIT, command, document, lines, run, start, told};

/// Files go in and out unchanged: bytes, permissions, directories; and only what changed.
pub fn files_go_in_and_out(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let name = workspace.project.as_str();
    let scratch = world.scratch()?;
    let at = |path: &str| scratch.join(path).display().to_string();
    let there = |path: &str| format!("{name}:{path}");
    let content: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(at("bytes.bin"), &content)?;
    told(
        world,
        &["files", "cp", &at("bytes.bin"), &there("deep/er/")],
    )?;
    told(
        world,
        &["files", "cp", &there("deep/er/bytes.bin"), &at("back.bin")],
    )?;
    ensure!(
        fs::read(at("back.bin"))? == content,
        "other bytes came back"
    );
    let cat = run(world, &["files", "cat", name, "deep/er/bytes.bin"])?;
    ensure!(cat.stdout == content, "other bytes were printed");
    let absent = run(world, &["files", "cat", name, "no/such/file"])?;
    ensure!(absent.status.code() == Some(3), "{}", absent.stderr);

    fs::create_dir_all(scratch.join("app/src/.git"))?;
    fs::write(at("app/run.sh"), "#!/bin/sh\necho ran\n")?;
    fs::set_permissions(at("app/run.sh"), fs::Permissions::from_mode(0o755))?;
    fs::write(at("app/src/main.py"), "print('hello')\n")?;
    fs::write(at("app/src/.git/config"), "no")?;
    let sync = |more: &[&str]| -> Result<Value> {
        let (from, to) = (at("app"), there("app"));
        let command = [&["files", "sync", "--json", &from, &to], more].concat();
        document(world, &command)
    };
    let would = sync(&["--dry-run"])?;
    ensure!(
        would["changes"].as_array().map(Vec::len) == Some(2),
        "{would}"
    );
    let sent = sync(&[])?;
    ensure!(
        sent["changes"].as_array().map(Vec::len) == Some(2),
        "{sent}"
    );
    ensure!(workspace.sh("app/run.sh; ls -A app/src")? == "ran\nmain.py");
    let again = sync(&[])?;
    ensure!(
        again["changes"].as_array().is_some_and(Vec::is_empty),
        "{again}"
    );
    fs::remove_file(at("app/run.sh"))?;
    sync(&["--delete"])?;
    ensure!(workspace.sh("ls app")? == "src");
    workspace.write("app/src/new.py", "new")?;
    told(world, &["files", "sync", &there("app"), &at("fetched")])?;
    ensure!(fs::read_to_string(at("fetched/src/new.py"))? == "new");
    let fetched = document(
        world,
        &["files", "sync", "--json", &there("app"), &at("fetched")],
    )?;
    ensure!(
        fetched["changes"].as_array().is_some_and(Vec::is_empty),
        "{fetched}"
    );

    // Directories are one archive each way, with links and what is hidden.
    std::os::unix::fs::symlink("main.py", at("app/src/link"))?;
    let sent = document(
        world,
        &["files", "cp", "-r", "--json", &at("app"), &there("whole/")],
    )?;
    ensure!(sent["files"] == 2 && sent["links"] == 1, "{sent}");
    let listed = workspace.sh("cd whole/app/src; ls -A; cat .git/config link")?;
    ensure!(
        listed == ".git\nlink\nmain.py\nnoprint('hello')",
        "{listed}"
    );
    told(world, &["files", "cp", &there("whole"), &at("back")])?;
    let link = fs::read_to_string(at("back/app/src/link"))?;
    ensure!(link == "print('hello')\n", "{link}");
    for format in ["tar.gz", "zip"] {
        let (file, to) = (at(&format!("all.{format}")), there(format));
        let archive = ["files", "archive", name, "whole", "-f", format, "-o", &file];
        told(world, &archive)?;
        told(world, &["files", "unpack", &file, &to])?;
        let main = workspace.read(&format!("{format}/app/src/main.py"))?;
        ensure!(main == "print('hello')\n", "{main}");
        let kept = run(world, &["files", "unpack", "--keep", &file, &to])?;
        ensure!(kept.status.code() == Some(5), "{}", kept.stderr);
    }

    let mut command = command(world, &["files", "cp", "-", &there("from-a-pipe")])?;
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = process::spawn(command, Signal::SIGKILL)?;
    child.stdin.take().context("stdin")?.write_all(b"piped")?;
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.success() && workspace.read("from-a-pipe")? == "piped");

    // What changes there is seen here, and what changes here goes there.
    let mut watching = start(world, &["files", "watch", name])?;
    let seen = lines(watching.stdout.take().context("stdout")?);
    wait::until_true("a file to be told as created", LIMIT, || {
        // It looks for the first time at a moment that nobody knows, between a file's name and its
        // last attribute perhaps: that is told as a change.
        workspace.write(&format!("seen-{}", rand::random::<u32>()), "x")?;
        let event = seen.recv_timeout(Duration::from_secs(2));
        Ok(event.is_ok_and(|event| event.contains("created") && event.contains("seen-")))
    })?;
    process::signal_group(&watching, Signal::SIGINT)?;
    let ended = process::wait_for_end(&mut watching, LIMIT)?.context("it does not end")?;
    ensure!(ended.success(), "{ended}");
    let mut sending = start(
        world,
        &["files", "sync", "--watch", &at("app"), &there("live")],
    )?;
    workspace.wait_for_file("live/src/main.py")?;
    fs::write(at("app/src/main.py"), "print('changed')\n")?;
    wait::until_true("the change to arrive", LIMIT, || {
        Ok(workspace.read("live/src/main.py")?.contains("changed"))
    })?;
    process::signal_group(&sending, Signal::SIGKILL)?;
    sending.wait()?;
    Ok(())
}
