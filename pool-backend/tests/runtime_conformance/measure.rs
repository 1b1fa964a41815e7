//! Not cases: numbers, for people. `cargo test … -- --ignored --nocapture measure`.

use std::time::{Duration, Instant};

use fleet::id::{ContainerId, Generation};
use pool_backend::config::{Limits, RuntimeChoice};
use pool_backend::runtime::OciId;

use crate::rig::Rig;
use crate::sleeper::Sleeper;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    println!(
        "{what}: p50 {:.1} ms, p95 {:.1} ms, max {:.1} ms",
        at(50),
        at(95),
        at(100)
    );
}

async fn measure(choice: RuntimeChoice, count: usize) {
    let rig = Rig::new(choice).await;
    let (mut networks, mut starts, mut releases, mut removes) = (vec![], vec![], vec![], vec![]);
    let mut running = Vec::new();
    for number in 0..count {
        let address = rig.network.mint_address().await.unwrap();
        let spec = rig.spec(&format!("c{number}"), "true", address, Limits::default());
        let started = Instant::now();
        let netns = rig.network.prepare(&spec.id, address).await.unwrap();
        networks.push(started.elapsed());
        let started = Instant::now();
        rig.runtime.start(&spec).await.unwrap();
        starts.push(started.elapsed());
        netns.keep();
        running.push(spec.id);
    }
    let mut memory = 0;
    for id in &running {
        memory += rig.runtime.usage(id).await.unwrap().memory_bytes;
    }
    let started = Instant::now();
    rig.runtime.list().await.unwrap();
    println!("{choice:?}: list of {count}: {:?}", started.elapsed());
    for id in running {
        let started = Instant::now();
        rig.runtime.remove(&id).await.unwrap();
        removes.push(started.elapsed());
        let started = Instant::now();
        rig.network.release(&id).await.unwrap();
        releases.push(started.elapsed());
    }
    print(&format!("{choice:?}: network"), networks);
    print(&format!("{choice:?}: start"), starts);
    print(&format!("{choice:?}: remove"), removes);
    print(&format!("{choice:?}: network release"), releases);
    println!(
        "{choice:?}: idle memory, shell and sleep: {} KiB",
        memory / count as u64 / 1024
    );
    rig.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_runc() {
    measure(RuntimeChoice::Runc, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_runsc() {
    measure(RuntimeChoice::Runsc, 30).await;
}

/// More networks than a bridge could hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_a_thousand_networks() {
    let rig = Rig::new(RuntimeChoice::Runc).await;
    let mut times = Vec::new();
    for _ in 0..1100 {
        let id = OciId::new(&rig.instance, &ContainerId::mint(), Generation(1));
        let address = rig.network.mint_address().await.unwrap();
        let started = Instant::now();
        rig.network.prepare(&id, address).await.unwrap().keep();
        times.push(started.elapsed());
    }
    let late = times.split_off(1000);
    print("first thousand networks", times);
    print("the hundred after", late);
    let started = Instant::now();
    rig.close().await;
    println!("all removed in {:?}", started.elapsed());
}

/// A pool's refill: several at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_many_at_once() {
    for (choice, count) in [(RuntimeChoice::Runc, 200), (RuntimeChoice::Runsc, 40)] {
        let rig = std::sync::Arc::new(Rig::new(choice).await);
        let started = Instant::now();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let rig = rig.clone();
                tokio::spawn(async move {
                    for number in 0..count / 4 {
                        rig.start(&format!("c{worker}-{number}"), "true").await;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        println!(
            "{choice:?}: {count} started, 4 at once, in {:?}",
            started.elapsed()
        );
        let started = Instant::now();
        std::sync::Arc::into_inner(rig).unwrap().close().await;
        println!("{choice:?}: all removed in {:?}", started.elapsed());
    }
}

/// Sleep and wake of a Python process with so much in memory.
async fn measure_sleep(choice: RuntimeChoice) {
    for ballast in [1, 10, 50, 200] {
        let rig = Rig::new(choice).await;
        let mut sleeper = Sleeper::start(&rig, "a", ballast).await;
        let (mut pauses, mut checkpoints, mut kills) = (vec![], vec![], vec![]);
        let (mut networks, mut restores, mut firsts) = (vec![], vec![], vec![]);
        let mut bytes = 0;
        for _ in 0..10 {
            sleeper.ask("").await;
            let images = sleeper.images(&rig);
            rig.network.hold(sleeper.spec.address).await.unwrap();
            let id = sleeper.spec.id.clone();
            timed(&mut pauses, rig.runtime.pause(&id)).await.unwrap();
            let checkpoint = rig.runtime.checkpoint(&id, &images);
            timed(&mut checkpoints, checkpoint).await.unwrap();
            timed(&mut kills, sleeper.kill(&rig)).await;
            let entries = std::fs::read_dir(&images).unwrap().flatten();
            bytes = entries.map(|entry| entry.metadata().unwrap().len()).sum();
            let netns = timed(&mut networks, sleeper.prepare(&rig)).await;
            let restore = rig.runtime.restore(&sleeper.spec, &images);
            timed(&mut restores, restore).await.unwrap();
            netns.keep();
            rig.network.let_go(sleeper.spec.address).await.unwrap();
            timed(&mut firsts, sleeper.ask("")).await;
            std::fs::remove_dir_all(&images).unwrap();
        }
        println!("{choice:?}, {ballast} MiB: images {} KiB", bytes / 1024);
        print("  pause", pauses);
        print("  checkpoint", checkpoints);
        print("  kill", kills);
        print("  network and hold", networks);
        print("  restore", restores);
        print("  first answer", firsts);
        rig.close().await;
    }
}

async fn timed<T>(times: &mut Vec<Duration>, what: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = what.await;
    times.push(started.elapsed());
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_sleep_runc() {
    measure_sleep(RuntimeChoice::Runc).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn measure_sleep_runsc() {
    measure_sleep(RuntimeChoice::Runsc).await;
}
