//! What operators and their tools ask: `/metrics` in the text of OpenMetrics, which Prometheus reads,
//! and `/health`. On an address of its own, which is not for visitors.
//!
//! Must never happen here: a secret, a workspace's name, or anything that changes something.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use fleet::timing::{ACCEPT_PAUSE, ADMIN_REQUEST};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::{GatewayError, accept};

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Requests that are answered at once.
const AT_ONCE: usize = 8;

/// A listener that has its port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// What it tells.
struct Told {
    registry: Registry,
    ready: watch::Receiver<bool>,
}

impl Admin {
    /// Takes the port; 0 takes any free one.
    ///
    /// # Errors
    /// It is taken or not ours to take; the text says what to do.
    pub async fn bind(address: SocketAddr) -> Result<Self, GatewayError> {
        let listener = accept::listen(address, "operators (--admin)").await?;
        let address = listener.local_addr().map_err(GatewayError::Address)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped. `ready` says whether requests of visitors will succeed.
    pub async fn run(self, registry: Registry, ready: watch::Receiver<bool>) {
        let told = Arc::new(Told { registry, ready });
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // Whoever comes when all are taken waits in the listener's queue.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let told = Arc::clone(&told);
                    tokio::spawn(async move {
                        answer(stream, &told).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept of an operator");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One request, and the connection ends.
async fn answer(stream: TcpStream, told: &Arc<Told>) {
    let service = service_fn(|request: Request<Incoming>| {
        let told = Arc::clone(told);
        async move { Ok::<_, Infallible>(told.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(ADMIN_REQUEST, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an operator's connection broke"),
        Err(_) => tracing::debug!("an operator's request took too long"),
    }
}

impl Told {
    async fn answer(self: Arc<Self>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "GET only\n".to_owned(),
            );
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/health" if *self.ready.borrow() => text(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/health" => text(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "starting or stopping\n".to_owned(),
            ),
            _ => text(
                StatusCode::NOT_FOUND,
                TEXT,
                "/metrics or /health\n".to_owned(),
            ),
        }
    }

    /// Collectors may look at disks.
    async fn metrics(self: Arc<Self>) -> Response<Full<Bytes>> {
        let encoding = tokio::task::spawn_blocking(move || {
            let mut body = String::new();
            encode(&mut body, &self.registry).map(|()| body)
        });
        match encoding.await {
            Ok(Ok(body)) => text(StatusCode::OK, METRICS, body),
            Ok(Err(_)) | Err(_) => {
                tracing::error!("the metrics cannot be told");
                let body = "the metrics cannot be told\n".to_owned();
                text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, body)
            }
        }
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
