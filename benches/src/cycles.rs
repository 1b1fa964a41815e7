//! Thousands of sleeps and wakes of what people run, each compared exactly with what it was.
//!
//! A subject is put to sleep by its owner and woken in turn by its owner, by a command and by a
//! visitor. One that fails is counted by cause, its evidence is kept, and a new one takes its
//! place.

mod bound;
mod evidence;
mod workload;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use fleeks_tests::{Runtime, World};
use serde::Serialize;
use serde_json::{Value, json};

use self::workload::{Kind, Subject};
use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::{Percentiles, Samples};

/// Cycles that one subject goes through before a new one takes its place.
const SPAN: usize = 50;
/// Between two words on standard error.
const PROGRESS: usize = 100;
/// How the engine's log is kept for evidence.
const LOG: &str = "info,pool_backend=debug";

/// Why a cycle failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Cause {
    /// It was well, and then it was not, before it was put to sleep.
    NotWellBefore,
    NotHibernated,
    NotWoken,
    /// Started from its volume: memory lost.
    WokenFromVolume,
    /// Awake, but silent or not what it was.
    NotWhatItWas,
}

/// What came of all cycles on one runtime.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub runtime: &'static str,
    pub cycles: u32,
    pub failed: u32,
    /// The highest rate of failures that is plausible after this run, see [`bound`].
    pub highest_rate: f64,
    by_workload: BTreeMap<&'static str, Tally>,
    hibernate: Percentiles,
    wake: Percentiles,
}

#[derive(Debug, Default, Serialize)]
struct Tally {
    cycles: u32,
    failed: BTreeMap<Cause, u32>,
}

/// What workers add to.
#[derive(Default)]
struct Sum {
    tallies: BTreeMap<&'static str, Tally>,
    hibernate: Samples,
    wake: Samples,
    failures: usize,
}

/// All cycles, on one runtime.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let world = World::builder(runtime).pool("python", 1).log(LOG).open()?;
    evidence::clear(runtime)?;
    let plan = Plan {
        kinds: workload::kinds(runtime),
        cycles: options.cycles,
        end: Instant::now() + Duration::from_secs(options.minutes * 60),
        next: AtomicUsize::new(0),
    };
    let sum = Mutex::new(Sum::default());
    let ended: Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers.clamp(1, plan.kinds.len()))
            .map(|_| scope.spawn(|| work(&world, &plan, &sum)))
            .collect();
        let died = |_| Err(anyhow!("a worker died"));
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(died));
        // All are waited for before the first error counts.
        ends.collect::<Vec<_>>().into_iter().collect()
    });
    let sum = sum.into_inner().map_err(|_| anyhow!("a worker died"))?;
    report.cycles(sum.outcome(runtime));
    ended?;
    world.stop()
}

/// What workers share out among themselves.
struct Plan {
    kinds: [Kind; 6],
    cycles: usize,
    end: Instant,
    /// The first cycle that nobody has taken.
    next: AtomicUsize,
}

/// Takes spans of cycles until none are left, or the time is over.
fn work(world: &World, plan: &Plan, sum: &Mutex<Sum>) -> Result<()> {
    let (cycles, kinds) = (plan.cycles, &plan.kinds);
    let span = SPAN.min(cycles.div_ceil(kinds.len()));
    loop {
        let begin = plan.next.fetch_add(span, Ordering::Relaxed);
        if begin >= cycles {
            return Ok(());
        }
        let kind = kinds[begin / span % kinds.len()];
        let start = || Subject::start(world, kind).with_context(|| kind.name);
        let mut subject = start()?;
        for number in begin..(begin + span).min(cycles) {
            if Instant::now() >= plan.end {
                return Ok(());
            }
            if !one(world, &mut subject, number, sum)? {
                subject = start()?;
            }
        }
    }
}

