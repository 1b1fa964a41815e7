//! What the engine counts for operators, under names that begin with the registry's prefix.
//!
//! Must never happen here: a label whose values nobody can list beforehand, or anything that a
//! workspace waits for.

mod pools;

use std::fmt;
use std::sync::Weak;
use std::time::Instant;

use fleet::directory::WakeCause;
use fleet::lifecycle::State;
use fleet::record::Woken;
use fleet::timing;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::snapshot::Tally;
pub(crate) use pools::PoolMetrics;

/// Upper ends of a step's buckets, in seconds: from a thaw to the wake's deadline.
const STEP_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Timed = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// What a workspace's driver does with its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Freeze,
    Thaw,
    Hibernate,
    /// From the order to a gate that is open: restored, or started from its volume.
    Wake,
    /// One attempt to bring a snapshot to life.
    Restore,
    /// Of a workspace that was stopped.
    Start,
}

/// How a wake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its processes came back from a snapshot, or the snapshot was of no use.
    Woken(Woken),
    /// They had only stood still.
    Thawed,
    /// It was stopped: there was nothing to bring back.
    Started,
    Failed,
}

/// See the module. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Of pools.
    pub(crate) pools: PoolMetrics,
    wakes: Family<Labels<2>, Counter>,
    steps: Timed,
    failures: Family<Labels<2>, Counter>,
    restores: Gauge,
    restores_peak: Gauge,
    restores_limit: Gauge,
}

impl Metrics {
    /// All at zero. At most `restores_limit` restores are meant to go on at once.
    pub(crate) fn new(restores_limit: usize) -> Self {
        let metrics = Self {
            pools: PoolMetrics::new(),
            wakes: Family::default(),
            steps: Family::new_with_constructor(|| Histogram::new(STEP_BUCKETS)),
            failures: Family::default(),
            restores: Gauge::default(),
            restores_peak: Gauge::default(),
            restores_limit: Gauge::default(),
        };
        let limit = i64::try_from(restores_limit).unwrap_or(i64::MAX);
        metrics.restores_limit.set(limit);
        metrics
    }

    /// Into `registry`, with what is read from `engine` whenever it is asked.
    pub(crate) fn register(&self, registry: &mut Registry, engine: Weak<Engine>) {
        self.pools.register(registry, Weak::clone(&engine));
        registry.register(
            "wakes",
            "Workspaces that somebody needed while they did not run",
            self.wakes.clone(),
        );
        registry.register_with_unit(
            "step_duration",
            "Steps of workspaces' lives that succeeded",
            Unit::Seconds,
            self.steps.clone(),
        );
        registry.register(
            "step_failures",
            "Steps of workspaces' lives that did not; in_use: somebody came",
            self.failures.clone(),
        );
        registry.register(
            "restores",
            "Snapshots being restored now",
            self.restores.clone(),
        );
        registry.register(
            "restores_peak",
            "The most of them at once since the start",
            self.restores_peak.clone(),
        );
        registry.register(
            "restores_limit",
            "The most of them at once that there may be",
            self.restores_limit.clone(),
        );
        registry.register_collector(Box::new(Census {
            engine,
            tally: Mutex::default(),
        }));
    }

    /// A wake ended. Nobody of ours asked: then a visitor did, through a gateway.
    pub(crate) fn woke(&self, cause: Option<WakeCause>, outcome: Outcome) {
        let labels = [("cause", cause_name(cause)), ("outcome", outcome.name())];
        self.wakes.get_or_create(&labels).inc();
    }

    /// A step that began then is over.
    pub(crate) fn step(&self, step: Step, began: Instant, result: Result<(), &Error>) {
        match result {
            Ok(()) => {
                let labels = [("step", step.name())];
                let took = began.elapsed().as_secs_f64();
                self.steps.get_or_create(&labels).observe(took);
            }
            Err(error) => {
                let labels = [("step", step.name()), ("reason", reason(error.kind))];
                self.failures.get_or_create(&labels).inc();
            }
        }
    }

    /// A restore begins; it ends when this is dropped.
    pub(crate) fn restoring(&self) -> Restoring<'_> {
        let now = self.restores.inc() + 1;
        // Another may have set a higher one meanwhile.
        if self.restores_peak.get() < now {
            self.restores_peak
                .inner()
                .fetch_max(now, std::sync::atomic::Ordering::Relaxed);
        }
        Restoring(&self.restores)
    }
}

