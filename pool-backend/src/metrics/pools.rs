//! What is counted of pools.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use fleet::id::TemplateName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::Engine;
use crate::workspaces::PoolStatus;

/// Upper ends of a claim's buckets, in seconds.
const CLAIM_BUCKETS: [f64; 11] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5,
];
/// Of a refill's.
const REFILL_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0];

/// Templates are the operator's: their names can be listed.
type OfTemplate = [(&'static str, String); 1];
type Timed = Family<OfTemplate, Histogram, fn() -> Histogram>;

/// See the module. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct PoolMetrics {
    claims: Family<[(&'static str, String); 2], Counter>,
    claim_times: Timed,
    refill_times: Timed,
    refills_failed: Family<OfTemplate, Counter>,
}

fn of(template: &TemplateName) -> OfTemplate {
    [("template", template.to_string())]
}

impl PoolMetrics {
    pub(super) fn new() -> Self {
        Self {
            claims: Family::default(),
            claim_times: Family::new_with_constructor(|| Histogram::new(CLAIM_BUCKETS)),
            refill_times: Family::new_with_constructor(|| Histogram::new(REFILL_BUCKETS)),
            refills_failed: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry, engine: Weak<Engine>) {
        registry.register(
            "pool_claims",
            "Workspaces made; hit: out of a warm container",
            self.claims.clone(),
        );
        registry.register_with_unit(
            "pool_claim_duration",
            "Making a workspace out of a warm container",
            Unit::Seconds,
            self.claim_times.clone(),
        );
        registry.register_with_unit(
            "pool_refill_duration",
            "Making a warm container, its turn among other starts included",
            Unit::Seconds,
            self.refill_times.clone(),
        );
        registry.register(
            "pool_refill_failures",
            "Warm containers that could not be made",
            self.refills_failed.clone(),
        );
        registry.register_collector(Box::new(Shelves(engine)));
    }

    /// Somebody came for a container, and got a warm one or not.
    pub(crate) fn came(&self, template: &TemplateName, hit: bool) {
        let outcome = if hit { "hit" } else { "miss" };
        let labels = [
            ("template", template.to_string()),
            ("outcome", outcome.to_owned()),
        ];
        self.claims.get_or_create(&labels).inc();
    }

    /// A claim that was a hit took this long.
    pub(crate) fn claimed(&self, template: &TemplateName, took: Duration) {
        let times = self.claim_times.get_or_create(&of(template));
        times.observe(took.as_secs_f64());
    }

    /// A refill took this long; none: it failed.
    pub(crate) fn refilled(&self, template: &TemplateName, took: Option<Duration>) {
        match took {
            Some(took) => {
                let times = self.refill_times.get_or_create(&of(template));
                times.observe(took.as_secs_f64());
            }
            None => {
                self.refills_failed.get_or_create(&of(template)).inc();
            }
        }
    }
}

/// Read when it is asked for.
struct Shelves(Weak<Engine>);

impl fmt::Debug for Shelves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelves").finish_non_exhaustive()
    }
}

/// One gauge: its name, what it says, and its value.
type Reading = (&'static str, &'static str, fn(&PoolStatus) -> u64);

const READINGS: [Reading; 5] = [
    (
        "pool_target",
        "Warm containers that there should be",
        |pool| pool.target.into(),
    ),
    (
        "pool_ready",
        "Warm containers that wait for a claim",
        |pool| pool.ready.into(),
    ),
    ("pool_refilling", "Warm containers on their way", |pool| {
        pool.refilling.into()
    }),
    (
        "pool_breaker_open",
        "1: refills failed and pause; the API says why",
        |pool| pool.broken.is_some().into(),
    ),
    (
        "pool_short_of_room",
        "1: it would be larger if the machine had the memory",
        |pool| pool.short_of_room.into(),
    ),
];

impl Collector for Shelves {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(engine) = self.0.upgrade() else {
            return Ok(());
        };
        let pools: Vec<PoolStatus> = engine
            .shelves
            .values()
            .map(|shelf| shelf.status())
            .collect();
        for (name, help, value) in READINGS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pool in &pools {
                let labels = of(&pool.template);
                ConstGauge::new(value(pool)).encode(family.encode_family(&labels)?)?;
            }
        }
        let room = *engine.room.lock();
        let mut gauge = |name, help, unit, value| {
            let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::<u64>::new(value).encode(encoder)
        };
        let help = "Warm containers of all templates that there is room for";
        gauge("pool_room", help, None, room.containers.into())?;
        let (help, unit) = ("What a warm container is taken to cost", Unit::Bytes);
        gauge("pool_container_memory", help, Some(&unit), room.memory_each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn claims_and_refills_have_names() {
        let metrics = PoolMetrics::new();
        let python = "python".parse().unwrap();
        metrics.came(&python, true);
        metrics.came(&python, false);
        metrics.claimed(&python, Duration::from_millis(3));
        metrics.refilled(&python, Some(Duration::from_millis(60)));
        metrics.refilled(&python, None);
        let mut registry = Registry::with_prefix("fleeks");
        metrics.register(&mut registry, Weak::new());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "fleeks_pool_claims_total{template=\"python\",outcome=\"hit\"} 1\n",
            "fleeks_pool_claims_total{template=\"python\",outcome=\"miss\"} 1\n",
            "fleeks_pool_claim_duration_seconds_count{template=\"python\"} 1\n",
            "fleeks_pool_refill_duration_seconds_count{template=\"python\"} 1\n",
            "fleeks_pool_refill_failures_total{template=\"python\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
