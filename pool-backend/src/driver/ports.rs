//! What listens inside a container, as last heard from its init, and which of it is the main port.
//!
//! Answers are served stale for a while and refreshed behind the visitor's back, so that a visit
//! costs no question; one refresh at a time, however many visitors.
//!
//! Must never happen here: the control port in an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use fleet::timing;
use init_protocol::{CONTROL_PORT, ListeningPort};

use crate::init_client::{InitClient, InitError};

/// Where dev servers usually listen, the likeliest first.
const WELL_KNOWN: &[u16] = &[
    3000, 5173, 8000, 8080, 5000, 4200, 4321, 8888, 80, 1313, 3001, 8081, 8501, 7860, 9000,
];

/// See the module.
pub(crate) struct Ports(Arc<Shared>);

struct Shared {
    init: InitClient,
    /// The template's own, before the well-known ones.
    preferred: Vec<u16>,
    known: ArcSwapOption<Known>,
    /// Held while init is asked.
    asking: tokio::sync::Mutex<()>,
}

/// What was heard, and when.
#[derive(Debug)]
pub(crate) struct Known {
    /// Ascending, each port once.
    pub(crate) ports: Vec<ListeningPort>,
    /// The first preferred or well-known port that listens, else the lowest.
    pub(crate) main: Option<u16>,
    heard: Instant,
}

impl Known {
    fn new(mut ports: Vec<ListeningPort>, preferred: &[u16]) -> Self {
        ports.retain(|listening| listening.port != 0 && listening.port != CONTROL_PORT);
        // Bound to both a loopback and another address: the other one counts.
        ports.sort_by_key(|listening| (listening.port, listening.loopback_only));
        ports.dedup_by_key(|listening| listening.port);
        let mut known = Self {
            ports,
            main: None,
            heard: Instant::now(),
        };
        let best = preferred.iter().chain(WELL_KNOWN).copied();
        let listening = best.into_iter().find(|port| known.has(*port));
        known.main = listening.or_else(|| known.ports.first().map(|lowest| lowest.port));
        known
    }

    pub(crate) fn has(&self, port: u16) -> bool {
        self.find(port).is_some()
    }

    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.ports.iter().map(|listening| listening.port).collect()
    }

    fn find(&self, port: u16) -> Option<&ListeningPort> {
        let at = self
            .ports
            .binary_search_by_key(&port, |listening| listening.port);
        at.ok().and_then(|at| self.ports.get(at))
    }

    fn age(&self) -> Duration {
        self.heard.elapsed()
    }
}

impl Ports {
    pub(crate) fn new(init: InitClient, preferred: Vec<u16>) -> Self {
        Self(Arc::new(Shared {
            init,
            preferred,
            known: ArcSwapOption::empty(),
            asking: tokio::sync::Mutex::new(()),
        }))
    }

    /// What is known, if it is young enough to be served; older than fresh begins a refresh
    /// that nobody waits for.
    pub(crate) fn cached(&self) -> Option<Arc<Known>> {
        let known = self.0.known.load_full()?;
        if known.age() > timing::PORTS_STALE {
            return None;
        }
        if known.age() > timing::PORTS_FRESH && self.0.asking.try_lock().is_ok() {
            let shared = Arc::clone(&self.0);
            tokio::spawn(async move { shared.refresh(Instant::now()).await });
        }
        Some(known)
    }

    /// What was heard last, however long ago.
    pub(crate) fn last_known(&self) -> Vec<ListeningPort> {
        let known = self.0.known.load();
        known
            .as_ref()
            .map(|known| known.ports.clone())
            .unwrap_or_default()
    }

    /// Asks init, or joins whoever is asking.
    ///
    /// # Errors
    /// As init's client.
    pub(crate) async fn refresh(&self) -> Result<Arc<Known>, InitError> {
        self.0.refresh(Instant::now()).await
    }

    pub(crate) fn is_loopback_only(&self, port: u16) -> bool {
        let known = self.0.known.load();
        known
            .as_ref()
            .and_then(|known| known.find(port))
            .is_some_and(|listening| listening.loopback_only)
    }
}

impl Shared {
    async fn refresh(&self, asked: Instant) -> Result<Arc<Known>, InitError> {
        let _asking = self.asking.lock().await;
        if let Some(known) = self.known.load_full()
            && known.heard >= asked
        {
            return Ok(known);
        }
        let known = Arc::new(Known::new(self.init.ports().await?, &self.preferred));
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(ports: &[(u16, bool)]) -> Known {
        let listening = ports.iter().map(|(port, loopback_only)| ListeningPort {
            port: *port,
            loopback_only: *loopback_only,
        });
        Known::new(listening.collect(), &[7000])
    }

    #[test]
    fn the_main_port() {
        assert_eq!(known(&[]).main, None);
        assert_eq!(known(&[(9999, false), (7001, false)]).main, Some(7001));
        assert_eq!(
            known(&[(22, false), (8000, false), (3000, true)]).main,
            Some(3000)
        );
        assert_eq!(known(&[(3000, false), (7000, true)]).main, Some(7000));
        assert_eq!(known(&[(CONTROL_PORT, false)]).main, None);
    }

    #[test]
    fn one_entry_for_each_port() {
        let both = known(&[(80, true), (80, false), (0, false)]);
        assert_eq!(both.numbers(), [80]);
        assert!(!both.find(80).unwrap().loopback_only);
    }
}
