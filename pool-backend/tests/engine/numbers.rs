//! What things cost here; printed, never asserted (`--ignored --nocapture`).

use std::time::{Duration, Instant};

use crate::rig::{Rig, eventually, output, read, write};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints numbers"]
async fn numbers() {
    let began = Instant::now();
    let warm = std::env::var("FLEEKS_TEST_WARM").map_or(8, |count| count.parse().unwrap());
    let mut rig = Rig::new(&[("default", warm)]).await;
    println!("start          {:?}", began.elapsed());
    let began = Instant::now();
    rig.warm("default").await;
    println!("all warm       {:?}", began.elapsed());
    let mut warm = Vec::new();
    for n in 0..8 {
        let began = Instant::now();
        rig.create(&format!("warm{n}")).await;
        warm.push(began.elapsed());
    }
    print("warm create", &mut warm);
    rig.warm("default").await;
    let mut cold = Vec::new();
    for n in 0..8 {
        let began = Instant::now();
        let owner = rig.owner.clone();
        rig.try_create(&owner, &format!("cold{n}"), "static")
            .await
            .unwrap();
        cold.push(began.elapsed());
    }
    print("cold create", &mut cold);
    let workspace = rig.get("warm0");
    let (mut execute, mut writing, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    let content = "x".repeat(4096);
    for _ in 0..100 {
        let began = Instant::now();
        output(&workspace, "true").await;
        execute.push(began.elapsed());
        let began = Instant::now();
        write(&workspace, "file", &content).await;
        writing.push(began.elapsed());
        let began = Instant::now();
        read(&workspace, "file").await.unwrap();
        reading.push(began.elapsed());
    }
    print("exec true", &mut execute);
    print("write 4 KiB", &mut writing);
    print("read 4 KiB", &mut reading);
    let began = Instant::now();
    workspace.restart().await.unwrap();
    println!("restart        {:?}", began.elapsed());
    drop(workspace);
    let began = Instant::now();
    rig.kill_and_start().await;
    println!("kill and start {:?}", began.elapsed());
    eventually("all is adopted", || {
        rig.get("cold7").summary().generation.0 == 1
    })
    .await;
    let began = Instant::now();
    rig.shut_down().await;
    println!("shut down      {:?}", began.elapsed());
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("{what:14} p50 {:?} p95 {:?}", at(50), at(95));
}
