//! The warm containers of one template, as a pure account: how many there should be, how many
//! are ready or on their way, and when the next may be started. `keeper` does what it says.
//!
//! How many: as many as would have been enough lately ([`demand`]), within the operator's
//! [`PoolSize`] and what the machine has room for ([`room`]).
//!
//! Claims are last in, first out: the container warmed last has the warmest pages, and the ones
//! below it rest undisturbed.
//!
//! Must never happen here: I/O, a clock read, a container started.

mod demand;
mod pace;
pub(crate) mod room;
#[cfg(test)]
mod simulation;
mod size;

use std::time::{Duration, Instant};

use fleet::timing;

use self::demand::Demand;
use self::pace::{Breaker, Tokens};
use self::room::Wish;
pub use pace::Broken;
pub(crate) use pace::back_off;
pub use size::{BadPoolSize, PoolSize};

/// Warm containers of one template, at most.
pub const MOST: u32 = 10_000;
/// Claims whose time is remembered.
const TIMES: usize = 512;

/// See the module. `T` is a warm container.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    size: PoolSize,
    /// What there is room for.
    allowed: u32,
    demand: Demand,
    target: u32,
    ready: Vec<T>,
    refilling: u32,
    hits: u64,
    misses: u64,
    tokens: Tokens,
    breaker: Breaker,
    claim_times: Vec<Duration>,
    next_time: usize,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Refills to start now; already counted as on their way.
    pub start: u32,
    /// When to ask again, if nothing happens before; none: not before something happens.
    pub again: Option<Duration>,
}

/// How a pool stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub size: PoolSize,
    pub target: u32,
    pub ready: u32,
    pub refilling: u32,
    pub hits: u64,
    pub misses: u64,
    /// More were wished for than there is room for.
    pub short_of_room: bool,
    pub claim_p95: Option<Duration>,
    pub refill: Duration,
    pub broken: Option<Broken>,
}

impl<T> Pool<T> {
    pub(crate) fn new(size: PoolSize, now: Instant) -> Self {
        Self {
            size,
            allowed: size.max,
            demand: Demand::new(now),
            target: size.min,
            ready: Vec::new(),
            refilling: 0,
            hits: 0,
            misses: 0,
            tokens: Tokens::full(now),
            breaker: Breaker::default(),
            claim_times: Vec::new(),
            next_time: 0,
        }
    }

    /// What it would have if there were room.
    pub(crate) fn wish(&mut self, now: Instant) -> Wish {
        Wish {
            least: self.size.min,
            wanted: self.size.within(self.demand.wanted(now)),
        }
    }

    /// There is room for so many; the target follows. True if it is another than before.
    pub(crate) fn allow(&mut self, allowed: u32, now: Instant) -> bool {
        self.allowed = allowed;
        let target = self.wish(now).wanted.min(allowed);
        std::mem::replace(&mut self.target, target) != target
    }

    /// Hands one out, the youngest first.
    pub(crate) fn claim(&mut self) -> Option<T> {
        self.ready.pop()
    }

    /// Somebody came for a container, and got one at once or not.
    pub(crate) fn came(&mut self, hit: bool, now: Instant) {
        match hit {
            true => self.hits += 1,
            false => self.misses += 1,
        }
        self.demand.came(now);
        self.allow(self.allowed, now);
    }

    /// A claim that was a hit took this long.
    pub(crate) fn took(&mut self, time: Duration) {
        match self.claim_times.get_mut(self.next_time) {
            Some(old) => *old = time,
            None => self.claim_times.push(time),
        }
        self.next_time = (self.next_time + 1) % TIMES;
    }

    /// How many refills to start, given that at most `concurrent` may be on their way.
    pub(crate) fn plan(&mut self, now: Instant, concurrent: u32) -> Plan {
        let missing = self
            .target
            .saturating_sub(self.count().saturating_add(self.refilling));
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
    pub(crate) fn refilled(&mut self, warm: T, took: Duration) {
        self.refilling = self.refilling.saturating_sub(1);
        self.breaker.succeeded();
        self.demand.refilled(took);
        self.ready.push(warm);
    }

    /// A refill failed.
    pub(crate) fn failed(&mut self, reason: &str, now: Instant) {
        self.refilling = self.refilling.saturating_sub(1);
        self.breaker.failed(reason, now);
    }

    /// One that was there before this process: back into the pool, if it may ever be as large.
    pub(crate) fn adopt(&mut self, warm: T, now: Instant) -> Option<T> {
        if self.count() >= self.size.max {
            return Some(warm);
        }
        self.ready.insert(0, warm);
        self.demand.found(self.count(), now);
        self.allow(self.allowed, now);
        None
    }

    /// Takes out one that is too many, the oldest first.
    pub(crate) fn surplus(&mut self) -> Option<T> {
        (self.count() > self.target).then(|| self.ready.remove(0))
    }

    /// Takes out those that `gone` names.
    pub(crate) fn evict(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        self.ready.extract_if(.., |warm| gone(warm)).collect()
    }

    pub(crate) fn ready(&self) -> &[T] {
        &self.ready
    }

    /// Those that are there, and those on their way.
    pub(crate) fn warm(&self) -> u32 {
        self.count().saturating_add(self.refilling)
    }

    pub(crate) fn standing(&mut self, now: Instant) -> Standing {
        Standing {
            size: self.size,
            target: self.target,
            ready: self.count(),
            refilling: self.refilling,
            hits: self.hits,
            misses: self.misses,
            short_of_room: self.wish(now).wanted > self.allowed,
            claim_p95: percentile_95(&self.claim_times),
            refill: self.demand.refill(),
            broken: self.breaker.broken(now),
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }
}

/// By nearest rank: one that was really measured.
fn percentile_95(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * 95).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests;
