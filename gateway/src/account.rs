//! What happened, counted: on drop, so that a request that ends in any way is counted once.
//!
//! Must never happen here: anything that a request waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::refusal::Kind;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections turned away because of a cap.
    pub connections_refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Requests answered, refusals included.
    pub requests: AtomicU64,
    /// Requests that the gateway itself refused.
    pub refusals: AtomicU64,
    /// Body bytes from visitors.
    pub bytes_in: AtomicU64,
    /// Body bytes to visitors.
    pub bytes_out: AtomicU64,
    /// Connections open now.
    pub open: AtomicUsize,
    /// Requests being answered now, without websockets and event streams.
    pub in_flight: AtomicUsize,
    /// Told whenever a request or connection ends.
    pub(crate) ended: Notify,
}

/// One connection; counted as open until dropped.
pub(crate) struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    /// Counts it.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Relaxed);
        metrics.open.fetch_add(1, Relaxed);
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// One request, from its head to the end of its response.
pub(crate) struct Account {
    metrics: Arc<Metrics>,
    started: Instant,
    in_flight: bool,
    /// What was answered; 0: nothing, the visitor left.
    pub status: u16,
    /// The gateway's own answer, if it was one.
    pub refused: Option<Kind>,
    /// Body bytes from the visitor.
    pub bytes_in: u64,
    /// Body bytes to the visitor.
    pub bytes_out: u64,
    /// Its id.
    pub request_id: String,
    /// Where it went: `api`, a slug, or nothing yet.
    pub target: String,
}

impl Account {
    /// Opens the account of a request that begins now.
    pub fn open(metrics: &Arc<Metrics>) -> Self {
        metrics.in_flight.fetch_add(1, Relaxed);
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            in_flight: true,
            status: 0,
            refused: None,
            bytes_in: 0,
            bytes_out: 0,
            request_id: String::new(),
            target: String::new(),
        }
    }

    /// When the request began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// It is a websocket or an event stream: no drain waits for it.
    pub fn attached(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.metrics.in_flight.fetch_sub(1, Relaxed);
            self.metrics.ended.notify_waiters();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.attached();
        let metrics = &self.metrics;
        metrics.requests.fetch_add(1, Relaxed);
        metrics.bytes_in.fetch_add(self.bytes_in, Relaxed);
        metrics.bytes_out.fetch_add(self.bytes_out, Relaxed);
        if self.refused.is_some() {
            metrics.refusals.fetch_add(1, Relaxed);
        }
        tracing::debug!(
            id = %self.request_id,
            target = %self.target,
            status = self.status,
            refused = self.refused.map(Kind::name),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            took_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}
