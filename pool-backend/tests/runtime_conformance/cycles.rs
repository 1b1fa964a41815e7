//! Sleep and wake again and again: what fails once in ten times must not be taken for a success.

use pool_backend::init_client::OutputLimits;
use tokio::time::Instant;

use crate::inner::{Inside, init};
use crate::rig::{PATIENCE, Rig};
use crate::sleeper::Sleeper;

/// Of each case in CI; some hundred with `FLEEKS_SOAK`, where loaded machines are made by running
/// cases beside each other.
fn cycles() -> usize {
    if std::env::var_os("FLEEKS_SOAK").is_some() {
        250
    } else {
        8
    }
}

/// Counts its lines, so that a lost or doubled moment shows.
const TICKER: &str = "n=0; while true; do n=$((n + 1)); echo tick $n; sleep 0.02; done";

/// Init is asked until the last moment, as an owner who hibernates does, and answers at once.
pub async fn init_answers_after_each_sleep(rig: Rig) {
    let mut sleeper = Sleeper::begin(&rig, "a", |spec| spec.init = init()).await;
    let inside = Inside::of(&sleeper);
    inside.ready().await;
    let ticker = inside.start(TICKER).await;
    for cycle in 1..=cycles() {
        assert_eq!(inside.sh("echo asleep").await, "asleep\n");
        let images = sleeper.sleep(&rig).await;
        sleeper.wake(&rig, &images).await.unwrap();
        std::fs::remove_dir_all(&images).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let ready = inside.client.wait_ready(deadline).await;
        assert!(ready.is_ok(), "cycle {cycle}: {ready:?}");
    }
    let output = inside.client.output(&ticker, OutputLimits::ALL).await;
    let said = output.unwrap().stdout.to_text();
    for (number, line) in (1..).zip(said.lines().take(1000)) {
        assert_eq!(line, format!("tick {number}"));
    }
    inside.kill(&ticker).await;
    rig.close().await;
}
