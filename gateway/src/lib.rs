//! The edge: TLS, and the way of each request into a workspace or to the API. Top to bottom:
//!
//! | stage | what it does |
//! |---|---|
//! | `accept` | listeners, connection caps per client and in all, drain |
//! | `connection` | handshake and header deadlines; HTTP/1 heads judged on their raw bytes by `head` |
//! | `wire` | the socket as pingora wants it; rations HTTP/2 control frames |
//! | `edge` | pingora's `ProxyHttp`; calls the stages below |
//! | `judge` | who asks for what; refusals before anybody is asked |
//! | `classify` | `Host` → preview, API, embed, nothing. Pure |
//! | `reach` | `routes` (cached slugs) → `wake` (single flight) → door |
//! | `peer` | upstreams, with every timeout set and one pool per container generation |
//! | `share` | who may see a private workspace: tokens of share links, cookies. Pure |
//! | `forward` | header fields: who the visitor is, cookies |
//! | `refusal` | the only map from what went wrong to what a visitor is told; `page` is its HTML |
//! | `tell` | errors of pingora and of connects, told to the visitor |
//! | `events` | ends event streams whose container is gone |
//! | `upgrade` | websockets: frames followed, held over sleep, ended with a word |
//! | `account`, `metrics` | counts, on drop |
//!
//! `admin` tells operators what was counted, on an address of its own.
//!
//! Upgraded connections never reach pingora: `upgrade` judges and admits them as every request,
//! and moves the bytes itself. `TRAPS.md` beside this crate lists what pingora would have let
//! through and where it is stopped.
//!
//! Must never happen here: a connection to a container that no door admitted, or a wait without a
//! deadline.

mod accept;
mod account;
mod admin;
mod classify;
mod config;
mod connection;
mod edge;
mod events;
mod forward;
mod head;
mod judge;
mod metrics;
mod page;
mod peer;
mod reach;
mod refusal;
mod routes;
mod share;
mod tell;
mod upgrade;
mod wake;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use fleet::timing::KEEP_ALIVE;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use accept::BindError;
pub use admin::Admin;
pub use config::{GatewayConfig, Limits, Parts};
pub use metrics::Metrics;

use connection::Host;
use edge::Edge;
use reach::Reach;
use routes::Routes;
use wake::Wakes;

/// Connections to apps and the API that are kept open for reuse, in all.
const UPSTREAM_POOL: usize = 1024;
/// What an HTTP/2 upload may have under way per round trip: 256 KiB in 100 ms is 20 Mbit/s, where
/// the protocol's default of 64 KiB would be 5.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all uploads of one connection; also the most that it can make us hold.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Tries per request when a kept connection turns out to be dead or a route to be stale.
const TRIES: usize = 3;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listener's own address cannot be read.
    #[error("a listener has no address")]
    Address(#[source] std::io::Error),
}

/// A gateway that listens.
pub struct Gateway {
    host: Arc<Host>,
    https: TcpListener,
    http: TcpListener,
    https_addr: SocketAddr,
    http_addr: SocketAddr,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("https", &self.https_addr)
            .field("http", &self.http_addr)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Takes both ports. From here on connections queue; [`Gateway::run`] serves them.
    ///
    /// # Errors
    /// An address is taken or not ours to take; the text says what to do.
    pub async fn bind(config: GatewayConfig, parts: Parts) -> Result<Self, GatewayError> {
        let https = accept::listen(config.https, "HTTPS (--https)").await?;
        let http = accept::listen(config.http, "HTTP (--http)").await?;
        let https_addr = https.local_addr().map_err(GatewayError::Address)?;
        let http_addr = http.local_addr().map_err(GatewayError::Address)?;
        Ok(Self {
            host: Arc::new(host(config, parts)),
            https,
            http,
            https_addr,
            http_addr,
        })
    }

    /// Where TLS is accepted.
    pub fn https_addr(&self) -> SocketAddr {
        self.https_addr
    }

    /// Where plain HTTP is accepted.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Its counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.host.metrics)
    }

    /// Serves until `shutdown` turns true (or its sender is gone) and everything is drained,
    /// bounded by `timing::DRAIN`.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let host = Arc::clone(&self.host);
        let follow = tokio::spawn(async move { host.reach.routes.follow().await });
        accept::run(self.host, self.https, self.http, shutdown).await;
        follow.abort();
    }
}

fn host(mut config: GatewayConfig, parts: Parts) -> Host {
    // Hosts are compared in lower case.
    config.domain.make_ascii_lowercase();
    let metrics = Arc::new(Metrics::default());
    let limits = config.limits.clone();
    let wakes = Wakes::new(
        Arc::clone(&parts.directory),
        &limits,
        metrics.waiting.clone(),
    );
    let routes = Routes::new(parts.directory);
    let reach = Arc::new(Reach::new(
        routes,
        Arc::new(wakes),
        parts.door,
        Arc::clone(&metrics),
        limits.wake_wait,
    ));
    let edge = Edge {
        config,
        reach: Arc::clone(&reach),
        api_socket: parts.api_socket,
        share_key: parts.share_key,
        detours: Arc::default(),
        metrics: Arc::clone(&metrics),
    };
    Host {
        proxy: Arc::new(proxy(edge.clone(), &limits)),
        edge,
        acceptor: acceptor(&parts.tls),
        reach,
        limits,
        metrics,
    }
}

fn proxy(edge: Edge, limits: &Limits) -> HttpProxy<Edge> {
    let conf = ServerConf {
        max_retries: TRIES,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(edge, Arc::new(conf));
    proxy.handle_init_modules();
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(KEEP_ALIVE);
    proxy.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
    h2.max_concurrent_streams(limits.streams);
    h2.initial_window_size(STREAM_WINDOW);
    h2.initial_connection_window_size(CONNECTION_WINDOW);
    proxy.h2_options = Some(h2);
    proxy
}

/// TLS with `config`'s certificates and exactly the protocols that we speak. Early data stays off:
/// a replayed request is a request twice.
fn acceptor(config: &rustls::ServerConfig) -> Acceptor {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    Acceptor::from_server_config(Arc::new(config))
}
