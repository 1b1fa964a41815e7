//! `cargo test -p pool-backend --release --test init -- --ignored --nocapture measure`

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use init_protocol::Write;
use pool_backend::init_client::OutputLimits;

use crate::world::World;

const ROUNDS: usize = 500;

#[tokio::test]
#[ignore = "prints numbers, checks none"]
async fn measure() {
    let world = World::start().await;
    println!("resident after start: {} KiB", world.status_kib("VmRSS"));
    let client = &world.client;
    let mut times = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let run = world.line("true");
        let write = Write {
            path: format!("f{}", round % 10),
            mode: None,
            parents: false,
            exclusive: false,
        };
        let content = stream::iter([Ok(Bytes::from(vec![1; 4096]))]);
        time(&mut times[0], async { client.ping().await.unwrap() }).await;
        let execute = client.execute(&run, OutputLimits::ALL);
        time(&mut times[1], async { execute.await.unwrap() }).await;
        time(&mut times[2], async {
            client.write(write, content).await.unwrap()
        })
        .await;
        time(&mut times[3], async { client.ports().await.unwrap() }).await;
    }
    for (what, mut times) in ["ping", "run true", "write 4 KiB", "ports"]
        .into_iter()
        .zip(times)
    {
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100];
        println!(
            "{what}: p50 {:?}, p95 {:?}, p99 {:?}",
            at(50),
            at(95),
            at(99)
        );
    }
    println!("resident after that: {} KiB", world.status_kib("VmRSS"));

    let started = Instant::now();
    let gib = world.line("head -c 1073741824 /dev/zero");
    client.run(&gib).await.unwrap();
    println!("1 GiB of output: {:?}", started.elapsed());
    println!("resident after that: {} KiB", world.status_kib("VmRSS"));
}

async fn time<T>(times: &mut Vec<Duration>, call: impl Future<Output = T>) {
    let started = Instant::now();
    call.await;
    times.push(started.elapsed());
}
