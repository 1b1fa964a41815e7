//! How often a key may be used: a bucket of requests that fills at a steady rate.
//!
//! One number holds all: the moment at which the bucket would be full again. Each request moves it
//! on by one interval; how far it may lie ahead is the burst.
//!
//! Must never happen here: a lock on the way of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet::record::Rate;

const SECOND: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds between two requests at the steady rate.
    interval: u64,
    /// How far `full_at` may lie ahead.
    tolerance: u64,
    /// Nanoseconds on the caller's clock.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: Rate) -> Self {
        let interval = SECOND / u64::from(rate.per_second.max(1));
        Self {
            interval,
            tolerance: interval.saturating_mul(rate.burst.max(1).into()),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes one request out, `now` on a clock that does not go back.
    ///
    /// # Errors
    /// After which time there will be one.
    pub(crate) fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(self.interval);
            let ahead = next.saturating_sub(now);
            if ahead > self.tolerance {
                return Err(Duration::from_nanos(ahead - self.tolerance));
            }
            let taken = self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }
}

/// Whole seconds, never too few.
pub(crate) fn seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_and_then_the_steady_rate() {
        let bucket = Bucket::new(Rate {
            per_second: 10,
            burst: 3,
        });
        let taken = |millis, count: usize| {
            let takes = (0..count).filter(|_| bucket.take(at(millis)).is_ok());
            takes.count()
        };
        assert_eq!(taken(1000, 10), 3);
        assert_eq!(taken(1099, 10), 0);
        assert_eq!(taken(1100, 10), 1);
        assert_eq!(taken(1300, 10), 2);
        assert_eq!(taken(60_000, 10), 3);
        let wait = bucket.take(at(60_000)).unwrap_err();
        assert_eq!((wait, seconds(wait)), (at(100), 1));
        assert!(bucket.take(at(60_000) + wait).is_ok());
    }

    #[test]
    fn seconds_are_whole_and_enough() {
        assert_eq!(seconds(at(0)), 1);
        assert_eq!(seconds(at(1000)), 1);
        assert_eq!(seconds(at(1001)), 2);
    }

    #[test]
    fn many_at_once_take_no_more_than_there_is() {
        let bucket = Bucket::new(Rate {
            per_second: 1,
            burst: 100,
        });
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter(|_| bucket.take(at(5000)).is_ok()).count()))
                .collect();
            let takers = takers.into_iter().map(|taker| taker.join().unwrap());
            takers.sum()
        });
        assert_eq!(taken, 100);
    }
}
