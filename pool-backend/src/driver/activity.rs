//! When a workspace was last used, and until when it counts as used.
//!
//! Times that decide are monotonic: a machine whose clock is set does not put anybody to sleep. Only
//! what a restart is to remember goes by the clock, because nothing else outlives it.
//!
//! Must never happen here: a decision.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::record::ActivityRecord;
use fleet::timing;
use time::OffsetDateTime;

/// No record extends further: the longest time-out and the longest extension.
const MAX_EXTENDED: Duration = Duration::from_secs(8 * 24 * 3600);

/// See the module.
pub(crate) struct Activity {
    since: Instant,
    /// When it was last used, in milliseconds from `since`.
    used: AtomicU64,
    /// The same for people, in milliseconds of the Unix epoch.
    used_at: AtomicI64,
    /// When the app said something by itself, in milliseconds from `since`.
    said: AtomicU64,
    /// It is not idle before this, in milliseconds from `since`.
    extended_to: AtomicU64,
    /// A client that sends heartbeats is expected until then.
    heartbeat_to: AtomicU64,
    /// The last use that the record knows, in milliseconds of the Unix epoch.
    recorded: AtomicI64,
}

impl Activity {
    /// Used just now.
    pub(crate) fn new() -> Self {
        let activity = Self::idle_for(Duration::ZERO);
        activity.touch();
        activity
    }

    /// As the record says, which may not know of the last uses: it counts as used as late as that
    /// can be.
    pub(crate) fn recorded(record: &ActivityRecord) -> Self {
        let now = OffsetDateTime::now_utc();
        // A time in the future is a clock that was set.
        let since = |at: OffsetDateTime| Duration::try_from(now - at).unwrap_or_default();
        let idle = since(record.last_at).saturating_sub(timing::ACTIVITY_RECORDED);
        let activity = Self::idle_for(idle);
        let last = unix_millis(record.last_at.min(now));
        activity.used_at.store(last, Ordering::Relaxed);
        activity.recorded.store(last, Ordering::Relaxed);
        if let Some(to) = record.extended_to {
            let left = Duration::try_from(to - now).unwrap_or_default();
            let to = activity.now() + millis(left.min(MAX_EXTENDED));
            activity.extended_to.store(to, Ordering::Relaxed);
        }
        activity
    }

    fn idle_for(idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            since: now.checked_sub(idle).unwrap_or(now),
            used: AtomicU64::new(0),
            said: AtomicU64::new(0),
            used_at: AtomicI64::new(0),
            extended_to: AtomicU64::new(0),
            heartbeat_to: AtomicU64::new(0),
            recorded: AtomicI64::new(0),
        }
    }

    /// For the record, which knows from then on.
    pub(crate) fn record(&self) -> ActivityRecord {
        let last = self.used_at.load(Ordering::Relaxed);
        self.recorded.store(last, Ordering::Relaxed);
        let left = self.extension_left();
        ActivityRecord {
            last_at: self.last(),
            extended_to: (!left.is_zero()).then(|| OffsetDateTime::now_utc() + left),
        }
    }

    /// Whether the record knows too little of its uses.
    pub(crate) fn is_unrecorded(&self) -> bool {
        let (used, known) = (&self.used_at, &self.recorded);
        let behind = used.load(Ordering::Relaxed) - known.load(Ordering::Relaxed);
        u64::try_from(behind).is_ok_and(|behind| behind >= millis(timing::ACTIVITY_RECORDED))
    }

    /// Somebody uses it.
    pub(crate) fn touch(&self) {
        let now = unix_millis(OffsetDateTime::now_utc());
        self.used_at.store(now, Ordering::Relaxed);
        self.used.store(self.now(), Ordering::Relaxed);
    }

    /// The app said something to somebody who listens. No use: a ticker in a forgotten tab ticks on.
    pub(crate) fn said_something(&self) {
        self.said.store(self.now(), Ordering::Relaxed);
    }

    /// How long the app has said nothing by itself.
    pub(crate) fn silent(&self) -> Duration {
        let said = self.said.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(said))
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

fn unix_millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
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
    fn a_restart_remembers_uses_and_extensions() {
        let now = OffsetDateTime::now_utc();
        let hour = 60 * MINUTE;
        let record = ActivityRecord {
            last_at: now - hour,
            extended_to: Some(now + 2 * hour),
        };
        let activity = Activity::recorded(&record);
        assert_eq!(
            activity.last().unix_timestamp(),
            record.last_at.unix_timestamp()
        );
        // It may have been used a little after that.
        about(hour - timing::ACTIVITY_RECORDED, activity.idle());
        about(activity.extension_left(), 2 * hour);
        assert!(!activity.is_unrecorded());
        activity.touch();
        assert!(activity.idle() < MINUTE && activity.is_unrecorded());
        about(activity.extension_left(), 2 * hour);
        let again = activity.record();
        assert!(again.last_at > record.last_at && !activity.is_unrecorded());
        let drift = again.extended_to.unwrap() - record.extended_to.unwrap();
        assert!(drift.abs() < MINUTE, "{drift}");
    }

    #[test]
    fn a_clock_that_was_set_back_puts_nobody_to_sleep() {
        let record = ActivityRecord {
            last_at: OffsetDateTime::now_utc() + 60 * MINUTE,
            extended_to: None,
        };
        let activity = Activity::recorded(&record);
        assert!(activity.idle() < MINUTE);
        assert!(activity.last() <= OffsetDateTime::now_utc());
    }

    #[test]
    fn a_heartbeat_announces_the_next() {
        let activity = Activity::new();
        assert_eq!(activity.heartbeat_left(), Duration::ZERO);
        activity.heartbeat(5 * MINUTE);
        about(activity.heartbeat_left(), 10 * MINUTE);
    }
}
