//! Listeners, connection caps and drain.
//!
//! Must never happen here: a connection that no cap counts, or a drain without an end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use fleet::timing::{ACCEPT_PAUSE, DRAIN};
use pingora_core::apps::HttpServerApp as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::OpenConnection;
use crate::connection::{self, Host};
use crate::events;
use crate::metrics::Metrics;

/// Which listener a connection came from.
#[derive(Debug, Clone, Copy)]
enum Listener {
    Https,
    Http,
}

/// Accepts until `shutdown` says true, then drains; returns by [`DRAIN`] after that.
pub(crate) async fn run(
    host: Arc<Host>,
    https: TcpListener,
    http: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    let house = House {
        crowd: Arc::new(Crowd::new(&host)),
        host,
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
        shutdown: shutdown.clone(),
    };
    loop {
        let (accepted, listener) = tokio::select! {
            accepted = https.accept() => (accepted, Listener::Https),
            accepted = http.accept() => (accepted, Listener::Http),
            // A dropped sender means shutdown, too.
            _ = shutdown.wait_for(|shutdown| *shutdown) => break,
        };
        match accepted {
            Ok((tcp, peer)) => house.admit(tcp, peer, listener),
            // Out of file descriptors, mostly: others must end before it gets better.
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((https, http));
    house.drain().await;
}

/// All open connections.
struct House {
    host: Arc<Host>,
    crowd: Arc<Crowd>,
    tasks: TaskTracker,
    cut: CancellationToken,
    shutdown: watch::Receiver<bool>,
}

impl House {
    fn admit(&self, tcp: TcpStream, peer: SocketAddr, listener: Listener) {
        let Some(place) = self.crowd.enter(peer.ip()) else {
            self.host.metrics.connections_refused.inc();
            return;
        };
        let _ = tcp.set_nodelay(true);
        events::probe(&tcp);
        let open = OpenConnection::new(&self.host.metrics);
        let host = Arc::clone(&self.host);
        let shutdown = self.shutdown.clone();
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            let serve = async {
                match listener {
                    Listener::Https => connection::serve_tls(&host, tcp, peer, shutdown).await,
                    Listener::Http => connection::serve_plain(&host, tcp, peer, shutdown).await,
                }
            };
            tokio::select! {
                () = serve => {}
                () = cut.cancelled() => {}
            }
            drop((open, place));
        });
    }

    /// Lets requests finish, cuts websockets and event streams, waits no longer than [`DRAIN`].
    async fn drain(self) {
        self.tasks.close();
        self.host.proxy.http_cleanup().await;
        let metrics = &self.host.metrics;
        let answered = async {
            loop {
                let ended = metrics.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if metrics.in_flight.get() == 0 {
                    break;
                }
                ended.await;
            }
        };
        let drained = async {
            answered.await;
            // HTTP/2 connections say goodbye by themselves now; the rest is attached.
            let _ = tokio::time::timeout(fleet::timing::LINGER, self.tasks.wait()).await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = metrics.in_flight.get();
            tracing::warn!(left, "requests were cut off by the end of the drain");
        }
        self.cut.cancel();
        self.tasks.wait().await;
    }
}

/// Binds with an error that says what to do.
pub(crate) async fn listen(address: SocketAddr, what: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| BindError {
        address,
        what: what.to_owned(),
        advice: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it: stop that one, or choose another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
            _ => "see the cause",
        },
        source: error,
    })
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {advice}")]
pub struct BindError {
    /// Which address.
    pub address: SocketAddr,
    /// For what: `--https` or `--http`.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Counts connections, in all and per client.
struct Crowd {
    max: usize,
    max_per_client: usize,
    metrics: Arc<Metrics>,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Crowd {
    fn new(host: &Host) -> Self {
        Self {
            max: host.limits.connections,
            max_per_client: host.limits.connections_per_client,
            metrics: Arc::clone(&host.metrics),
            clients: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if usize::try_from(self.metrics.open.get()).is_ok_and(|open| open >= self.max) {
            return None;
        }
        let client = client_key(address);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_insert(0);
        if *count >= self.max_per_client {
            return None;
        }
        *count += 1;
        Some(Place {
            crowd: Arc::clone(self),
            client,
        })
    }
}

/// A client is an IPv4 address or an IPv6 /64, which is what one customer of a provider gets.
fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// One connection's place among its client's.
struct Place {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let clients = &self.crowd.clients;
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
