//! What `files sync` and `files cp` do where something could be lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::{World, process, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{LIMIT, document, run, start, told};

/// In a second.
const NANOS: u64 = 1_000_000_000;

/// A source that is not there empties nothing, links are not written through, and a second run has
/// nothing to do.
pub fn sync_is_careful(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let name = workspace.project.as_str();
    let scratch = world.scratch()?;
    let at = |path: &str| scratch.join(path).display().to_string();
    let there = |path: &str| format!("{name}:{path}");
    let sync = |from: &str, to: &str, more: &[&str]| -> Result<usize> {
        let told = document(
            world,
            &[&["files", "sync", "--json", from, to], more].concat(),
        )?;
        count(&told)
    };

    // A source that is not there, or is no directory, is no empty one.
    fs::create_dir_all(scratch.join("app/d"))?;
    fs::write(at("app/one"), "1111")?;
    fs::write(at("app/d/two"), "2222")?;
    ensure!(sync(&at("app"), &there("app"), &[])? == 2);
    for (from, to) in [
        (there("typo"), at("app")),
        (there("app/one"), at("app")),
        (at("typo"), there("app")),
        (at("app/one"), there("app")),
    ] {
        let refused = run(world, &["files", "sync", &from, &to, "--delete"])?;
        ensure!(
            refused.status.code() == Some(3),
            "{from}: {}",
            refused.stderr
        );
    }
    ensure!(fs::read_to_string(at("app/one"))? == "1111");
    ensure!(workspace.read("app/d/two")? == "2222");

    // An edit within the same second, of the same size.
    for round in 0..3 {
        let changed = "python -c 'import os; print(os.stat(\"app/one\").st_mtime_ns)'";
        let later = workspace.sh(changed)?.trim().parse::<u64>()? + 1_000_000;
        let content = format!("{round}---");
        fs::write(at("app/one"), &content)?;
        let mut touch = Command::new("touch");
        let when = format!("@{}.{:09}", later / NANOS, later % NANOS);
        touch.args(["-d", &when, &at("app/one")]);
        process::run(touch, LIMIT)?.success()?;
        ensure!(sync(&at("app"), &there("app"), &[])? == 1, "{round}");
        ensure!(workspace.read("app/one")? == content);
        ensure!(sync(&at("app"), &there("app"), &[])? == 0, "{round}");
    }

    // One place by any name.
    for same in ["./app", "x/../app", "/workspace/app", "/app//"] {
        ensure!(
            sync(&at("app"), &there(same), &["--delete"])? == 0,
            "{same}"
        );
        let back = at(&format!("back{}", same.len()));
        ensure!(sync(&there(same), &back, &[])? == 2, "{same}");
        ensure!(sync(&there(same), &back, &["--delete"])? == 0, "{same}");
    }
    let out = run(world, &["files", "sync", &at("app"), &there("../app")])?;
    ensure!(out.status.code() == Some(2), "{}", out.stderr);

    // A link at the target is neither written through nor replaced; either way.
    workspace.sh("mkdir l && echo kept >l/target && ln -s target l/link && ln -s /tmp l/out")?;
    fs::create_dir_all(scratch.join("l/out"))?;
    fs::write(at("l/link"), "other")?;
    fs::write(at("l/out/f"), "x")?;
    let linked = run(world, &["files", "sync", &at("l"), &there("l")])?;
    ensure!(linked.status.success(), "{}", linked.stderr);
    ensure!(
        linked.stderr.contains("left out: link") && linked.stderr.contains("left out: out"),
        "{}",
        linked.stderr
    );
    ensure!(workspace.read("l/target")? == "kept\n");
    ensure!(sync(&at("l"), &there("l"), &[])? == 0);
    fs::create_dir_all(scratch.join("elsewhere"))?;
    fs::create_dir_all(scratch.join("m"))?;
    symlink("../elsewhere", at("m/d"))?;
    ensure!(sync(&there("app"), &at("m"), &[])? == 1);
    ensure!(fs::read_dir(scratch.join("elsewhere"))?.next().is_none());

    // A directory in place of a file and a file in place of a directory: only with --delete.
    fs::remove_dir_all(scratch.join("app"))?;
    fs::create_dir_all(scratch.join("app/one"))?;
    fs::write(at("app/one/deep"), "deep")?;
    fs::write(at("app/d"), "a file now")?;
    let unwanted = run(world, &["files", "sync", &at("app"), &there("app")])?;
    ensure!(
        unwanted.status.code() == Some(1)
            && unwanted.stderr.contains("--delete")
            && unwanted.stderr.contains("d is a directory"),
        "{}",
        unwanted.stderr
    );
    ensure!(workspace.read("app/d/two")? == "2222", "something was done");
    let would = document(
        world,
        &[
            "files",
            "sync",
            "--json",
            "--delete",
            "--dry-run",
            &at("app"),
            &there("app"),
        ],
    )?;
    ensure!(
        would["changes"].to_string().contains("would copy"),
        "{would}"
    );
    ensure!(sync(&at("app"), &there("app"), &["--delete"])? == 4);
    ensure!(workspace.sh("cat app/d app/one/deep")? == "a file nowdeep");
    ensure!(sync(&at("app"), &there("app"), &["--delete"])? == 0);
    ensure!(sync(&there("app"), &at("back5"), &["--delete"])? == 4);
    ensure!(fs::read_to_string(at("back5/one/deep"))? == "deep");
    ensure!(sync(&there("app"), &at("back5"), &["--delete"])? == 0);

    // What is fetched keeps its mode; what is left out is said; an empty directory is something.
    workspace.sh("printf '#!/bin/sh' >run.sh && chmod 755 run.sh")?;
    told(world, &["files", "cp", &there("run.sh"), &at("run.sh")])?;
    let mode = fs::metadata(at("run.sh"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o755, "{mode:o}");
    let piped = told(world, &["files", "cp", "--json", &there("run.sh"), "-"])?;
    ensure!(piped == "#!/bin/sh", "{piped}");
    let packed = run(
        world,
        &["files", "archive", name, "l", "-o", &at("l.tar.gz")],
    )?;
    ensure!(packed.stderr.contains("left out: 1"), "{}", packed.stderr);
    fs::create_dir(scratch.join("empty"))?;
    told(world, &["files", "cp", "-r", &at("empty"), &there("")])?;
    ensure!(workspace.sh("test -d empty && echo there")? == "there");
    let absent = run(world, &["files", "cp", &at("nosuch"), &there("")])?;
    ensure!(
        absent.stderr.matches("os error").count() == 1,
        "{}",
        absent.stderr
    );

    // Ended in the middle, it leaves nothing.
    workspace.sh("truncate -s 2G big")?;
    fs::create_dir(scratch.join("cut"))?;
    let fetched = || -> Result<usize> { Ok(fs::read_dir(scratch.join("cut"))?.count()) };
    let cp = ["files", "cp", &there("big"), &at("cut/big")];
    let output = at("cut/big.tar");
    let archive = ["files", "archive", name, "big", "-f", "tar", "-o", &output];
    for (command, signal, code) in [
        (&cp[..], Signal::SIGINT, 130),
        (&archive[..], Signal::SIGTERM, 143),
    ] {
        let mut child = start(world, command)?;
        wait::until_true("a part of it", LIMIT, || Ok(fetched()? == 1))?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
        ensure!(ended.code() == Some(code), "{ended}");
        ensure!(fetched()? == 0, "{command:?} left something");
    }
    Ok(())
}

fn count(told: &Value) -> Result<usize> {
    Ok(told["changes"].as_array().context("no changes")?.len())
}
