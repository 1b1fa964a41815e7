//! For how many warm containers there is room, looked at every other second: what one costs is
//! measured, the room divided among the pools, and what is too many taken away.
//!
//! Must never happen here: a claimed container touched, all surplus taken away at once.

use std::sync::Arc;
use std::time::Instant;

use fleet::timing;
use futures_util::{StreamExt as _, stream};
use tokio::time::{MissedTickBehavior, interval};

use super::{Shelf, machine};
use crate::engine::Engine;
use crate::pool::room::{self, Cost, Steady};
use crate::runtime::{RuntimeKind, Usage};

/// Warm containers whose cost is measured at a look.
const SAMPLE: usize = 8;
/// Surplus ones that are taken away together, and at a look.
const AT_ONCE: usize = 2;
const AT_A_LOOK: usize = 16;

/// What a container takes of the machine that no control group counts: its network namespace and
/// link, its mounts, its directories.
const UNCOUNTED: u64 = 512 << 10;

/// The room that there is, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// Warm containers, all templates together.
    pub(crate) containers: u32,
    /// What one is taken to cost.
    pub(crate) memory_each: u64,
}

/// What one costs before any was measured.
fn guess(runtime: RuntimeKind) -> Cost {
    match runtime {
        RuntimeKind::Runc => Cost {
            memory: 2 << 20,
            tasks: 1,
        },
        RuntimeKind::Runsc => Cost {
            memory: 20 << 20,
            tasks: 40,
        },
    }
}

/// See the module.
pub(crate) struct Sizer {
    cost: Cost,
    steady: Steady,
}

impl Sizer {
    /// Has looked once: no pool is filled beyond the room that there is.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut sizer = Self {
            cost: guess(engine.launcher.runtime.kind()),
            steady: Steady::default(),
        };
        sizer.look(engine);
        sizer
    }

    /// Runs until the engine rests.
    pub(crate) async fn run(mut self, engine: Arc<Engine>) {
        let mut tick = interval(timing::POOL_LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured = Instant::now();
        loop {
            tokio::select! {
                () = engine.resting.cancelled() => return,
                _ = tick.tick() => {}
            }
            if measured.elapsed() >= timing::POOL_MEASURE {
                measured = Instant::now();
                self.cost = measure(&engine).await.unwrap_or(self.cost);
            }
            self.look(&engine);
            give_back(&engine).await;
        }
    }

    fn look(&mut self, engine: &Engine) {
        let machine = match machine::look() {
            Ok(machine) => machine,
            Err(error) => {
                tracing::warn!(%error, "the machine does not say what it has left");
                return; // As it was.
            }
        };
        let warm = engine.shelves.values().map(|shelf| shelf.warm()).sum();
        let room = room::room(machine, self.cost, warm, engine.pool_memory);
        let room = self.steady.follow(room);
        *engine.room.lock() = Room {
            containers: room,
            memory_each: self.cost.memory,
        };
        share_out(room, engine);
    }
}

/// Each pool gets what it wishes for, and its part of what is left over, for the time until the
/// next look.
fn share_out(room: u32, engine: &Engine) {
    let shelves: Vec<&Arc<Shelf>> = engine.shelves.values().collect();
    let wishes: Vec<_> = shelves.iter().map(|shelf| shelf.wish()).collect();
    let given = room::divide(room, &wishes);
    let left = room.saturating_sub(given.iter().sum());
    let extra = left / u32::try_from(shelves.len()).unwrap_or(u32::MAX).max(1);
    for (shelf, given) in shelves.iter().zip(given) {
        shelf.allow(given + extra);
    }
}

/// The mean of a few, and what no control group counts; none without any.
async fn measure(engine: &Engine) -> Option<Cost> {
    let id_of = |record: &_| engine.launcher.id_of(record);
    let shelves = engine.shelves.values();
    let ids: Vec<_> = shelves
        .flat_map(|shelf| shelf.sample(SAMPLE, id_of))
        .collect();
    let mut usages: Vec<Usage> = Vec::new();
    for id in ids {
        // Claimed or gone meanwhile: not counted.
        if let Ok(usage) = engine.launcher.usage(&id).await
            && usage.memory_bytes > 0
        {
            usages.push(usage);
        }
    }
    let count = u64::try_from(usages.len())
        .ok()
        .filter(|count| *count > 0)?;
    let mean = |of: fn(&Usage) -> u64| usages.iter().map(of).sum::<u64>() / count;
    Some(Cost {
        memory: mean(|usage| usage.memory_bytes) + UNCOUNTED,
        tasks: mean(|usage| usage.pids).max(1),
    })
}

/// A few at a time, so that a pool that shrinks starves nobody.
async fn give_back(engine: &Arc<Engine>) {
    let surplus = engine
        .shelves
        .values()
        .flat_map(|shelf| std::iter::from_fn(|| shelf.surplus()))
        .take(AT_A_LOOK);
    stream::iter(surplus)
        .for_each_concurrent(AT_ONCE, |warm| engine.scrap(warm.record))
        .await;
}
