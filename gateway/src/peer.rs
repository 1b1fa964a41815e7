//! Upstreams as pingora knows them, with every timeout set: its own defaults are 'none'.
//!
//! Must never happen here: a peer without timeouts, or one that shares connections with another
//! generation.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fleet::door::{ConnectError, Upstream, Visit};
use fleet::timing::{BODY_SILENCE, CONNECT, RESPONSE_HEADERS, UPSTREAM_IDLE, WEBSOCKET_SILENCE};
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions};

use crate::edge::L4Connector;
use crate::refusal::Refusal;

/// An admitted visitor's app. Connections are kept under `pool_key` only: it differs for each
/// container, generation and port.
pub(crate) fn preview(upstream: &Upstream, connector: L4Connector, visit: Visit) -> HttpPeer {
    let mut peer = HttpPeer::new(upstream.address, false, String::new());
    peer.group_key = upstream.pool_key;
    set_timeouts(&mut peer.options, visit);
    peer.options.custom_l4 = Some(Arc::new(connector));
    peer
}

/// The node's HTTP listener.
pub(crate) fn api(socket: &Path, visit: Visit) -> Result<HttpPeer, Refusal> {
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
    // Pingora starts this anew with every event in either direction, so after an upgrade it is the
    // silence of both ends.
    options.read_timeout = Some(match visit {
        Visit::InFlight => RESPONSE_HEADERS,
        Visit::Attached => WEBSOCKET_SILENCE,
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
