//! What happened, counted: on drop, so that a request that ends in any way is counted once.
//!
//! Must never happen here: anything that a request waits for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::{Attached, Metrics, Target};
use crate::refusal::Kind;

/// One connection; counted as open until dropped.
pub(crate) struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    /// Counts it.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        metrics.open.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.dec();
        self.0.ended.notify_waiters();
    }
}

/// One request, from its head to the end of its response.
pub(crate) struct Account {
    metrics: Arc<Metrics>,
    started: Instant,
    attached: Option<Attached>,
    /// For whom it is.
    pub kind: Target,
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
        metrics.in_flight.inc();
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            attached: None,
            kind: Target::default(),
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
    pub fn attached(&mut self, to: Attached) {
        if self.attached.replace(to).is_none() {
            self.metrics.attached(to).inc();
            self.no_more_in_flight();
        }
    }

    fn no_more_in_flight(&self) {
        self.metrics.in_flight.dec();
        self.metrics.ended.notify_waiters();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        let began = match self.attached {
            Some(to) => {
                metrics.attached(to).dec();
                None
            }
            None => {
                self.no_more_in_flight();
                Some(self.started)
            }
        };
        metrics.request(self.kind, self.status, began);
        metrics.bytes_in.inc_by(self.bytes_in);
        metrics.bytes_out.inc_by(self.bytes_out);
        if let Some(kind) = self.refused {
            metrics.refused(kind);
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
