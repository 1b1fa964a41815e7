//! How many warm containers would have been enough, so that nobody who came had to wait: from when
//! claims came and from how long a refill takes.
//!
//! Each claim is followed, in thought, by a refill; [`AT_ONCE`] of them go on at a time. The most
//! that were ever on their way together is what should have been there beforehand. That peak
//! counts in full for [`timing::DEMAND_MEMORY`] and then fades by a quarter each
//! [`timing::DEMAND_SLOT`]; a quarter on top is the reserve.
//!
//! More claims, or slower ones to refill, never make it ask for less.
//!
//! Must never happen here: I/O, a clock read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fleet::timing;

use super::MOST;
use crate::driver::turns::AHEAD;

/// Refills that go on together.
const AT_ONCE: usize = AHEAD as usize;
/// Parts of the time that peaks are remembered for.
const SLOTS: usize = (timing::DEMAND_MEMORY.as_millis() / timing::DEMAND_SLOT.as_millis()) as usize;
/// Of the time that a refill takes, this part is the last one's.
const LAST_COUNTS: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Demand {
    /// When the refills in thought will have arrived, in order.
    due: VecDeque<Instant>,
    /// How long one takes; none before the first.
    refill: Option<Duration>,
    /// The peak of each slot of time; `now_in` is the present one's.
    peaks: [u32; SLOTS],
    now_in: usize,
    slot_began: Instant,
    /// What is left of peaks that are too old for a slot.
    faded: u32,
}

impl Demand {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            due: VecDeque::new(),
            refill: None,
            peaks: [0; SLOTS],
            now_in: 0,
            slot_began: now,
            faded: 0,
        }
    }

    /// Somebody came for a container.
    pub(crate) fn came(&mut self, now: Instant) {
        self.go_on(now);
        while self.due.front().is_some_and(|due| *due <= now) {
            self.due.pop_front();
        }
        if self.due.len() < MOST as usize {
            // The first that is free of those who refill takes this one on.
            let begins = match self.due.len().checked_sub(AT_ONCE) {
                Some(before) => self.due.get(before).copied().unwrap_or(now),
                None => now,
            };
            let due = begins + self.refill();
            // A refill that became faster does not overtake.
            let due = self.due.back().map_or(due, |last| due.max(*last));
            self.due.push_back(due);
        }
        self.note(u32::try_from(self.due.len()).unwrap_or(MOST));
    }

    /// A refill took this long.
    pub(crate) fn refilled(&mut self, took: Duration) {
        let took = took.min(timing::REFILL_COUNTED);
        self.refill = Some(match self.refill {
            Some(before) => before - before / LAST_COUNTS + took / LAST_COUNTS,
            None => took,
        });
    }

    /// That many were found at a start: the process before had its reasons.
    pub(crate) fn found(&mut self, count: u32, now: Instant) {
        self.go_on(now);
        // So that reserve and all it is no more than there are.
        self.note(count.saturating_mul(4) / 5);
    }

    /// How many there should be.
    pub(crate) fn wanted(&mut self, now: Instant) -> u32 {
        self.go_on(now);
        let peak = self.peaks.iter().copied().fold(self.faded, u32::max);
        peak.saturating_add(peak.div_ceil(4)).min(MOST)
    }

    /// What a refill is taken to last.
    pub(crate) fn refill(&self) -> Duration {
        self.refill.unwrap_or(timing::REFILL_GUESS)
    }

    fn note(&mut self, peak: u32) {
        if let Some(slot) = self.peaks.get_mut(self.now_in) {
            *slot = peak.max(*slot);
        }
    }

    /// Slots of time that have passed make place for new ones.
    fn go_on(&mut self, now: Instant) {
        while now.saturating_duration_since(self.slot_began) >= timing::DEMAND_SLOT {
            if self.faded == 0 && self.peaks == [0; SLOTS] {
                self.slot_began = now;
                return;
            }
            self.slot_began += timing::DEMAND_SLOT;
            self.now_in = (self.now_in + 1) % SLOTS;
            let leaves = self.peaks.get_mut(self.now_in).map_or(0, std::mem::take);
            self.faded = (self.faded / 4 * 3 + self.faded % 4 * 3 / 4).max(leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    fn at(base: Instant, millis: u64) -> Instant {
        base + Duration::from_millis(millis)
    }

    /// What is wanted after each of these claims, and an hour after the last.
    fn asked(base: Instant, claims: &[u64], refill: Duration) -> Vec<u32> {
        let mut demand = Demand::new(base);
        demand.refilled(refill);
        let mut claims = claims.to_vec();
        claims.sort_unstable();
        let mut wanted = Vec::new();
        for claim in &claims {
            demand.came(at(base, *claim));
            wanted.push(demand.wanted(at(base, *claim)));
        }
        let last = claims.last().copied().unwrap_or(0);
        wanted.push(demand.wanted(at(base, last + 30 * MINUTE)));
        wanted
    }

    #[test]
    fn a_burst_is_remembered_for_an_hour_and_fades() {
        let base = Instant::now();
        let mut demand = Demand::new(base);
        demand.refilled(Duration::from_millis(100));
        for _ in 0..40 {
            demand.came(base);
        }
        assert_eq!(demand.wanted(base), 50);
        assert_eq!(demand.wanted(at(base, 59 * MINUTE)), 50);
        let later = demand.wanted(at(base, 75 * MINUTE));
        assert!((20..50).contains(&later), "{later}");
        assert_eq!(demand.wanted(at(base, 6 * 60 * MINUTE)), 0);
    }

    #[test]
    fn an_even_load_asks_for_the_same_all_day() {
        let base = Instant::now();
        let mut demand = Demand::new(base);
        demand.refilled(Duration::from_millis(400));
        let mut asked = Vec::new();
        // 4 a second, and 5 a second could be refilled.
        for n in 0..(4 * 3600 * 6) {
            let now = at(base, n * 250);
            demand.came(now);
            asked.push(demand.wanted(now));
        }
        assert_eq!(asked.last(), Some(&3));
        assert!(asked.iter().skip(10).all(|wanted| *wanted == 3));
    }

    #[test]
    fn what_was_found_is_kept_for_an_hour() {
        let base = Instant::now();
        let mut demand = Demand::new(base);
        demand.found(100, base);
        assert_eq!(demand.wanted(at(base, 50 * MINUTE)), 100);
        assert!(demand.wanted(at(base, 3 * 60 * MINUTE)) < 10);
    }

    proptest! {
        #[test]
        fn more_claims_or_slower_refills_never_ask_for_less(
            claims in prop::collection::vec(0_u64..(10 * MINUTE), 1..80),
            extra in 0_u64..(10 * MINUTE),
            refill in 1_u64..5_000,
            slower in 0_u64..5_000,
        ) {
            let base = Instant::now();
            let refill = Duration::from_millis(refill);
            let few = asked(base, &claims, refill);
            let slow = asked(base, &claims, refill + Duration::from_millis(slower));
            prop_assert!(few.iter().zip(&slow).all(|(few, slow)| few <= slow));
            let mut more = claims.clone();
            more.push(extra);
            prop_assert!(few.iter().max() <= asked(base, &more, refill).iter().max());
        }

        #[test]
        fn it_asks_for_no_more_than_came_and_a_quarter(
            claims in prop::collection::vec(0_u64..(90 * MINUTE), 1..200),
            refill in 1_u64..20_000,
        ) {
            let wanted = asked(Instant::now(), &claims, Duration::from_millis(refill));
            let most = claims.len() as u32 + (claims.len() as u32).div_ceil(4);
            prop_assert!(wanted.iter().all(|wanted| *wanted <= most));
        }
    }
}
