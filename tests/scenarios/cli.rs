//! The command line, as people and scripts use it: the real binary against a running platform.

mod careful;
mod files;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::process::{self, Finished};
use fleeks_tests::{World, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub use self::careful::sync_is_careful;
pub use self::files::files_go_in_and_out;

const LIMIT: Duration = Duration::from_secs(60);
/// Of the 64 KiB that a pipe holds.
const ALMOST_A_PIPE: u64 = 60_000;

/// Create, list, info, hibernate, wake, rm: what is printed is true, for people and for scripts.
pub fn a_workspace_lives_and_dies(world: &World) -> Result<()> {
    let name = name("cli");
    let made = told(world, &["ws", "create", &name, "--template", "python"])?;
    ensure!(made.contains("https://workspace-"), "{made}");
    ensure!(!made.contains('\x1b'), "colours in a pipe: {made:?}");
    let again = document(
        world,
        &["ws", "create", &name, "--template", "python", "--json"],
    )?;
    ensure!(again["project_id"] == name.as_str(), "{again}");

    let listed = told(world, &["ws", "list"])?;
    let row = listed.lines().find(|line| line.contains(&name));
    ensure!(row.is_some_and(|row| row.contains("running")), "{listed}");
    let listed = document(world, &["ws", "list", "--json"])?;
    let all = listed["workspaces"].as_array().context("no list")?;
    ensure!(
        all.iter().any(|one| one["project_id"] == name.as_str()),
        "{listed}"
    );

    told(world, &["hibernate", &name])?;
    let info = told(world, &["ws", "info", &name])?;
    ensure!(
        info.contains("hibernated") && info.contains("snapshot"),
        "{info}"
    );
    let info = document(world, &["ws", "info", &name, "--json"])?;
    let size = info["lifecycle"]["snapshot"]["size_bytes"].as_u64();
    ensure!(size.is_some_and(|size| size > 10_000), "{info}");
    ensure!(info["lifecycle"]["generation"] == 1, "{info}");
    told(world, &["wake", &name])?;
    let info = document(world, &["ws", "info", &name, "--json"])?;
    ensure!(info["lifecycle"]["generation"] == 2, "{info}");
    ensure!(!info["lifecycle"]["woken"].is_null(), "{info}");
    ensure!(
        !info["lifecycle"]["kept_awake_by"].to_string().is_empty(),
        "{info}"
    );
    ensure!(info["stats"]["process_count"].as_u64() >= Some(1), "{info}");

    let url = told(world, &["preview", &name, "--port", "3000"])?;
    ensure!(url.starts_with("https://3000--workspace-"), "{url}");
    let (data_dir, absent) = (world.data_dir().display().to_string(), self::name("absent"));
    let two = [
        "ws",
        "rm",
        &absent,
        &name,
        "--json",
        "--data-dir",
        &data_dir,
    ];
    let removed = run(world, &two)?;
    ensure!(removed.status.code() == Some(3), "{}", removed.stderr);
    let removed: Value = serde_json::from_slice(&removed.stdout)?;
    ensure!(removed["deleted"][0] == name.as_str(), "{removed}");
    ensure!(
        removed["failed"][0]["project_id"] == absent.as_str(),
        "{removed}"
    );
    let gone = run(world, &["ws", "info", &name])?;
    ensure!(gone.status.code() == Some(3), "{}", gone.stderr);
    ensure!(
        gone.stderr.contains("fleeks ws list"),
        "no advice: {}",
        gone.stderr
    );
    told(world, &["ws", "rm", "--force", &name])?;
    Ok(())
}

/// Output comes as it is printed, each stream to its own, and the exit code is the command's.
pub fn exec_is_like_being_there(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let name = workspace.project.as_str();
    let both = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)";
    let ran = run(world, &["exec", name, "--", "python", "-c", both])?;
    ensure!(ran.status.code() == Some(7), "{:?}", ran.status);
    ensure!(
        ran.stdout == b"out\n" && ran.stderr == "err\n",
        "{:?} {:?}",
        ran.stdout,
        ran.stderr
    );
    let line = run(
        world,
        &[
            "exec",
            name,
            "-e",
            "WHO=you",
            "-w",
            "/tmp",
            "echo $WHO; pwd",
        ],
    )?;
    ensure!(line.stdout == b"you\n/tmp\n", "{:?}", line.stdout);
    let bytes = run(world, &["exec", name, r"printf '\000\377\r\n'"])?;
    ensure!(bytes.stdout == b"\x00\xff\r\n", "{:?}", bytes.stdout);
    let slow = run(world, &["exec", name, "--timeout", "1", "sleep 60"])?;
    ensure!(slow.status.code() == Some(124), "{:?}", slow.status);
    let much = run(world, &["exec", name, "seq 1 50000"])?;
    let expected: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    ensure!(
        much.stdout == expected.as_bytes(),
        "{} bytes",
        much.stdout.len()
    );
    let nobody = run(world, &["exec", "no-such-workspace", "true"])?;
    ensure!(nobody.status.code() == Some(3), "{:?}", nobody.status);

    // As it comes: the second line is asked for only after the first was seen.
    let go_on = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two";
    let mut child = start(world, &["exec", name, go_on])?;
    let lines = lines(child.stdout.take().context("stdout")?);
    ensure!(lines.recv_timeout(LIMIT)? == "one");
    workspace.write("go", "")?;
    ensure!(lines.recv_timeout(LIMIT)? == "two");
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.success(), "{ended}");

    // What cannot be kept is told, once.
    let loses = run(world, &["exec", name, "seq 1 2000000"])?;
    let told: Vec<&str> = loses.stderr.lines().collect();
    ensure!(
        told.len() <= 1 && (told.is_empty() == (loses.stdout.len() == 14_888_896)),
        "{} bytes, {told:?}",
        loses.stdout.len()
    );
    let loses = document(world, &["exec", "--json", name, "seq 1 2000000"])?;
    let kept = loses["stdout"].as_str().context("no output")?.len() as u64;
    ensure!(
        loses["skipped_bytes"].as_u64() == Some(14_888_896 - kept),
        "{kept} bytes, {}",
        loses["skipped_bytes"]
    );

    // Whatever ends it here ends it there, too: Ctrl-C, other signals, a reader that leaves.
    let processes = format!("/api/v1/sdk/containers/{}/processes", workspace.container);
    let nothing_is_left = || -> Result<()> {
        let left = workspace.api().get(&processes)?.ok()?.to_string();
        ensure!(
            left.contains("process_count") && !left.contains("sleep 1234"),
            "{left}"
        );
        Ok(())
    };
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        let mut child = start(world, &["exec", name, "echo here; exec sleep 1234"])?;
        let lines = self::lines(child.stdout.take().context("stdout")?);
        ensure!(lines.recv_timeout(LIMIT)? == "here");
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
        ensure!(ended.code() == Some(code), "{ended}");
        nothing_is_left()?;
    }
    let one_more = "echo here; while [ ! -e left ]; do sleep 0.05; done; echo x; exec sleep 1234";
    let mut child = start(world, &["exec", name, one_more])?;
    let mut head = BufReader::new(child.stdout.take().context("stdout")?);
    head.read_line(&mut String::new())?;
    drop(head);
    workspace.write("left", "")?;
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.success(), "{ended}");
    nothing_is_left()?;
    // A reader that reads no more keeps no signal from it.
    let mut child = start(world, &["exec", name, "yes; : sleep 1234"])?;
    let mut head = BufReader::new(child.stdout.take().context("stdout")?);
    head.read_line(&mut String::new())?;
    wait::until_true("the pipe to be full", LIMIT, || {
        let there = rustix::io::ioctl_fionread(head.get_ref())?;
        Ok(there >= ALMOST_A_PIPE)
    })?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.code() == Some(143), "{ended}");
    nothing_is_left()
}

