//! A pool under whole days of claims, on a clock of its own: what share of them finds a warm
//! container. The random numbers have seeds, so a day is the same each time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use fleet::timing;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Pool, PoolSize};
use crate::driver::turns::AHEAD;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// What happens, in the order of its number where at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Claim,
    Refilled(Duration),
    Look,
    Ask,
}

#[derive(Debug, Default)]
struct Outcome {
    claims: u32,
    hits: u32,
    /// The mean of what was warm, and the most.
    mean: f64,
    most: u32,
    /// How often the target began to fall after it had risen.
    turns: u32,
    /// Claims, and hits, from the second half of the time on.
    late: (u32, u32),
}

impl Outcome {
    fn rate(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.claims)
    }

    fn print(&self, what: &str) {
        println!(
            "{what}: {} claims, {:.2} % hits ({:.2} % in the second half), {:.1} warm on \
             average, {} at most, target turned {} times",
            self.claims,
            self.rate() * 100.0,
            f64::from(self.late.1) / f64::from(self.late.0) * 100.0,
            self.mean,
            self.most,
            self.turns,
        );
    }
}

/// `claims` in seconds from the start, in any order.
fn simulate(claims: &[f64], size: &str, refill: std::ops::Range<f64>) -> Outcome {
    let mut random = StdRng::seed_from_u64(7);
    let start = Instant::now();
    let size: PoolSize = size.parse().unwrap();
    let mut pool = Pool::new(size, start);
    let mut events: BinaryHeap<_> = claims
        .iter()
        .map(|claim| Reverse((start + Duration::from_secs_f64(*claim), Event::Claim)))
        .collect();
    let end = start + Duration::from_secs_f64(claims.iter().copied().fold(0.0, f64::max));
    // Full when the day begins.
    events.push(Reverse((start, Event::Look)));
    let (mut out, mut looks, mut target, mut rising) = (Outcome::default(), 0_u32, size.min, true);
    while let Some(Reverse((now, event))) = events.pop() {
        if now > end {
            break;
        }
        match event {
            Event::Claim => {
                let hit = pool.claim().is_some();
                pool.came(hit, now);
                let late = now - start > (end - start) / 2;
                out.claims += 1;
                out.hits += u32::from(hit);
                out.late.0 += u32::from(late);
                out.late.1 += u32::from(late && hit);
            }
            Event::Refilled(took) => pool.refilled((), took),
            Event::Look => {
                pool.allow(size.max, now);
                while pool.surplus().is_some() {}
                let ready = pool.ready().len() as u32;
                looks += 1;
                out.mean += (f64::from(ready) - out.mean) / f64::from(looks);
                out.most = out.most.max(ready);
                events.push(Reverse((now + timing::POOL_LOOK, Event::Look)));
            }
            Event::Ask => {}
        }
        let standing = pool.standing(now).target;
        if standing != target {
            out.turns += u32::from(rising && standing < target);
            rising = standing > target;
            target = standing;
        }
        let plan = pool.plan(now, AHEAD);
        for _ in 0..plan.start {
            let took = Duration::from_secs_f64(random.random_range(refill.clone()));
            events.push(Reverse((now + took, Event::Refilled(took))));
        }
        if let Some(again) = plan.again {
            events.push(Reverse((now + again, Event::Ask)));
        }
    }
    out
}

/// Moments at `rate` a second, which may depend on the time; it never exceeds `most`.
fn poisson(seed: u64, until: f64, most: f64, rate: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut now, mut moments) = (0.0, Vec::new());
    loop {
        now -= (1.0 - random.random::<f64>()).ln() / most;
        if now > until {
            return moments;
        }
        if random.random::<f64>() < rate(now) / most {
            moments.push(now);
        }
    }
}

/// Bursts of 10 to 40 claims within half a second, one each five minutes or so, and one single claim
/// a minute or so between them.
pub(super) fn bursty(seed: u64, until: f64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut claims = poisson(seed + 1, until, 1.0 / 60.0, |_| 1.0 / 60.0);
    for burst in poisson(seed + 2, until, 1.0 / 300.0, |_| 1.0 / 300.0) {
        let size = random.random_range(10..=40);
        claims.extend((0..size).map(|_| burst + random.random::<f64>() * 0.5));
    }
    claims
}

#[test]
fn a_steady_day() {
    let claims = poisson(1, DAY, 1.0, |_| 1.0);
    let out = simulate(&claims, "2..64", 0.05..0.25);
    out.print("steady, 1 a second");
    assert!(out.rate() >= 0.999, "{out:?}");
    assert!(out.most <= 12, "{out:?}");
    // Chance moves it now and then, the load does not.
    assert!(out.turns <= 24, "{out:?}");
}

#[test]
fn a_bursty_day() {
    let claims = bursty(11, DAY);
    let out = simulate(&claims, "2..64", 0.05..0.25);
    out.print("bursts of 10 to 40");
    // The first bursts of all find a pool that knows nothing of bursts.
    assert!(out.rate() >= 0.99, "{out:?}");
    assert!(
        f64::from(out.late.1) >= 0.995 * f64::from(out.late.0),
        "{out:?}"
    );
    assert!(out.most <= 64, "{out:?}");
}

#[test]
fn bursts_on_a_slow_runtime() {
    let out = simulate(&bursty(12, DAY), "2..64", 0.3..1.5);
    out.print("bursts of 10 to 40, refills of 0.3 to 1.5 s");
    assert!(out.rate() >= 0.99, "{out:?}");
}

#[test]
fn three_days_and_nights() {
    let swing = |now: f64| 2.5 * (1.0 - (now / DAY * std::f64::consts::TAU).cos());
    let claims = poisson(21, 3.0 * DAY, 5.0, swing);
    let out = simulate(&claims, "2..64", 0.05..0.25);
    out.print("days of 0 to 5 a second");
    assert!(out.rate() >= 0.999, "{out:?}");
    assert!(out.mean < 12.0, "the nights are cheap: {out:?}");
}

#[test]
fn a_fixed_pool_stays_as_it_is() {
    let out = simulate(&bursty(11, HOUR * 6.0), "10", 0.05..0.25);
    out.print("bursts of 10 to 40 on a fixed pool of 10");
    assert_eq!((out.most, out.turns), (10, 0));
    assert!(out.rate() < 0.9, "or the other days show nothing: {out:?}");
}
