//! For how many warm containers the machine has room, and whose they are when there is not room
//! for all.
//!
//! What would be free without them is shared: warm containers get their part, the rest is for
//! workspaces and whatever else runs here. So it does not matter to the result how many there are
//! already, and when others need the memory, pools shrink.
//!
//! Must never happen here: I/O.

use std::str::FromStr;

use super::MOST;

/// What is always left of the memory.
const KEPT_FREE: u64 = 256 << 20;
/// The part of the free process ids that warm containers may take, in hundredths.
const TASKS_PERCENT: u64 = 75;

/// What the machine has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Bytes that could be used without pushing anything out.
    pub available: u64,
    /// Processes and threads that could still be started.
    pub tasks: u64,
}

/// What one warm container takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub memory: u64,
    pub tasks: u64,
}

/// How much of the memory warm containers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryShare {
    /// Hundredths of what would be available without them.
    Percent(u8),
    /// No more than this, and no more than there is.
    Bytes(u64),
}

/// What was written is no share of the memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no share of the memory: write 50% or, in MiB or GiB, 512MiB, 4GiB")]
pub struct BadMemoryShare(String);

impl Default for MemoryShare {
    fn default() -> Self {
        Self::Percent(50)
    }
}

impl FromStr for MemoryShare {
    type Err = BadMemoryShare;

    fn from_str(text: &str) -> Result<Self, BadMemoryShare> {
        let bad = || BadMemoryShare(text.chars().take(40).collect());
        let bytes = |number: &str, shift: u32| {
            let number: u64 = number.trim_end().parse().map_err(|_| bad())?;
            let bytes = number.checked_mul(1 << shift).ok_or_else(bad)?;
            Ok(Self::Bytes(bytes))
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent: u8 = number.trim_end().parse().map_err(|_| bad())?;
            return if percent <= 95 {
                Ok(Self::Percent(percent))
            } else {
                Err(bad())
            };
        }
        match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
            (Some(number), _) => bytes(number, 20),
            (_, Some(number)) => bytes(number, 30),
            _ => Err(bad()),
        }
    }
}

/// For how many there is room, given that `warm` are there.
pub(crate) fn room(machine: Machine, cost: Cost, warm: u32, share: MemoryShare) -> u32 {
    let taken = |each: u64| u64::from(warm).saturating_mul(each);
    let without = machine.available.saturating_add(taken(cost.memory));
    let allowed = match share {
        MemoryShare::Percent(percent) => without / 100 * u64::from(percent.min(100)),
        MemoryShare::Bytes(bytes) => bytes,
    };
    let by_memory = allowed.min(without.saturating_sub(KEPT_FREE)) / cost.memory.max(1);
    let tasks = machine.tasks.saturating_add(taken(cost.tasks));
    let by_tasks = tasks / 100 * TASKS_PERCENT / cost.tasks.max(1);
    let room = by_memory.min(by_tasks).min(u64::from(MOST));
    u32::try_from(room).unwrap_or(MOST)
}

/// A bound that falls at once and rises only when it is worth it, so that what is measured a
/// little differently each time does not start and end containers.
#[derive(Debug, Default)]
pub(crate) struct Steady(Option<u32>);

impl Steady {
    pub(crate) fn follow(&mut self, measured: u32) -> u32 {
        let now = match self.0 {
            Some(before) if measured > before && measured - before < before.div_ceil(8) => before,
            _ => measured,
        };
        *self.0.insert(now)
    }
}

/// One pool's wish: at least `least`, better `wanted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub least: u32,
    pub wanted: u32,
}

/// How many each gets, no more than `room` together: first all their least, then the rest; where
/// it is not enough, those who wish for little get it and the others get alike.
pub(crate) fn divide(room: u32, wishes: &[Wish]) -> Vec<u32> {
    let least: Vec<u32> = wishes
        .iter()
        .map(|wish| wish.least.min(wish.wanted))
        .collect();
    let mut given = level(room, &least);
    let left = room.saturating_sub(given.iter().fold(0, |sum, one| sum.saturating_add(*one)));
    let more: Vec<u32> = wishes
        .iter()
        .zip(&least)
        .map(|(wish, least)| wish.wanted - least)
        .collect();
    for (given, more) in given.iter_mut().zip(level(left, &more)) {
        *given = given.saturating_add(more);
    }
    given
}

