//! When a workspace was last used, and until when it counts as used.
//!
//! Times that decide are monotonic: a machine whose clock is set does not put anybody to sleep.
//!
//! Must never happen here: a decision.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// See the module.
pub(crate) struct Activity {
    since: Instant,
    /// When it was last used, in milliseconds from `since`.
    used: AtomicU64,
    /// The same for people, in milliseconds of the Unix epoch.
    used_at: AtomicI64,
    /// It is not idle before this, in milliseconds from `since`.
    extended_to: AtomicU64,
    /// A client that sends heartbeats is expected until then.
    heartbeat_to: AtomicU64,
}

impl Activity {
    /// Used just now.
    pub(crate) fn new() -> Self {
        let activity = Self {
            since: Instant::now(),
            used: AtomicU64::new(0),
            used_at: AtomicI64::new(0),
            extended_to: AtomicU64::new(0),
            heartbeat_to: AtomicU64::new(0),
        };
        activity.touch();
        activity
    }

    /// Somebody uses it.
    pub(crate) fn touch(&self) {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.used_at.store(now, Ordering::Relaxed);
        self.used.store(self.now(), Ordering::Relaxed);
    }

    /// Somebody uses it, and will say so again after `interval`, or a little later.
    pub(crate) fn heartbeat(&self, interval: Duration) {
        self.touch();
        let until = self.now() + millis(interval.saturating_mul(2));
        self.heartbeat_to.fetch_max(until, Ordering::Relaxed);
    }

    /// It becomes idle `more` later than it would have; what is left then of all extensions is at
    /// most `limit`. Returns how much was added.
    pub(crate) fn extend(&self, timeout: Duration, more: Duration, limit: Duration) -> Duration {
        let (timeout, now) = (millis(timeout), self.now());
        let before = self.extended_to.load(Ordering::Relaxed);
        let due = before.max(self.used.load(Ordering::Relaxed) + timeout);
        let most = now + timeout + millis(limit);
        let extended = (due + millis(more)).min(most);
        self.extended_to.store(extended, Ordering::Relaxed);
        Duration::from_millis(extended.saturating_sub(due))
    }

    /// How long nobody has used it.
    pub(crate) fn idle(&self) -> Duration {
        let used = self.used.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(used))
    }

    /// What is left of an extension.
    pub(crate) fn extension_left(&self) -> Duration {
        self.left(&self.extended_to)
    }

    /// How long a client's next heartbeat may still come.
    pub(crate) fn heartbeat_left(&self) -> Duration {
        self.left(&self.heartbeat_to)
    }

    /// Changes with each use.
    pub(crate) fn mark(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn last(&self) -> OffsetDateTime {
        let millis = i128::from(self.used_at.load(Ordering::Relaxed));
        OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn left(&self, until: &AtomicU64) -> Duration {
        Duration::from_millis(until.load(Ordering::Relaxed).saturating_sub(self.now()))
    }

    fn now(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn about(left: Duration, expected: Duration) {
        let late = expected.saturating_sub(left);
        assert!(left <= expected && late < MINUTE, "{left:?}, {expected:?}");
    }

    #[test]
    fn extensions_add_up_to_their_limit() {
        let activity = Activity::new();
        assert_eq!(activity.extension_left(), Duration::ZERO);
        let limit = 480 * MINUTE;
        let added = activity.extend(30 * MINUTE, 60 * MINUTE, limit);
        assert_eq!(added, 60 * MINUTE);
        about(activity.extension_left(), 90 * MINUTE);
        let added = activity.extend(30 * MINUTE, 480 * MINUTE, limit);
        assert!(added >= 419 * MINUTE, "{added:?}");
        about(activity.extension_left(), 510 * MINUTE);
    }

    #[test]
    fn a_heartbeat_announces_the_next() {
        let activity = Activity::new();
        assert_eq!(activity.heartbeat_left(), Duration::ZERO);
        activity.heartbeat(5 * MINUTE);
        about(activity.heartbeat_left(), 10 * MINUTE);
    }
}
