//! Shell lines: their ends, their output, and what they leave behind.

use std::time::Duration;

use fleet::id::JobId;
use init_protocol::{JobStatus, RefusalKind, Run};
use pool_backend::init_client::{InitError, OutputLimits};
use tokio::time::Instant;

use crate::world::{PATIENCE, World, until};

pub fn id(run: &Run) -> JobId {
    run.job.parse().unwrap()
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, InitError>) -> RefusalKind {
    match result {
        Err(InitError::Refused { kind, .. }) => kind,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_line_runs_and_says_how_it_ended() {
    let world = World::start().await;
    assert_eq!(
        world.sh("echo out; echo err >&2; exit 7").await,
        (7, "out\n".into(), "err\n".into())
    );
    assert_eq!(world.sh("true").await, (0, String::new(), String::new()));
    assert_eq!(world.sh("kill -9 $$").await.0, 137);
    assert_eq!(
        world.sh("cat; echo \"$0\"; pwd").await.1,
        format!("/bin/bash\n{}\n", world.workspace().display())
    );
    assert_eq!(world.sh("a b c d").await.0, 127);

    let mut run = world.line("echo \"$A $PATH\"");
    run.environment = vec![("A".into(), "ä\nb".into()), ("PATH".into(), "/p".into())];
    let (state, output) = world.client.execute(&run, OutputLimits::ALL).await.unwrap();
    assert_eq!(output.stdout.to_text(), "ä\nb /p\n");
    assert_eq!(
        (state.status, state.job.as_str()),
        (JobStatus::Completed, run.job.as_str())
    );
    assert!(state.ended_at_ms.unwrap() >= state.started_at_ms);
    assert!(state.duration_ms.is_some());
    assert_eq!(world.client.job(&id(&run)).await.unwrap(), state);
    let failed = world.client.run(&world.line("false")).await.unwrap();
    assert_eq!(failed.status, JobStatus::Failed);
}

#[tokio::test]
async fn a_program_alone_runs_as_from_a_shell() {
    let world = World::start().await;
    let write = |name: &str, text: &str, mode: u32| {
        let path = world.workspace().join(name);
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    write("bare", "echo bare $0 $#; exit 3", 0o755);
    write("with", "#!/bin/sh\necho with $0 $# $A; kill -9 $$", 0o755);
    write("lost", "#!/no/such/interpreter\n", 0o755);
    write("not", "echo not", 0o644);
    let sh = async |line: &str| {
        let mut run = world.line(line);
        run.environment = vec![("A".into(), "a b".into())];
        let done = world.client.execute(&run, OutputLimits::ALL).await.unwrap();
        let (state, output) = done;
        let (out, err) = (output.stdout.to_text(), output.stderr.to_text());
        (state.exit_code.unwrap(), out, err)
    };
    assert_eq!(
        sh("./bare a").await,
        (3, "bare ./bare 1\n".into(), String::new())
    );
    let with = (137, "with ./with 2 a b\n".into(), String::new());
    assert_eq!(sh("./with a b").await, with);
    for (line, code) in [
        ("./lost", 126),
        ("./not", 126),
        (".", 2),
        ("./nothing", 127),
    ] {
        let (exit, out, err) = sh(line).await;
        assert!(
            exit == code || line == "./lost" && exit == 127,
            "{line}: {exit}"
        );
        assert!(
            out.is_empty() && err.contains("bash"),
            "{line}: {out} {err}"
        );
    }
    let (_, out, _) = sh("env").await;
    let workspace = format!("PWD={}", world.workspace().display());
    for wanted in ["A=a b", "_=/usr/bin/env", workspace.as_str()] {
        assert!(out.lines().any(|line| line == wanted), "{wanted}: {out}");
    }
    // In its own process group, stopped like any other.
    let run = world.line("sleep 1000");
    world.client.start(&run).await.unwrap();
    let stopped = world.client.stop(&id(&run), Duration::from_secs(9)).await;
    assert_eq!(stopped.unwrap().exit_code, Some(143));
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let world = World::start().await;
    let client = &world.client;
    let with = |change: fn(&mut Run)| {
        let mut run = world.line("true");
        change(&mut run);
        async move { refused(client.run(&run).await) }
    };
    assert_eq!(
        with(|run| run.job = "../x".into()).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.job = "x".repeat(65)).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.command = "a\0b".into()).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.command = "x".repeat(128 * 1024)).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.command = "x".repeat(300 * 1024)).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.working_dir = "relative".into()).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        with(|run| run.working_dir = "/nowhere".into()).await,
        RefusalKind::NotFound
    );
    assert_eq!(
        with(|run| run.working_dir = "/etc/passwd".into()).await,
        RefusalKind::NotDirectory
    );
    assert_eq!(
        with(|run| run.environment = vec![("A=".into(), String::new())]).await,
        RefusalKind::BadCall
    );
    assert_eq!(
        refused(client.job(&JobId::mint()).await),
        RefusalKind::NotFound
    );
    assert_eq!(
        refused(client.output(&JobId::mint(), OutputLimits::ALL).await),
        RefusalKind::NotFound
    );
    assert_eq!(
        refused(client.stop(&JobId::mint(), Duration::ZERO).await),
        RefusalKind::NotFound
    );
    // The longest line the kernel takes does run.
    let long = format!(": {}", "x".repeat(128 * 1024 - 3));
    assert_eq!(world.sh(&long).await.0, 0);
    assert_eq!(client.jobs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_background_child_does_not_hold_the_answer_nor_choke_later() {
    let world = World::start().await;
    let run = world
        .line("(until [ -e go ]; do sleep 0.01; done; seq 200000; echo $? >done) & echo started");
    let started = Instant::now();
    let (state, output) = world.client.execute(&run, OutputLimits::ALL).await.unwrap();
    assert_eq!(output.stdout.to_text(), "started\n");
    assert_eq!(state.status, JobStatus::Completed);
    assert!(started.elapsed() < PATIENCE);

    // More than a pipe holds, after the shell is gone: it is drained and kept.
    std::fs::write(world.workspace().join("go"), "").unwrap();
    until("the child is done", async || {
        std::fs::read_to_string(world.workspace().join("done")).is_ok_and(|text| text == "0\n")
    })
    .await;
    let wanted = "started\n".len() as u64
        + (1..=200_000)
            .map(|n: u32| n.to_string().len() as u64 + 1)
            .sum::<u64>();
    until("all of it is kept", async || {
        let output = world
            .client
            .output(&id(&run), OutputLimits::ALL)
            .await
            .unwrap();
        output.stdout.total == wanted
    })
    .await;
}

#[tokio::test]
async fn what_was_written_before_the_exit_is_in_the_answer() {
    let world = World::start().await;
    for round in 0..100 {
        let (_, out, err) = world.sh("printf %60000s x; printf %50000s y >&2").await;
        assert_eq!((out.len(), err.len()), (60_000, 50_000), "round {round}");
    }
    // Even while a child goes on writing.
    let (code, out, _) = world.sh("yes & echo first; kill -0 $!").await;
    assert_eq!(code, 0);
    assert!(out.contains("first\n"));
    let job = world.client.jobs().await.unwrap().pop().unwrap();
    world
        .client
        .stop(&job.job.parse().unwrap(), Duration::ZERO)
        .await
        .unwrap();
}

#[tokio::test]
async fn jobs_are_stopped_with_what_they_left_running() {
    let world = World::start().await;
    let server = world.line("sleep 1000; echo never");
    world.client.start(&server).await.unwrap();
    let state = world.client.job(&id(&server)).await.unwrap();
    assert_eq!((state.status, state.exit_code), (JobStatus::Running, None));
    let state = world
        .client
        .stop(&id(&server), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (JobStatus::Stopped, Some(143))
    );

    let left = world.line("sleep 1000 & sleep 2000 & true");
    assert_eq!(
        world.client.run(&left).await.unwrap().status,
        JobStatus::Completed
    );
    assert_eq!(world.client.processes().await.unwrap().len(), 3);
    let state = world
        .client
        .stop(&id(&left), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(state.status, JobStatus::Completed, "it had ended by itself");
    until("what it left is gone", async || {
        world.client.processes().await.unwrap().len() == 1
    })
    .await;
    // Once more is fine.
    world
        .client
        .stop(&id(&left), Duration::from_secs(5))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lost_connection_does_not_end_a_job_and_the_same_run_joins_it() {
    let world = World::start().await;
    let run = world.line("echo once >>count; until [ -e go ]; do sleep 0.01; done; echo done");
    {
        let call = world.client.run(&run);
        let started = until("it runs", async || world.workspace().join("count").exists());
        tokio::select! {
            state = call => panic!("it ended: {state:?}"),
            () = started => {}
        }
    }
    assert_eq!(
        world.client.job(&id(&run)).await.unwrap().status,
        JobStatus::Running
    );
    let joined = world.client.execute(&run, OutputLimits::ALL);
    let joined_too = world.client.run(&run);
    let go = async { std::fs::write(world.workspace().join("go"), "").unwrap() };
    let (joined, joined_too, ()) = tokio::join!(joined, joined_too, go);
    let (state, output) = joined.unwrap();
    assert_eq!(output.stdout.to_text(), "done\n");
    assert_eq!(joined_too.unwrap(), state);
    assert_eq!(
        std::fs::read_to_string(world.workspace().join("count")).unwrap(),
        "once\n"
    );
}

#[tokio::test]
async fn orphans_are_reaped_and_statuses_kept() {
    let world = World::start().await;
    world
        .sh("for i in $(seq 50); do (sleep 0.0$i & exit $i) & done; wait")
        .await;
    let codes = (0..30).map(|code| {
        let run = world.line(&format!("(sleep 0.05 &) ; exit {code}"));
        let client = world.client.clone();
        tokio::spawn(async move { (code, client.run(&run).await.unwrap().exit_code) })
    });
    for code in codes.collect::<Vec<_>>() {
        let (wanted, got) = code.await.unwrap();
        assert_eq!(got, Some(wanted));
    }
    until("no zombie and no orphan is left", async || {
        world.client.processes().await.unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn processes_are_listed_with_what_they_use() {
    let world = World::start().await;
    let run = world.line("exec sleep 4242");
    world.client.start(&run).await.unwrap();
    until("it shows", async || {
        let processes = world.client.processes().await.unwrap();
        processes.iter().any(|process| {
            process.command == "sleep 4242"
                && process.parent == 1
                && process.user == "root"
                && process.resident_bytes > 0
        })
    })
    .await;
    let processes = world.client.processes().await.unwrap();
    assert!(processes[0].pid == 1 && processes[0].command.contains("workspace-init"));
}