/// Fills them all to one level, or to their own if that is lower.
fn level(room: u32, wishes: &[u32]) -> Vec<u32> {
    let mut given = vec![0; wishes.len()];
    let mut lowest_first: Vec<usize> = (0..wishes.len()).collect();
    lowest_first.sort_by_key(|at| wishes[*at]);
    let (mut left, mut takers) = (room, u32::try_from(wishes.len()).unwrap_or(u32::MAX));
    for at in lowest_first {
        let part = wishes[at].min(left.div_ceil(takers.max(1)));
        given[at] = part;
        left -= part;
        takers -= 1;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;
    const RUNSC: Cost = Cost {
        memory: 16 << 20,
        tasks: 40,
    };

    fn machine(available: u64, tasks: u64) -> Machine {
        Machine { available, tasks }
    }

    #[test]
    fn memory_and_process_ids_are_bounds() {
        let half = MemoryShare::Percent(50);
        assert_eq!(room(machine(16 * GIB, 1 << 22), RUNSC, 0, half), 511);
        assert_eq!(room(machine(16 * GIB, 32_000), RUNSC, 0, half), 511);
        assert_eq!(room(machine(16 * GIB, 16_000), RUNSC, 0, half), 300);
        let exact = MemoryShare::Bytes(GIB);
        assert_eq!(room(machine(16 * GIB, 1 << 22), RUNSC, 0, exact), 64);
        assert_eq!(room(machine(GIB / 2, 1 << 22), RUNSC, 0, exact), 16);
        assert_eq!(room(machine(0, 1 << 22), RUNSC, 0, exact), 0);
    }

    #[test]
    fn shares_are_read_as_they_are_written() {
        assert_eq!("50%".parse(), Ok(MemoryShare::Percent(50)));
        assert_eq!("512MiB".parse(), Ok(MemoryShare::Bytes(512 << 20)));
        assert_eq!("4 GiB".parse(), Ok(MemoryShare::Bytes(4 << 30)));
        for bad in ["", "50", "96%", "-1%", "GiB", "4GB", "99999999999999GiB"] {
            assert!(bad.parse::<MemoryShare>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pressure_shrinks_it() {
        let half = MemoryShare::Percent(50);
        let calm = room(machine(10 * GIB, 1 << 22), RUNSC, 300, half);
        let pressed = room(machine(GIB, 1 << 22), RUNSC, 300, half);
        assert!(pressed < 300 && pressed < calm, "{pressed} {calm}");
    }

    #[test]
    fn small_wishes_come_true_first() {
        let wish = |least, wanted| Wish { least, wanted };
        let all = [wish(2, 100), wish(2, 3), wish(0, 100)];
        assert_eq!(divide(1000, &all), [100, 3, 100]);
        assert_eq!(divide(20, &all), [10, 3, 7]);
        assert_eq!(divide(3, &all), [2, 1, 0]);
        assert_eq!(divide(0, &all), [0, 0, 0]);
    }

    #[test]
    fn a_bound_that_trembles_stands_still() {
        let mut steady = Steady::default();
        let followed: Vec<u32> = [100, 98, 103, 99, 101, 120, 119]
            .map(|measured| steady.follow(measured))
            .to_vec();
        assert_eq!(followed, [100, 98, 98, 98, 98, 120, 119]);
    }

    fn wishes() -> impl Strategy<Value = Vec<Wish>> {
        let wish = (0_u32..50, 0_u32..500).prop_map(|(least, more)| Wish {
            least,
            wanted: least + more,
        });
        prop::collection::vec(wish, 0..8)
    }

    proptest! {
        #[test]
        fn never_more_than_the_room_nor_than_wished(room in 0_u32..2000, wishes in wishes()) {
            let given = divide(room, &wishes);
            prop_assert!(given.iter().sum::<u32>() <= room);
            prop_assert!(given.iter().zip(&wishes).all(|(given, wish)| *given <= wish.wanted));
            let least: u32 = wishes.iter().map(|wish| wish.least).sum();
            if least <= room {
                prop_assert!(given.iter().zip(&wishes).all(|(given, wish)| *given >= wish.least));
            }
            // Nothing is left lying while somebody wishes.
            let wanted: u32 = wishes.iter().map(|wish| wish.wanted).sum();
            prop_assert_eq!(given.iter().sum::<u32>(), room.min(wanted));
        }

        #[test]
        fn more_room_takes_nothing_from_anybody(room in 0_u32..2000, wishes in wishes()) {
            let (before, after) = (divide(room, &wishes), divide(room + 1, &wishes));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
        }

        /// How many are warm already changes nothing, so a pool does not chase its own shadow.
        #[test]
        fn the_bound_does_not_depend_on_how_many_there_are(
            free in GIB..(64 * GIB), percent in 1_u8..100, warm in 0_u32..200,
        ) {
            let share = MemoryShare::Percent(percent);
            let none = room(machine(free, 1 << 22), RUNSC, 0, share);
            let there = machine(
                free.saturating_sub(u64::from(warm) * RUNSC.memory),
                (1 << 22) - u64::from(warm) * RUNSC.tasks,
            );
            prop_assume!(there.available > 0);
            prop_assert_eq!(none, room(there, RUNSC, warm, share));
            prop_assert!(u64::from(none) * RUNSC.memory <= free / 100 * u64::from(percent));
        }
    }
}