/// See [`Metrics::restoring`].
pub(crate) struct Restoring<'a>(&'a Gauge);

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Woken(Woken::Memory) => "memory",
            Self::Woken(Woken::Volume) => "volume",
            Self::Thawed => "thaw",
            Self::Started => "start",
            Self::Failed => "failed",
        }
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Hibernate => "hibernate",
            Self::Wake => "wake",
            Self::Restore => "restore",
            Self::Start => "start",
        }
    }
}

pub(crate) fn cause_name(cause: Option<WakeCause>) -> &'static str {
    match cause {
        None | Some(WakeCause::Preview) => "visit",
        Some(WakeCause::Api) => "api",
        Some(WakeCause::Write) => "file_write",
        Some(WakeCause::Create) => "create",
        Some(WakeCause::Lifecycle) => "explicit",
    }
}

fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Conflict => "in_use",
        ErrorKind::WrongFileType => "wrong_file_type",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::TooMany => "too_many",
        ErrorKind::TimedOut => "timed_out",
        ErrorKind::NoSpace => "no_space",
        ErrorKind::NotReady => "not_ready",
        ErrorKind::Internal => "internal",
    }
}

/// Counted when it is asked for.
struct Census {
    engine: Weak<Engine>,
    /// Of the snapshots; counting them costs a walk.
    tally: Mutex<Option<(Instant, Tally)>>,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

impl Census {
    fn tally(&self, engine: &Engine) -> Tally {
        let mut known = self.tally.lock();
        match *known {
            Some((at, tally)) if at.elapsed() < timing::SNAPSHOT_TALLY => tally,
            _ => {
                let tally = engine.launcher.snapshots.tally();
                *known = Some((Instant::now(), tally));
                tally
            }
        }
    }
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(engine) = self.engine.upgrade() else {
            return Ok(());
        };
        let mut by_state = STATES.map(|state| (state, 0_u64));
        for handle in engine.table.all() {
            let state = handle.state();
            if let Some((_, count)) = by_state.iter_mut().find(|(of, _)| *of == state) {
                *count += 1;
            }
        }
        let help = "Workspaces by what they do now";
        let mut family = encoder.encode_descriptor("workspaces", help, None, MetricType::Gauge)?;
        for (state, count) in by_state {
            let labels = [("state", state_name(state))];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let tally = self.tally(&engine);
        let mut gauge = |name, help, unit, value| {
            let gauge = ConstGauge::<u64>::new(value);
            let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            gauge.encode(encoder)
        };
        gauge("snapshots", "Complete snapshots on disk", None, tally.count)?;
        let (help, unit) = ("What all snapshots take on disk", Unit::Bytes);
        gauge("snapshots_size", help, Some(&unit), tally.bytes)
    }
}

/// Those in which a workspace of the table can be.
const STATES: [State; 9] = [
    State::Stopped,
    State::Starting,
    State::Running,
    State::Freezing,
    State::Frozen,
    State::Hibernating,
    State::Hibernated,
    State::Waking,
    State::Failed,
];

fn state_name(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Running => "running",
        State::Freezing => "freezing",
        State::Frozen => "frozen",
        State::Hibernating => "hibernating",
        State::Hibernated => "hibernated",
        State::Waking => "waking",
        State::Failed => "failed",
        State::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    fn told(metrics: &Metrics) -> String {
        let mut registry = Registry::with_prefix("fleeks");
        metrics.register(&mut registry, Weak::new());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn wakes_steps_and_failures_have_names() {
        let metrics = Metrics::new(8);
        metrics.woke(None, Outcome::Woken(Woken::Memory));
        metrics.woke(Some(WakeCause::Write), Outcome::Thawed);
        metrics.step(Step::Freeze, Instant::now(), Ok(()));
        let busy = Error::new(ErrorKind::Conflict, "somebody is inside");
        metrics.step(Step::Hibernate, Instant::now(), Err(&busy));
        let text = told(&metrics);
        for line in [
            "fleeks_wakes_total{cause=\"visit\",outcome=\"memory\"} 1\n",
            "fleeks_wakes_total{cause=\"file_write\",outcome=\"thaw\"} 1\n",
            "fleeks_step_duration_seconds_count{step=\"freeze\"} 1\n",
            "fleeks_step_failures_total{step=\"hibernate\",reason=\"in_use\"} 1\n",
            "fleeks_restores_limit 8\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_peak_of_restores_stays() {
        let metrics = Metrics::new(2);
        let both = (metrics.restoring(), metrics.restoring());
        drop(both);
        drop(metrics.restoring());
        let text = told(&metrics);
        assert!(text.contains("fleeks_restores 0\n"), "{text}");
        assert!(text.contains("fleeks_restores_peak 2\n"), "{text}");
    }
}
