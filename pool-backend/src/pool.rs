//! The warm containers of one template, as a pure account: how many there should be, how many
//! are ready or on their way, and when the next may be started. `keeper` does what it says.
//!
//! Claims are last in, first out: the container warmed last has the warmest pages, and the ones
//! below it rest undisturbed.
//!
//! Must never happen here: I/O, a clock read, a container started.

use std::time::{Duration, Instant};

use fleet::timing;

/// Refills that may start at once after a burst of claims; then one each `timing::REFILL_PACE`.
const BURST: u32 = 64;

/// See the module. `T` is a warm container.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    target: u32,
    ready: Vec<T>,
    refilling: u32,
    hits: u64,
    misses: u64,
    tokens: Tokens,
    breaker: Breaker,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Refills to start now; already counted as on their way.
    pub start: u32,
    /// When to ask again, if nothing happens before; none: not before something happens.
    pub again: Option<Duration>,
}

impl<T> Pool<T> {
    pub(crate) fn new(target: u32, now: Instant) -> Self {
        Self {
            target,
            ready: Vec::new(),
            refilling: 0,
            hits: 0,
            misses: 0,
            tokens: Tokens::full(now),
            breaker: Breaker::default(),
        }
    }

    /// Hands one out, the youngest first, and counts a hit or a miss.
    pub(crate) fn claim(&mut self) -> Option<T> {
        let claimed = self.ready.pop();
        match claimed {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        claimed
    }

    /// What a claim handed out was dead: it was no hit after all.
    pub(crate) fn was_dead(&mut self) {
        self.hits = self.hits.saturating_sub(1);
    }

    /// How many refills to start, given that at most `concurrent` may be on their way.
    pub(crate) fn plan(&mut self, now: Instant, concurrent: u32) -> Plan {
        let have = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        let missing = self
            .target
            .saturating_sub(have.saturating_add(self.refilling));
        let room = concurrent.saturating_sub(self.refilling);
        let wanted = missing.min(room);
        if wanted == 0 {
            return Plan {
                start: 0,
                again: None,
            };
        }
        if let Some(wait) = self.breaker.wait(now) {
            return Plan {
                start: 0,
                again: Some(wait),
            };
        }
        // After a failure one is tried alone before the rest follow.
        let wanted = if self.breaker.is_trying() {
            wanted.min(1_u32.saturating_sub(self.refilling))
        } else {
            wanted
        };
        let start = self.tokens.take(wanted, now);
        self.refilling += start;
        Plan {
            start,
            again: (start < wanted).then_some(timing::REFILL_PACE),
        }
    }

    /// A refill arrived.
    pub(crate) fn refilled(&mut self, warm: T) {
        self.refilling = self.refilling.saturating_sub(1);
        self.breaker.succeeded();
        self.ready.push(warm);
    }

    /// A refill failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.refilling = self.refilling.saturating_sub(1);
        self.breaker.failed(now);
    }

    /// One that was there before this process: back into the pool.
    pub(crate) fn adopt(&mut self, warm: T) {
        self.ready.insert(0, warm);
    }

    /// Whether one more than wanted is there.
    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() as u64 >= u64::from(self.target)
    }

    /// Takes out those that `gone` names.
    pub(crate) fn evict(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        self.ready.extract_if(.., |warm| gone(warm)).collect()
    }

    pub(crate) fn target(&self) -> u32 {
        self.target
    }

    pub(crate) fn ready(&self) -> &[T] {
        &self.ready
    }

    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}

/// A token bucket over refills: a burst of claims is answered by a burst of refills, a flood of
/// them by a steady pace.
#[derive(Debug)]
struct Tokens {
    left: u32,
    since: Instant,
}

impl Tokens {
    fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    fn take(&mut self, wanted: u32, now: Instant) -> u32 {
        let pace = timing::REFILL_PACE;
        let earned = now.saturating_duration_since(self.since).as_nanos() / pace.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= BURST - self.left {
            self.left = BURST;
            self.since = now;
        } else {
            self.left += earned;
            self.since += pace * earned;
        }
        let taken = wanted.min(self.left);
        self.left -= taken;
        taken
    }
}