/// Who waits for a silent command uses the workspace: it is not put to sleep under it.
pub fn exec_keeps_awake(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let mut child = start(world, &["exec", &workspace.project, "sleep 600"])?;
    let lifecycle = format!("/api/v1/sdk/containers/{}/lifecycle", workspace.container);
    wait::until_true("it is kept awake", LIMIT, || {
        let told = workspace.api().get(&lifecycle)?.ok()?;
        Ok(told["kept_awake_by"].to_string().contains("a heartbeat"))
    })?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.code() == Some(130), "{ended}");
    Ok(())
}

/// A detached job's output can be read and followed later, also over a sleep.
pub fn logs_follow(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let name = workspace.project.as_str();
    let line = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo last";
    let job = told(world, &["exec", name, "--detach", line])?;
    ensure!(job.starts_with("job_"), "{job}");
    let mut child = start(world, &["logs", "-f", name])?;
    let lines = lines(child.stdout.take().context("stdout")?);
    ensure!(lines.recv_timeout(LIMIT)? == "first");
    ensure!(told(world, &["logs", "--list", name])?.contains(job.trim()));
    workspace.write("go", "")?;
    ensure!(lines.recv_timeout(LIMIT)? == "last");
    let ended = process::wait_for_end(&mut child, LIMIT)?.context("it does not end")?;
    ensure!(ended.success(), "{ended}");
    ensure!(told(world, &["logs", name, job.trim()])? == "first\nlast\n");
    // Of one that never ends, what there is: also faster than it can be read.
    let job = told(world, &["exec", name, "--detach", "yes busy"])?;
    ensure!(told(world, &["logs", name, job.trim()])?.starts_with("busy\n"));
    workspace.sh("pkill yes || true")?;
    let none = run(world, &["logs", &world.workspace("python")?.project])?;
    ensure!(none.status.code() == Some(3), "{}", none.stderr);
    Ok(())
}