/// One cycle, counted; false when the subject is lost.
fn one(world: &World, subject: &mut Subject, number: usize, sum: &Mutex<Sum>) -> Result<bool> {
    let locked = || sum.lock().map_err(|_| anyhow!("a worker died"));
    let outcome = cycle(world, subject, number, sum);
    if number % PROGRESS == PROGRESS - 1 {
        let failed = locked()?.failures;
        progress(
            world.runtime(),
            &format!("{} cycles, {failed} failed", number + 1),
        );
    }
    let mut sum = locked()?;
    let tally = sum.tallies.entry(subject.kind.name).or_default();
    tally.cycles += 1;
    let Err((cause, error)) = outcome else {
        return Ok(true);
    };
    *tally.failed.entry(cause).or_default() += 1;
    sum.failures += 1;
    let failures = sum.failures;
    drop(sum);
    let text = format!(
        "cycle {number}, {}: {cause:?}: {error:#}",
        subject.kind.name
    );
    progress(world.runtime(), &text);
    evidence::keep(world, subject, number, failures, &text)?;
    Ok(false)
}

type Failed = (Cause, anyhow::Error);

fn cycle(
    world: &World,
    subject: &mut Subject,
    number: usize,
    sum: &Mutex<Sum>,
) -> Result<(), Failed> {
    let because = |cause| move |error| (cause, error);
    subject.step(world).map_err(because(Cause::NotWellBefore))?;
    let mut times = (Samples::default(), Samples::default());
    let slept = times.0.time(|| order(subject, "hibernate"));
    slept.map_err(because(Cause::NotHibernated))?;
    let woken = times.1.time(|| match number % 3 {
        0 => order(subject, "wake"),
        1 => subject.workspace.sh("true").map(drop),
        _ => subject.step(world),
    });
    let from = lifecycle(subject).map_err(because(Cause::NotWoken))?;
    if from["woken"] == "volume" {
        return Err((Cause::WokenFromVolume, anyhow!("{from}")));
    }
    woken.map_err(because(match number % 3 {
        2 => Cause::NotWhatItWas,
        _ => Cause::NotWoken,
    }))?;
    let lives = subject.step(world).and_then(|()| subject.lives(world));
    lives.map_err(because(Cause::NotWhatItWas))?;
    if let Ok(mut sum) = sum.lock() {
        sum.hibernate.append(times.0);
        sum.wake.append(times.1);
    }
    Ok(())
}

fn order(subject: &Subject, verb: &str) -> Result<()> {
    let container = &subject.workspace.container;
    let path = format!("/api/v1/sdk/containers/{container}/{verb}");
    let answer = subject.workspace.api().post(&path, &json!({}))?;
    answer.ok().with_context(|| verb.to_owned())?;
    Ok(())
}

fn lifecycle(subject: &Subject) -> Result<Value> {
    let container = &subject.workspace.container;
    let path = format!("/api/v1/sdk/containers/{container}/lifecycle");
    let told = subject.workspace.api().get(&path)?.ok()?;
    ensure!(told["generation"].is_number(), "{told}");
    Ok(told)
}

impl Sum {
    fn outcome(self, runtime: Runtime) -> Outcome {
        let cycles = self.tallies.values().map(|tally| tally.cycles).sum();
        let failed = self
            .tallies
            .values()
            .flat_map(|tally| tally.failed.values());
        let failed = failed.sum();
        Outcome {
            runtime: runtime.name(),
            cycles,
            failed,
            highest_rate: bound::highest_rate(failed, cycles),
            by_workload: self.tallies,
            hibernate: self.hibernate.into(),
            wake: self.wake.into(),
        }
    }
}

impl Outcome {
    /// For the end of the tables.
    pub fn text(&self) -> String {
        let Self {
            runtime,
            cycles,
            failed,
            highest_rate,
            ..
        } = self;
        let rate = highest_rate * 100.0;
        let confidence = bound::CONFIDENCE * 100.0;
        let mut text = format!(
            "{runtime}: {failed} of {cycles} cycles failed; rate below {rate:.2} % \
             ({confidence:.0} % confidence)\n"
        );
        for (name, tally) in &self.by_workload {
            text += &format!("  {name}: {} cycles", tally.cycles);
            for (cause, count) in &tally.failed {
                text += &format!(", {cause:?} {count}");
            }
            text.push('\n');
        }
        let times = |what: &str, of: &Percentiles| {
            let Percentiles { p50, p95, p99, .. } = of;
            format!("  {what} P50 {p50:.0}, P95 {p95:.0}, P99 {p99:.0} ms\n")
        };
        text + &times("hibernate", &self.hibernate) + &times("wake and first answer", &self.wake)
    }
}
