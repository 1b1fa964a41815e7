//! A node's one HTTP listener: a Unix socket behind the gateway. Key auth, request ids, the shape
//! of errors, limits; then the agent API. When there are many nodes, requests for another one's
//! workspaces will be forwarded here, whole, one hop.
//!
//! Must never happen here: a request that reaches a handler without a checked key (`/health`, `/`,
//! the description and the console's files apart), an error that is not JSON, a key's secret in a log or on disk outside `api-key`.

mod app;
mod auth;
mod body;
mod console;
mod docs;
mod keys;
mod limit;
mod live;
mod request_id;
mod scope;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;

use agent_api::websocket::Websockets;
use agent_api::{ApiState, PublicUrls};
use axum::Router;
use fleet::record::RecordStore;
use fleet::share::ShareKey;
use fleet::timing;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use pool_backend::Workspaces;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use agent_api;
pub use console::{BadPack, Console};
pub use keys::{KeyError, KeyStore};

/// Largest head of a request.
const HEAD_MAX: usize = 64 * 1024;

/// Where the server listens and keeps its files.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The Unix socket; its directory is made, mode 0700, when it is missing.
    pub socket: PathBuf,
    /// Where `api-key` is written on the first start.
    pub data_dir: PathBuf,
}

/// What the server works with.
pub struct ServerParts {
    /// The engine.
    pub workspaces: Workspaces,
    /// Owners and keys.
    pub records: RecordStore,
    /// True once requests will succeed: adoption is over.
    pub ready: watch::Receiver<bool>,
    /// How the world reaches what runs here.
    pub public: PublicUrls,
    /// Signs the tokens of share links; the gateway's.
    pub share_key: Arc<ShareKey>,
    /// The page for owners and operators.
    pub console: Console,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket.
    #[error("{path}: {problem}")]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong there.
        problem: String,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A bound server; connections wait until [`Server::run`].
pub struct Server {
    socket: PathBuf,
    listener: UnixListener,
    router: Router,
    keys: Arc<KeyStore>,
    workspaces: Workspaces,
    /// Turned true when sockets and streams have to say goodbye.
    leave: watch::Sender<bool>,
    sockets: Websockets,
}

impl Server {
    /// Reads the keys (makes the first one on the first start) and binds the socket.
    ///
    /// # Errors
    /// [`ServerError`]; then nothing listens.
    pub async fn bind(config: ServerConfig, parts: ServerParts) -> Result<Self, ServerError> {
        let keys = Arc::new(KeyStore::open(parts.records, config.data_dir).await?);
        for owner in keys.owners() {
            parts.workspaces.set_quota(&owner.id, owner.quota);
        }
        let workspaces = parts.workspaces.clone();
        let (leave, leaving) = watch::channel(false);
        let sockets = Websockets::new(leaving);
        let api = agent_api::router(ApiState {
            workspaces: parts.workspaces,
            public: Arc::new(parts.public),
            share_key: parts.share_key,
            sockets: sockets.clone(),
        });
        let managed = Some(workspaces.clone());
        let (api, document) = api
            .merge(keys::routes(Arc::clone(&keys), managed))
            .split_for_parts();
        let api = api.merge(docs::routes(document));
        let live = live::routes(Arc::clone(&keys), workspaces.clone(), sockets.clone());
        let router = app::app(
            api.merge(live),
            Arc::clone(&keys),
            parts.ready,
            parts.console,
        );
        Ok(Self {
            listener: socket::bind(&config.socket)?,
            socket: config.socket,
            router,
            keys,
            workspaces,
            leave,
            sockets,
        })
    }

    /// Where the first key is, for people to read.
    pub fn api_key_file(&self) -> PathBuf {
        self.keys.key_file()
    }

    /// Turned true, it tells sockets and streams that the server goes soon; requests are still
    /// served. What goes on for long would else hold up the gateway's drain, or be cut off by it.
    /// [`Server::run`] turns it when `shutdown` ends.
    pub fn farewell(&self) -> watch::Sender<bool> {
        self.leave.clone()
    }

    /// Serves until `shutdown` ends, then lets requests in flight finish for `timing::DRAIN`.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self {
            socket,
            listener,
            router,
            keys,
            workspaces,
            leave,
            sockets,
        } = self;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let book = tokio::spawn(async move {
            let end = async {
                // Gone is over, too.
                let _ = stopped.await;
            };
            keys.keep_book(&workspaces, end).await;
        });
        serve(listener, router, shutdown, leave, sockets).await;
        let _ = stop.send(());
        if let Err(error) = book.await {
            tracing::warn!(%error, "what keys used was not written down");
        }
        if let Err(error) = std::fs::remove_file(&socket) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

async fn serve(
    listener: UnixListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
    leave: watch::Sender<bool>,
    sockets: Websockets,
) {
    let mut connections = JoinSet::new();
    let (close, closing) = watch::channel(false);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), closing.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(timing::ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    leave.send_replace(true);
    close.send_replace(true);
    let ended = async {
        while connections.join_next().await.is_some() {}
        sockets.ended().await;
    };
    if tokio::time::timeout(timing::DRAIN, ended).await.is_err() {
        tracing::warn!(left = connections.len(), "requests did not end in time");
    }
    connections.shutdown().await;
}

/// One connection of the gateway, which keeps idle ones open and has its own deadlines. It may
/// become a websocket, of which [`Websockets`] knows then.
async fn connection(stream: UnixStream, router: Router, mut closing: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(app::entrance(router));
    let connection = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let left = async {
        // A sender that is gone is gone for good.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = left => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests;
