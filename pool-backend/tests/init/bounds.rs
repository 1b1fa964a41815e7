//! Jobs that take too much: output, time, descriptors, and a container that stands still.

use std::time::Duration;

use init_protocol::{JobStatus, OUTPUT_HEAD, OUTPUT_TAIL, RefusalKind};
use pool_backend::init_client::{InitError, OutputLimits};
use tokio::time::Instant;

use crate::jobs::{id, refused};
use crate::world::{PATIENCE, World, until};

#[tokio::test]
async fn it_waits_without_an_epoll() {
    let world = World::start().await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.pid())).unwrap();
    let open: Vec<String> = open
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    assert!(open.iter().any(|target| target.starts_with("socket:")));
    assert!(
        !open.iter().any(|target| target.contains("eventpoll")),
        "{open:?}"
    );
}

#[tokio::test]
async fn a_flood_is_bounded_in_memory_and_on_disk() {
    let world = World::start().await;
    let run = world.line("echo start; head -c 300000000 /dev/zero | tr '\\0' a; echo; echo end");
    let (state, output) = world.client.execute(&run, OutputLimits::ALL).await.unwrap();
    assert_eq!(state.status, JobStatus::Completed);
    assert_eq!(output.stdout.total, 300_000_011);
    assert_eq!(output.stdout.head.len(), OUTPUT_HEAD);
    assert_eq!(output.stdout.tail.len(), OUTPUT_TAIL);
    assert!(output.stdout.head.starts_with(b"start\naaa"));
    assert!(output.stdout.tail.ends_with(b"aaa\nend\n"));
    let on_disk: u64 = std::fs::read_dir(world.dir.path().join("jobs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk <= 65 << 20, "{on_disk} bytes on disk");
    assert!(on_disk >= 32 << 20, "{on_disk} bytes on disk");
    let peak = world.status_kib("VmHWM");
    assert!(peak < 12 * 1024, "{peak} KiB resident at most");
}

#[tokio::test]
async fn many_loud_jobs_share_one_bound_and_keep_their_output() {
    let world = World::start().await;
    let mut runs = Vec::new();
    for number in 0..40 {
        let run = world.line(&format!(
            "echo start {number}; head -c 2000000 /dev/zero; echo end {number}"
        ));
        world.client.run(&run).await.unwrap();
        runs.push(run);
    }
    for (number, run) in runs.iter().enumerate() {
        let output = world
            .client
            .output(&id(run), OutputLimits::ALL)
            .await
            .unwrap();
        assert!(
            output
                .stdout
                .head
                .starts_with(format!("start {number}\n").as_bytes())
        );
        assert!(
            output
                .stdout
                .tail
                .ends_with(format!("end {number}\n").as_bytes())
        );
    }
    let peak = world.status_kib("VmHWM");
    assert!(peak < 40 * 1024, "{peak} KiB resident at most");
}

#[tokio::test]
async fn old_jobs_are_forgotten_with_their_files() {
    let world = World::start().await;
    let first = world.line("echo first");
    world.client.run(&first).await.unwrap();
    for _ in 0..1000 {
        world.client.run(&world.line("echo more")).await.unwrap();
    }
    let jobs = world.client.jobs().await.unwrap();
    assert_eq!(jobs.len(), 1000);
    assert_eq!(
        refused(world.client.job(&id(&first)).await),
        RefusalKind::NotFound
    );
    let files = std::fs::read_dir(world.dir.path().join("jobs"))
        .unwrap()
        .count();
    assert!(files <= 1000, "{files} files");
}

#[tokio::test]
async fn time_outs_end_even_those_who_do_not_listen() {
    let world = World::start().await;
    let mut run = world.line("trap '' TERM; (trap '' TERM; echo $BASHPID >child; while :; do sleep 0.05; done) & while :; do sleep 0.05; done");
    run.timeout_ms = Some(300);
    let started = Instant::now();
    let state = world.client.run(&run).await.unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (JobStatus::Timeout, Some(137))
    );
    assert!(started.elapsed() >= Duration::from_millis(500));
    until("its children are gone too", async || {
        world.client.processes().await.unwrap().len() == 1
    })
    .await;

    let mut polite =
        world.line("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    polite.timeout_ms = Some(300);
    polite.grace_ms = 10_000;
    let (state, output) = world
        .client
        .execute(&polite, OutputLimits::ALL)
        .await
        .unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (JobStatus::Timeout, Some(3))
    );
    assert_eq!(output.stdout.to_text(), "ready\nbye\n");

    // Stopped ones hear SIGTERM all the same.
    let mut stopped = world.line("kill -STOP $$");
    stopped.timeout_ms = Some(200);
    stopped.grace_ms = 10_000;
    let state = world.client.run(&stopped).await.unwrap();
    assert_eq!(
        (state.status, state.exit_code),
        (JobStatus::Timeout, Some(143))
    );
}

#[tokio::test]
async fn limits_of_the_container_end_in_refusals_not_in_silence() {
    // So few descriptors that init runs out of them first.
    let world = World::start_with(&["prlimit", "--nofile=40"]).await;
    let mut runs = Vec::new();
    let kind = loop {
        let run = world.line("sleep 1000");
        match world.client.start(&run).await {
            Ok(()) => runs.push(run),
            Err(error) => break refused::<()>(Err(error)),
        }
        assert!(runs.len() < 40);
    };
    assert_eq!(kind, RefusalKind::TooMany);
    // Strangers who take the rest are dropped again, and calls come through.
    let strangers: Vec<_> = (0..60)
        .map(|_| std::net::TcpStream::connect(world.address).unwrap())
        .collect();
    drop(strangers);
    world
        .client
        .wait_ready(Instant::now() + PATIENCE)
        .await
        .unwrap();
    for run in &runs {
        world.client.stop(&id(run), Duration::ZERO).await.unwrap();
    }
    assert_eq!(world.sh("echo well").await.1, "well\n");
}

#[tokio::test]
async fn a_frozen_init_goes_on_where_it_was() {
    let world = World::start().await;
    let run = world.line("for i in 1 2 3; do echo $i; sleep 0.05; done");
    world.client.start(&run).await.unwrap();
    let init = rustix::process::Pid::from_raw(world.pid().cast_signed()).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::STOP).unwrap();
    let silent = world
        .client
        .wait_ready(Instant::now() + Duration::from_millis(300))
        .await;
    assert!(matches!(silent, Err(InitError::TimedOut)), "{silent:?}");
    rustix::process::kill_process(init, rustix::process::Signal::CONT).unwrap();
    world
        .client
        .wait_ready(Instant::now() + PATIENCE)
        .await
        .unwrap();
    let (state, output) = world.client.execute(&run, OutputLimits::ALL).await.unwrap();
    assert_eq!(state.status, JobStatus::Completed);
    assert_eq!(output.stdout.to_text(), "1\n2\n3\n");
}
