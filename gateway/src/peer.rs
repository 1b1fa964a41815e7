//! Upstreams as pingora knows them, with every timeout set: its own defaults are 'none'.
//!
//! Must never happen here: a peer without timeouts, or one that shares connections with another
//! generation.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dashmap::DashMap;
use fleet::door::{ConnectError, Upstream, Visit};
use fleet::timing::{BODY_SILENCE, CONNECT, EVENTS_SILENCE, RESPONSE_HEADERS, UPSTREAM_IDLE};
use pingora_core::connectors::l4;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions};
use pingora_core::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use crate::events::Thread;
use crate::refusal::Refusal;

/// An admitted visitor's app. Connections are kept under `pool_key` only: it differs for each
/// container, generation and port.
pub(crate) fn preview(
    upstream: &Upstream,
    detours: &Arc<Detours>,
    failure: &Arc<Failure>,
    visit: Visit,
    thread: Option<&Arc<Thread>>,
) -> HttpPeer {
    let address = detours.address(upstream);
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = match thread {
        None => upstream.pool_key,
        // Never one that was kept: it must be known when it is to be cut.
        Some(_) => rand::random(),
    };
    set_timeouts(&mut peer.options, visit);
    peer.options.custom_l4 = Some(Arc::new(Connector {
        upstream: upstream.clone(),
        detours: Arc::clone(detours),
        failure: Arc::clone(failure),
        thread: thread.cloned(),
    }));
    peer
}

/// Opens connections through the door's connector and keeps the reason when it cannot.
#[derive(Debug)]
struct Connector {
    upstream: Upstream,
    detours: Arc<Detours>,
    failure: Arc<Failure>,
    thread: Option<Arc<Thread>>,
}

#[async_trait]
impl l4::Connect for Connector {
    async fn connect(&self, _address: &PingoraAddr) -> Result<L4Stream> {
        let connect = self.upstream.connector.connect();
        let failure = match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(tcp)) => {
                self.detours.learn(&self.upstream, &tcp);
                if let Some(thread) = &self.thread {
                    thread.spin(&tcp);
                }
                return Ok(L4Stream::from(tcp));
            }
            Ok(Err(failure)) => failure,
            Err(_) => ConnectError::TimedOut,
        };
        let kind = match failure {
            ConnectError::TimedOut => ErrorType::ConnectTimedout,
            ConnectError::NotListening(_) => ErrorType::ConnectRefused,
            ConnectError::Gone => ErrorType::ConnectError,
        };
        self.failure.set(failure);
        Error::err_up(kind)
    }
}

/// Where connections really go when a connector takes another way than straight to the app (init
/// forwards to what listens on 127.0.0.1). Pingora reuses a connection only if its peer address is
/// the upstream's, so it must be told the real one.
#[derive(Debug, Default)]
pub(crate) struct Detours(DashMap<u64, SocketAddr>);

impl Detours {
    /// More than this are forgotten together; each costs one connection that is not reused.
    const CAPACITY: usize = 65_536;

    fn address(&self, upstream: &Upstream) -> SocketAddr {
        let detour = self.0.get(&upstream.pool_key).map(|detour| *detour);
        detour.unwrap_or(upstream.address)
    }

    fn learn(&self, upstream: &Upstream, tcp: &TcpStream) {
        match tcp.peer_addr() {
            Ok(real) if real != upstream.address => {
                if self.0.len() >= Self::CAPACITY {
                    self.0.clear();
                }
                self.0.insert(upstream.pool_key, real);
            }
            _ => {
                self.0.remove(&upstream.pool_key);
            }
        }
    }
}

/// The node's HTTP listener.
pub(crate) fn api(socket: &Path, visit: Visit) -> std::result::Result<HttpPeer, Refusal> {
    let path = socket.to_str().unwrap_or_default();
    let mut peer = HttpPeer::new_uds(path, false, String::new()).map_err(|error| {
        tracing::error!(%error, "the API's socket path is unusable");
        Refusal::unavailable()
    })?;
    set_timeouts(&mut peer.options, visit);
    Ok(peer)
}

fn set_timeouts(options: &mut PeerOptions, visit: Visit) {
    options.connection_timeout = Some(CONNECT);
    // Above the connector's own bound, which knows why.
    options.total_connection_timeout = Some(CONNECT * 2);
    options.write_timeout = Some(BODY_SILENCE);
    options.idle_timeout = Some(UPSTREAM_IDLE);
    // Pingora starts this anew with every event in either direction.
    options.read_timeout = Some(match visit {
        Visit::InFlight => RESPONSE_HEADERS,
        Visit::Attached => EVENTS_SILENCE,
    });
}

/// Why the last connect of a request failed; pingora's errors cannot carry it.
#[derive(Debug, Default)]
pub(crate) struct Failure(Mutex<Option<ConnectError>>);

impl Failure {
    /// Keeps it.
    pub fn set(&self, failure: ConnectError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Hands it out, once.
    pub fn take(&self) -> Option<ConnectError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
