//! When refills may start: a token bucket against floods, a breaker against loops of failure.
//!
//! Must never happen here: a clock read.

use std::time::{Duration, Instant};

use fleet::timing;

/// Refills that may start at once after a burst of claims; then one each `timing::REFILL_PACE`.
const BURST: u32 = 64;

/// A burst of claims is answered by a burst of refills, a flood of them by a steady pace.
#[derive(Debug)]
pub(super) struct Tokens {
    left: u32,
    since: Instant,
}

impl Tokens {
    pub(super) fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    pub(super) fn take(&mut self, wanted: u32, now: Instant) -> u32 {
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
pub(super) struct Breaker {
    failures: u32,
    closed_at: Option<Instant>,
    reason: String,
}

/// A breaker that is open, or trying whether it may close.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// Failures in a row.
    pub failures: u32,
    /// Until the next attempt; zero: it goes on now.
    pub retry_in: Duration,
    /// What the last failure said.
    pub reason: String,
}

impl Breaker {
    pub(super) fn failed(&mut self, reason: &str, now: Instant) {
        // Those that were on their way when the first one failed count once.
        if self.wait(now).is_some() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.closed_at = Some(now + back_off(self.failures));
        reason.clone_into(&mut self.reason);
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let closed_at = self.closed_at?;
        (closed_at > now).then(|| closed_at - now)
    }

    pub(super) fn is_trying(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn broken(&self, now: Instant) -> Option<Broken> {
        self.is_trying().then(|| Broken {
            failures: self.failures,
            retry_in: self.wait(now).unwrap_or_default(),
            reason: self.reason.clone(),
        })
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

    #[test]
    fn back_off_is_bounded() {
        assert_eq!(back_off(1), timing::START_BACKOFF);
        assert_eq!(back_off(u32::MAX), timing::START_BACKOFF_MAX);
    }
}