/// Over TLS with a URL and a key, as from another machine; and what is said when that does not do.
pub fn a_platform_elsewhere(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let ready = world.ready()?;
    let url = format!("https://api.{}:{}", ready.domain, ready.https.port());
    let key = world.api()?.key().to_owned();
    let far = |arguments: &[&str], key: &str, ca: bool| -> Result<Finished> {
        let mut command = Command::new(fleeks_tests::world::binary()?);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        // A data dir that is not the platform's: nothing is known of it here.
        command
            .env("FLEEKS_DATA_DIR", "/nonexistent")
            .env("FLEEKS_BASE_URL", &url);
        command.env("FLEEKS_API_KEY", key);
        if ca {
            command.env("FLEEKS_CA", &ready.ca_file);
        }
        process::run(command, LIMIT)
    };
    let exec = ["exec", &workspace.project, "echo from afar"];
    let ran = far(&exec, &key, true)?;
    ensure!(
        ran.status.success() && ran.stdout == b"from afar\n",
        "{}",
        ran.stderr
    );
    let unknown_ca = far(&exec, &key, false)?;
    ensure!(unknown_ca.status.code() == Some(6), "{}", unknown_ca.stderr);
    ensure!(
        unknown_ca.stderr.contains("certificate") && unknown_ca.stderr.contains("--ca"),
        "{}",
        unknown_ca.stderr
    );
    let wrong = far(
        &["ws", "list"],
        &format!("fleeks_sk_{}", "0".repeat(40)),
        true,
    )?;
    ensure!(wrong.status.code() == Some(4), "{}", wrong.stderr);
    ensure!(
        wrong.stderr.contains("--key"),
        "no advice: {}",
        wrong.stderr
    );
    let wrong = far(&["ws", "list", "--json"], "fleeks_sk_wrong", true)?;
    let error: Value = serde_json::from_str(wrong.stderr.trim()).context(wrong.stderr)?;
    ensure!(
        error["status"] == 401 && !error["advice"].is_null(),
        "{error}"
    );
    let clear = run(
        world,
        &["ws", "list", "--api", "http://192.0.2.1:8080", "--key", "k"],
    )?;
    ensure!(clear.status.code() == Some(2), "{}", clear.stderr);
    ensure!(clear.stderr.contains("in the clear"), "{}", clear.stderr);
    let no_port = "http://127.0.0.1:99999";
    let nowhere = run(world, &["ws", "list", "--api", no_port, "--key", "k"])?;
    ensure!(nowhere.status.code() == Some(2), "{}", nowhere.stderr);
    for command in ["list", "prune"] {
        let refused = far(&["template", command, "--json"], "fleeks_sk_wrong", true)?;
        ensure!(refused.status.code() == Some(4), "{}", refused.stderr);
        let error: Value = serde_json::from_str(refused.stderr.trim()).context(refused.stderr)?;
        ensure!(!error["advice"].is_null(), "{error}");
    }
    let build = ["template", "build", "default", "no-such-one", "--json"];
    let built = far(&build, &key, true)?;
    ensure!(built.status.code() == Some(3), "{}", built.stderr);
    let built: Value = serde_json::from_slice(&built.stdout)?;
    ensure!(built["templates"][0]["name"] == "default", "{built}");
    ensure!(built["failed"][0]["name"] == "no-such-one", "{built}");
    let mut keyless = Command::new(fleeks_tests::world::binary()?);
    keyless
        .args(["ws", "list", "--api", "https://192.0.2.1"])
        .env_remove("FLEEKS_API_KEY");
    let keyless = process::run(keyless, LIMIT)?;
    ensure!(
        keyless.status.code() == Some(4) && keyless.stderr.contains("--key"),
        "{}",
        keyless.stderr
    );
    Ok(())
}

