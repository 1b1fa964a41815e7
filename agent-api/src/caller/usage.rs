//! What was done with a key, and how long an owner's workspaces ran.
//!
//! Must never happen here: a lock on the way of a request.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A sum that only grows, and what of it belongs to this hour, this day, this month (UTC).
#[derive(Debug)]
pub struct Counter {
    total: AtomicU64,
    begins: Mutex<Begins>,
}

/// A counter's value, and how it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Since counting began.
    pub total: u64,
    /// This hour.
    pub hour: u64,
    /// This day.
    pub day: u64,
    /// This month.
    pub month: u64,
}

/// What the total was when the hour, the day and the month began.
#[derive(Debug, Clone, Copy)]
struct Begins {
    at: OffsetDateTime,
    hour: u64,
    day: u64,
    month: u64,
}

impl Counter {
    /// Goes on from a value that was right at `at`.
    pub fn resume(count: Count, at: OffsetDateTime) -> Self {
        let begins = Begins {
            at,
            hour: count.total.saturating_sub(count.hour),
            day: count.total.saturating_sub(count.day),
            month: count.total.saturating_sub(count.month),
        };
        Self {
            total: AtomicU64::new(count.total),
            begins: Mutex::new(begins),
        }
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    /// Its value. What was counted since the last look before an hour ended counts for the next
    /// one, so look often.
    pub fn look(&self, now: OffsetDateTime) -> Count {
        let total = self.total.load(Ordering::Relaxed);
        let mut begins = self.begins.lock();
        let (then, day) = (begins.at, now.date());
        if (then.date(), then.hour()) != (day, now.hour()) {
            begins.hour = total;
        }
        if then.date() != day {
            begins.day = total;
        }
        if (then.year(), then.month()) != (now.year(), now.month()) {
            begins.month = total;
        }
        begins.at = now;
        Count {
            total,
            hour: total.saturating_sub(begins.hour),
            day: total.saturating_sub(begins.day),
            month: total.saturating_sub(begins.month),
        }
    }
}

/// What was done with a key.
#[derive(Debug)]
pub struct KeyUsage {
    since: OffsetDateTime,
    /// Requests that it was good for.
    pub requests: Counter,
    /// Requests that it was refused, for its scopes or its limits.
    pub refused: Counter,
}

impl KeyUsage {
    /// Nothing yet.
    pub fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        Self::resume(now, Count::default(), Count::default(), now)
    }

    /// Goes on from what was written down at `at`.
    pub fn resume(
        since: OffsetDateTime,
        requests: Count,
        refused: Count,
        at: OffsetDateTime,
    ) -> Self {
        Self {
            since,
            requests: Counter::resume(requests, at),
            refused: Counter::resume(refused, at),
        }
    }

    /// When counting began.
    pub fn since(&self) -> OffsetDateTime {
        self.since
    }
}

impl Default for KeyUsage {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::format_description::well_known::Rfc3339;

    fn at(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).unwrap()
    }

    #[test]
    fn windows_begin_anew_and_the_total_goes_on() {
        let start = at("2026-11-30T22:59:00");
        let counter = Counter::resume(Count::default(), start);
        counter.add(3);
        let count = |at| {
            let count = counter.look(at);
            (count.total, count.hour, count.day, count.month)
        };
        assert_eq!(count(start), (3, 3, 3, 3));
        assert_eq!(count(at("2026-11-30T23:00:00")), (3, 0, 3, 3));
        counter.add(2);
        assert_eq!(count(at("2026-11-30T23:30:00")), (5, 2, 5, 5));
        assert_eq!(count(at("2026-12-01T00:00:00")), (5, 0, 0, 0));
        // The same hour of another day.
        counter.add(1);
        assert_eq!(count(at("2026-12-02T00:00:00")), (6, 0, 0, 1));
    }

    #[test]
    fn what_was_written_down_goes_on() {
        let then = at("2026-11-23T01:10:00");
        let count = Count {
            total: 100,
            hour: 1,
            day: 10,
            month: 50,
        };
        let counter = Counter::resume(count, then);
        counter.add(1);
        let now = counter.look(at("2026-11-23T02:00:00"));
        let expected = Count {
            total: 101,
            hour: 0,
            day: 11,
            month: 51,
        };
        // The one since then was counted before anybody looked at the new hour.
        assert_eq!(now, expected);
    }
}
