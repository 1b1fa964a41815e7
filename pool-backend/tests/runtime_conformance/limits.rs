//! What a container may use, and that its neighbour notices nothing.

use std::time::{Duration, Instant};

use pool_backend::config::Limits;
use pool_backend::runtime::ContainerStatus;

use crate::rig::{Rig, Sandbox, wait_for};

const MIB: u64 = 1 << 20;

/// A container that writes the time to its volume, over and over.
async fn neighbour(rig: &Rig) -> Sandbox {
    rig.start(
        "neighbour",
        "( while true; do date +%s%N > /workspace/beat; done ) & true",
    )
    .await
}

/// It still makes progress.
async fn assert_lively(neighbour: &Sandbox) {
    let file = neighbour.volume.join("beat");
    let beat = || std::fs::read(&file).unwrap_or_default();
    let before = beat();
    wait_for("the neighbour's next beat", || {
        let now = beat();
        !now.is_empty() && now != before
    })
    .await;
}

/// Whether the container's init is gone, or the script came to an end.
async fn over(rig: &Rig, sandbox: &Sandbox) -> bool {
    sandbox.volume.join(".code").exists()
        || rig.runtime.status(&sandbox.id).await.unwrap() == ContainerStatus::Stopped
}

async fn wait_until_over(rig: &Rig, sandbox: &Sandbox) {
    let started = Instant::now();
    while !over(rig, sandbox).await {
        assert!(started.elapsed() < crate::rig::PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn memory_is_bounded(rig: Rig) {
    let neighbour = neighbour(&rig).await;
    let limits = Limits {
        memory_bytes: 96 * MIB,
        ..Limits::default()
    };
    let script = "python -c 'a = bytearray(400 << 20); print(\"allocated\", len(a))'";
    let sandbox = rig.start_with("greedy", script, limits).await;
    wait_until_over(&rig, &sandbox).await;
    let output = std::fs::read_to_string(sandbox.volume.join(".output")).unwrap();
    assert!(!output.contains("allocated"), "{output}");
    assert_lively(&neighbour).await;
    rig.remove(&sandbox).await;
    rig.close().await;
}

pub async fn temporary_files_are_memory(rig: Rig) {
    let neighbour = neighbour(&rig).await;
    let limits = Limits {
        memory_bytes: 96 * MIB,
        ..Limits::default()
    };
    let script = "dd if=/dev/zero of=/tmp/a bs=1M count=90 && dd if=/dev/zero of=/run/b bs=1M \
                  count=90 && dd if=/dev/zero of=/var/tmp/c bs=1M count=90 && echo all written";
    let sandbox = rig.start_with("hoarder", script, limits).await;
    wait_until_over(&rig, &sandbox).await;
    let output = std::fs::read_to_string(sandbox.volume.join(".output")).unwrap();
    assert!(!output.contains("all written"), "{output}");
    assert_lively(&neighbour).await;
    rig.close().await;
}

pub async fn a_fork_bomb_stays_inside(rig: Rig) {
    let neighbour = neighbour(&rig).await;
    let limits = Limits {
        pids: 64,
        ..Limits::default()
    };
    let script = "bomb() { bomb | bomb & }; bomb; sleep infinity";
    let sandbox = rig.start_with("bomb", script, limits).await;
    let started = Instant::now();
    let mut most = 0;
    while started.elapsed() < Duration::from_secs(3) {
        most = most.max(rig.runtime.usage(&sandbox.id).await.unwrap().pids);
        assert_lively(&neighbour).await;
    }
    // runsc's own threads count on top.
    assert!(most <= 64 + 128, "{most}");
    rig.remove(&sandbox).await;
    assert_lively(&neighbour).await;
    rig.close().await;
}

pub async fn cpu_is_bounded(rig: Rig) {
    let limits = Limits {
        cpu_millis: 200,
        ..Limits::default()
    };
    let sandbox = rig
        .start_with("busy", "while true; do true; done", limits)
        .await;
    let used = || async { rig.runtime.usage(&sandbox.id).await.unwrap().cpu_micros };
    let (before, started) = (used().await, Instant::now());
    while used().await < before + 400_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 400 ms of CPU at a fifth of one.
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    rig.close().await;
}
