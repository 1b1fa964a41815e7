//! What the gateway is told: names, addresses, limits.
//!
//! Must never happen here: I/O, or a limit that is 'none'.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet::directory::Directory;
use fleet::door::Door;
use fleet::share::ShareKey;
use fleet::timing;

/// Settings of one gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The platform's domain, lower case, without a port: `fleeks.localhost`.
    pub domain: String,
    /// The port that visitors use for HTTPS; for links on our own pages.
    pub public_https_port: u16,
    /// Where TLS is accepted. Port 0 takes any free one.
    pub https: SocketAddr,
    /// Where plain HTTP is accepted: loopback, for people on this machine. Port 0 takes any.
    pub http: SocketAddr,
    /// Ports of a container that nobody reaches from outside, such as init's control port.
    pub forbidden_ports: Vec<u16>,
    /// Bounds.
    pub limits: Limits,
}

impl GatewayConfig {
    /// Settings with the default limits; links point at `https`'s port.
    pub fn new(domain: impl Into<String>, https: SocketAddr, http: SocketAddr) -> Self {
        Self {
            domain: domain.into(),
            public_https_port: https.port(),
            https,
            http,
            forbidden_ports: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Bounds on what visitors can make the gateway hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections of one client address (of one /64 for IPv6).
    pub connections_per_client: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Concurrent requests of one HTTP/2 connection.
    pub streams: u32,
    /// Requests that wait for wakes, in all.
    pub waiters: usize,
    /// Requests that wait for one workspace's wake.
    pub waiters_per_workspace: usize,
    /// The longest that a request waits for wakes.
    pub wake_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 4_096,
            head_bytes: 64 * 1024,
            headers: 100,
            streams: 100,
            waiters: 10_000,
            waiters_per_workspace: 2_000,
            wake_wait: timing::WAKE_DEADLINE,
        }
    }
}

/// What the gateway works with.
pub struct Parts {
    /// Who runs what.
    pub directory: Arc<dyn Directory>,
    /// The way into containers.
    pub door: Arc<dyn Door>,
    /// Certificates. Its ALPN list is replaced by what the gateway speaks.
    pub tls: Arc<rustls::ServerConfig>,
    /// Where the node's HTTP listener (API, embeds) answers: the very path that it is bound to.
    pub api_socket: PathBuf,
    /// Checks the tokens of share links.
    pub share_key: Arc<ShareKey>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("api_socket", &self.api_socket)
            .finish_non_exhaustive()
    }
}
