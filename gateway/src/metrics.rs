//! What the edge counts for operators, under names that begin with the registry's prefix.
//!
//! What every request touches is looked up once, at the start: counting is one addition then.
//!
//! Must never happen here: a label whose values a visitor can make up.

use std::array;

use fleet::door::Visit;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::refusal::Kind;

/// Upper ends of the latency's buckets, in seconds.
const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Timed<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// For whom a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Target {
    /// Nobody: it was refused before that was known, or nobody has that address.
    #[default]
    Nowhere,
    /// The API.
    Api,
    /// An app in a workspace.
    Preview,
}

/// What stays open for as long as both ends like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    /// A websocket.
    Websocket,
    /// Server-sent events.
    Events,
}

/// Counters since the start, and how much of everything there is now.
#[derive(Debug)]
pub struct Metrics {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections turned away because of a cap.
    pub connections_refused: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Body bytes from visitors.
    pub bytes_in: Counter,
    /// Body bytes to visitors.
    pub bytes_out: Counter,
    /// Connections open now.
    pub open: Gauge,
    /// Requests being answered now, without websockets and event streams.
    pub in_flight: Gauge,
    /// Requests that wait for wakes now.
    pub waiting: Gauge,
    attached: [Gauge; 2],
    requests: [[Counter; STATUSES.len()]; TARGETS.len()],
    latency: [Histogram; TARGETS.len()],
    families: Families,
    /// Told whenever a request or connection ends.
    pub(crate) ended: Notify,
}

#[derive(Debug)]
struct Families {
    attached: Family<Labels<1>, Gauge>,
    requests: Family<Labels<2>, Counter>,
    latency: Timed<1>,
    refusals: Family<Labels<1>, Counter>,
    waits: Timed<2>,
}

const TARGETS: [(Target, &str); 3] = [
    (Target::Nowhere, "none"),
    (Target::Api, "api"),
    (Target::Preview, "preview"),
];
/// By the hundreds; 0 is what got no answer because the visitor left.
const STATUSES: [&str; 6] = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];
const ATTACHED: [(Attached, &str); 2] = [
    (Attached::Websocket, "websocket"),
    (Attached::Events, "events"),
];

impl Default for Metrics {
    fn default() -> Self {
        let families = Families {
            attached: Family::default(),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            refusals: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
        };
        let attached =
            ATTACHED.map(|(_, kind)| families.attached.get_or_create_owned(&[("kind", kind)]));
        let requests = TARGETS.map(|(_, target)| {
            STATUSES.map(|status| {
                let labels = [("target", target), ("status", status)];
                families.requests.get_or_create_owned(&labels)
            })
        });
        let latency: [Histogram; TARGETS.len()] = array::from_fn(|at| {
            let labels = [("target", TARGETS[at].1)];
            families.latency.get_or_create_owned(&labels)
        });
        Self {
            connections: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            open: Gauge::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            attached,
            requests,
            latency,
            families,
            ended: Notify::new(),
        }
    }
}

impl Metrics {
    /// Into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let Families {
            attached,
            requests,
            latency,
            refusals,
            waits,
        } = &self.families;
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("connections", "Connections accepted", &self.connections);
        counter(
            "connections_refused",
            "Connections turned away because of a cap",
            &self.connections_refused,
        );
        counter(
            "handshakes_failed",
            "TLS handshakes that failed or took too long",
            &self.handshakes_failed,
        );
        counter("received_bytes", "Body bytes from visitors", &self.bytes_in);
        counter("sent_bytes", "Body bytes to visitors", &self.bytes_out);
        registry.register(
            "connections_open",
            "Connections open now",
            self.open.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being answered now, without websockets and event streams",
            self.in_flight.clone(),
        );
        registry.register(
            "waiters",
            "Requests that wait now for workspaces to wake",
            self.waiting.clone(),
        );
        registry.register(
            "attached",
            "Websockets and event streams open now",
            attached.clone(),
        );
        registry.register(
            "requests",
            "Requests by whom they were for and the hundreds of their status",
            requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its response, without what stays attached",
            Unit::Seconds,
            latency.clone(),
        );
        registry.register(
            "refusals",
            "Requests that the gateway answered itself, by why",
            refusals.clone(),
        );
        registry.register_with_unit(
            "wake_wait",
            "How long requests waited for workspaces to wake, and how that ended",
            Unit::Seconds,
            waits.clone(),
        );
    }

    /// A request is over. `began`: unless it was attached.
    pub(crate) fn request(&self, target: Target, status: u16, began: Option<Instant>) {
        let at = TARGETS.iter().position(|(of, _)| *of == target);
        let (Some(at), hundreds) = (at, usize::from(status / 100)) else {
            return;
        };
        if let Some(counter) = self.requests[at].get(hundreds) {
            counter.inc();
        }
        if let Some(began) = began {
            self.latency[at].observe(began.elapsed().as_secs_f64());
        }
    }

    /// The gateway answered itself.
    pub(crate) fn refused(&self, kind: Kind) {
        let labels = [("kind", kind.name())];
        self.families.refusals.get_or_create(&labels).inc();
    }

    /// How many of these there are now.
    pub(crate) fn attached(&self, kind: Attached) -> &Gauge {
        let [websockets, events] = &self.attached;
        match kind {
            Attached::Websocket => websockets,
            Attached::Events => events,
        }
    }

    /// A visit waited for a wake since then; none: it was woken, else what the visitor was told.
    pub(crate) fn waited(&self, visit: Visit, began: Instant, told: Option<Kind>) {
        let visit = match visit {
            Visit::InFlight => "request",
            Visit::Attached => "attached",
        };
        let outcome = told.map_or("woken", Kind::name);
        let labels = [("visit", visit), ("outcome", outcome)];
        let waits = self.families.waits.get_or_create(&labels);
        waits.observe(began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn everything_has_a_name() {
        let metrics = Metrics::default();
        metrics.request(Target::Preview, 200, Some(Instant::now()));
        metrics.request(Target::Preview, 101, None);
        metrics.request(Target::Api, 0, None);
        metrics.request(Target::Nowhere, 999, None);
        metrics.refused(Kind::Asleep);
        metrics.attached(Attached::Websocket).inc();
        metrics.waited(Visit::Attached, Instant::now(), Some(Kind::Busy));
        let mut registry = Registry::with_prefix("fleeks_gateway");
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "fleeks_gateway_requests_total{target=\"preview\",status=\"2xx\"} 1\n",
            "fleeks_gateway_requests_total{target=\"preview\",status=\"1xx\"} 1\n",
            "fleeks_gateway_requests_total{target=\"api\",status=\"gone\"} 1\n",
            "fleeks_gateway_request_duration_seconds_count{target=\"preview\"} 1\n",
            "fleeks_gateway_refusals_total{kind=\"asleep\"} 1\n",
            "fleeks_gateway_attached{kind=\"websocket\"} 1\n",
            "fleeks_gateway_attached{kind=\"events\"} 0\n",
            "fleeks_gateway_wake_wait_seconds_count{visit=\"attached\",outcome=\"busy\"} 1\n",
            "fleeks_gateway_sent_bytes_total 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