/// Help with examples for every command, completions for every shell, and no colours but where
/// they are seen.
pub fn help_helps(world: &World) -> Result<()> {
    let help = told(world, &["--help"])?;
    for command in [
        "ws",
        "exec",
        "logs",
        "files",
        "preview",
        "hibernate",
        "wake",
        "keys",
        "completions",
    ] {
        ensure!(
            help.contains(&format!("\n  {command} ")),
            "{command} is not in\n{help}"
        );
        let own = told(world, &[command, "--help"])?;
        ensure!(own.contains("Usage:"), "{own}");
    }
    ensure!(help.contains("Exit codes"), "{help}");
    for command in ["ws", "exec", "files"] {
        ensure!(
            told(world, &[command, "--help"])?.contains("Examples:"),
            "{command}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        ensure!(
            told(world, &["completions", shell])?.contains("hibernate"),
            "{shell}"
        );
    }
    // A reader that leaves is no fault.
    for quiet in [&["completions", "bash"][..], &["ca"], &["template", "list"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = command(world, quiet)?;
        command.stdout(writer);
        let ended = command.output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.success() && said.is_empty(),
            "{quiet:?}: {said}"
        );
    }
    let nonsense = run(world, &["ws", "explode"])?;
    ensure!(nonsense.status.code() == Some(2), "{:?}", nonsense.status);
    Ok(())
}

fn name(what: &str) -> String {
    format!("{what}-{:08x}", rand::random::<u32>())
}

fn command(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(fleeks_tests::world::binary()?);
    command
        .args(arguments)
        .env("FLEEKS_BASE_URL", world.api()?.base())
        .env("FLEEKS_DATA_DIR", world.data_dir())
        .env_remove("FLEEKS_API_KEY");
    Ok(command)
}

fn run(world: &World, arguments: &[&str]) -> Result<Finished> {
    process::run(command(world, arguments)?, LIMIT)
}

/// Standard output of what must succeed.
fn told(world: &World, arguments: &[&str]) -> Result<String> {
    let finished = run(world, arguments)?;
    finished.success().with_context(|| arguments.join(" "))
}

/// The one JSON document that it prints.
fn document(world: &World, arguments: &[&str]) -> Result<Value> {
    let text = told(world, arguments)?;
    serde_json::from_str(&text).with_context(|| format!("not one document: {text}"))
}

fn start(world: &World, arguments: &[&str]) -> Result<std::process::Child> {
    let mut command = command(world, arguments)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    process::spawn(command, Signal::SIGKILL)
}

/// What it prints, line by line.
fn lines(stdout: std::process::ChildStdout) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
