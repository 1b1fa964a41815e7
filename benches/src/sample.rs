//! Many timings of one thing, and what to say of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// Timings taken one by one.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Times `work`, if it succeeds.
    pub fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = work()?;
        self.add(begun.elapsed());
        Ok(done)
    }

    /// One that was taken elsewhere.
    pub fn add(&mut self, timing: Duration) {
        self.0.push(timing);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of another's.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl From<Samples> for Percentiles {
    fn from(samples: Samples) -> Self {
        percentiles(samples.0)
    }
}

/// Times `count` runs of `work`; `between` each, unmeasured. Stops early after `limit`, but never
/// before five.
pub fn time(
    count: usize,
    limit: Duration,
    mut work: impl FnMut(usize) -> Result<()>,
    mut between: impl FnMut(usize) -> Result<()>,
) -> Result<Percentiles> {
    let start = Instant::now();
    let mut timings = Vec::with_capacity(count);
    for n in 0..count {
        let begun = Instant::now();
        work(n)?;
        timings.push(begun.elapsed());
        between(n)?;
        if start.elapsed() > limit && timings.len() >= 5 {
            break;
        }
    }
    Ok(percentiles(timings))
}

/// Of timings in any order.
pub fn percentiles(mut timings: Vec<Duration>) -> Percentiles {
    timings.sort_unstable();
    // Nearest rank: a timing that was really measured.
    let at = |share: f64| {
        let rank = (share * timings.len() as f64).ceil() as usize;
        let timing = timings.get(rank.saturating_sub(1)).or(timings.last());
        timing.map_or(f64::NAN, |timing| timing.as_secs_f64() * 1000.0)
    };
    Percentiles {
        count: timings.len(),
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let all = percentiles((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(
            (all.p50, all.p95, all.p99, all.max),
            (50.0, 95.0, 99.0, 100.0)
        );
        let one = percentiles(vec![Duration::from_millis(7)]);
        assert_eq!((one.count, one.p50, one.p99), (1, 7.0, 7.0));
    }
}