/// Failures in a row open it for a time that doubles.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    closed_at: Option<Instant>,
}

impl Breaker {
    fn failed(&mut self, now: Instant) {
        // Those that were on their way when the first one failed count once.
        if self.wait(now).is_some() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.closed_at = Some(now + back_off(self.failures));
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let closed_at = self.closed_at?;
        (closed_at > now).then(|| closed_at - now)
    }

    fn is_trying(&self) -> bool {
        self.failures > 0
    }
}

/// The pause after the n-th failure in a row, n from 1.
pub(crate) fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (timing::START_BACKOFF * 2_u32.pow(doublings)).min(timing::START_BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_up_and_rests() {
        let now = Instant::now();
        let mut pool = Pool::new(5, now);
        let first = pool.plan(now, 2);
        assert_eq!((first.start, first.again), (2, None));
        assert_eq!(pool.plan(now, 2).start, 0);
        pool.refilled(1);
        pool.refilled(2);
        assert_eq!(pool.plan(now, 10).start, 3);
        for n in 3..6 {
            pool.refilled(n);
        }
        assert_eq!(
            pool.plan(now, 10),
            Plan {
                start: 0,
                again: None
            }
        );
        assert!(pool.is_full());
        assert_eq!(pool.claim(), Some(5));
        assert_eq!(pool.claim(), Some(4));
        assert_eq!(pool.plan(now, 10).start, 2);
    }

    #[test]
    fn counts_hits_and_misses() {
        let mut pool = Pool::new(1, Instant::now());
        assert_eq!(pool.claim(), None);
        pool.adopt('a');
        assert_eq!(pool.claim(), Some('a'));
        assert_eq!(pool.hits_and_misses(), (1, 1));
    }

    #[test]
    fn failures_back_off_then_one_is_tried_alone() {
        let mut now = Instant::now();
        let mut pool: Pool<()> = Pool::new(8, now);
        assert_eq!(pool.plan(now, 4).start, 4);
        for _ in 0..4 {
            pool.failed(now);
        }
        let plan = pool.plan(now, 4);
        assert_eq!((plan.start, plan.again), (0, Some(timing::START_BACKOFF)));
        now += timing::START_BACKOFF;
        assert_eq!(pool.plan(now, 4).start, 1);
        assert_eq!(pool.plan(now, 4).start, 0);
        pool.failed(now);
        assert_eq!(pool.plan(now, 4).again, Some(timing::START_BACKOFF * 2));
        now += timing::START_BACKOFF * 2;
        assert_eq!(pool.plan(now, 4).start, 1);
        pool.refilled(());
        assert_eq!(pool.plan(now, 4).start, 4);
    }

    #[test]
    fn back_off_is_bounded() {
        assert_eq!(back_off(1), timing::START_BACKOFF);
        assert_eq!(back_off(u32::MAX), timing::START_BACKOFF_MAX);
    }

    proptest! {
        /// Whatever happens in whatever order: never more than the target and never more at
        /// once than allowed, and a pool left alone fills up.
        #[test]
        fn never_too_many_and_always_full_in_the_end(
            target in 0_u32..200,
            steps in prop::collection::vec(0_u8..4, 0..300),
        ) {
            let mut now = Instant::now();
            let mut pool = Pool::new(target, now);
            let mut underway = 0_u32;
            for step in steps {
                match step {
                    0 => { pool.claim(); }
                    1 => underway += pool.plan(now, 3).start,
                    2 if underway > 0 => { underway -= 1; pool.refilled(()); }
                    3 if underway > 0 => { underway -= 1; pool.failed(now); }
                    _ => now += Duration::from_millis(7),
                }
                prop_assert!(underway <= 3);
                prop_assert!(pool.ready().len() as u32 + underway <= target);
            }
            for _ in 0..10_000 {
                let plan = pool.plan(now, 3);
                underway += plan.start;
                if underway > 0 { underway -= 1; pool.refilled(()); }
                else if let Some(again) = plan.again { now += again; }
                else { break }
            }
            prop_assert_eq!(pool.ready().len() as u32, target);
        }
    }
}
