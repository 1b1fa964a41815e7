//! Hostile or clumsy code inside: it hurts itself only.

use std::time::Duration;

use init_protocol::JobStatus;
use pool_backend::workspaces::Command;

use crate::rig::{Rig, output, run, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_notices_nothing() {
    let rig = Rig::new(&[]).await;
    let (wild, calm) = tokio::join!(rig.create("wild"), rig.create("calm"));
    let bomb = wild
        .start_job(shell("b() { b | b & }; b; sleep 1000"))
        .await
        .unwrap();
    assert_eq!(bomb.status, JobStatus::Running);
    for _ in 0..10 {
        assert_eq!(output(&calm, "echo fine").await, "fine\n");
    }
    // Whatever became of it inside, from the outside it can be restarted.
    wild.restart().await.unwrap();
    assert_eq!(output(&wild, "echo back").await, "back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_without_end_is_bounded() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let before = resident();
    let job = run(
        &workspace,
        "echo first; head -c 1073741824 /dev/zero; echo last",
    )
    .await;
    assert_eq!(job.exit_code, Some(0), "{:?}", job.status);
    assert!(job.stdout.starts_with("first\n") && job.stdout.ends_with("last\n"));
    assert!(job.stdout.len() < 8 << 20, "{}", job.stdout.len());
    assert!(resident() < before + (128 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_sigterm_is_killed() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let stubborn = Command {
        timeout: Some(Duration::from_millis(300)),
        ..shell("trap '' TERM; echo started; while :; do sleep 1; done")
    };
    let job = workspace.execute(stubborn).await.unwrap();
    assert_eq!(job.status, JobStatus::Timeout);
    assert_eq!(job.stdout, "started\n");
    let background = workspace
        .start_job(shell("trap '' TERM; while :; do sleep 1; done"))
        .await
        .unwrap();
    let stopped = workspace.stop_job(&background.id).await.unwrap();
    assert_eq!(stopped.status, JobStatus::Stopped);
    let jobs = workspace.jobs().await.unwrap();
    assert_eq!(jobs.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_s_exit_ends_a_call_not_its_children_s() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let began = std::time::Instant::now();
    let job = run(&workspace, "sleep 1000 & echo $!").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let pid = job.stdout.trim().to_owned();
    output(&workspace, &format!("kill -0 {pid}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn using_up_the_memory_ends_at_the_limit() {
    let rig = Rig::new(&[]).await;
    let (hungry, calm) = tokio::join!(rig.create("hungry"), rig.create("calm"));
    let eat = "python3 -c 'x = bytearray(4 << 30); x[::4096] = b\"1\" * len(x[::4096])'";
    let job = hungry.execute(shell(eat)).await;
    if let Ok(job) = job {
        assert_ne!(job.exit_code, Some(0));
    }
    assert_eq!(output(&calm, "echo fine").await, "fine\n");
    assert_eq!(output(&hungry, "echo back").await, "back\n");
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}
