//! Visitors: HTTP/1 and HTTP/2 over TLS or plain, and bytes as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::app::{Body, full};
use crate::house::House;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub enum Client {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The line of a mirrored request that begins with `name: `.
    pub fn mirrored(&self, name: &str) -> Vec<&str> {
        let start = format!("{name}: ");
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix(start.as_str()))
            .collect()
    }
}

impl Client {
    pub async fn h1(house: &House) -> Self {
        let tls = tls(house, &["http/1.1"], "api.fleeks.localhost").await;
        Self::h1_over(tls).await
    }

    pub async fn plain(address: SocketAddr) -> Self {
        Self::h1_over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn h1_over<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::H1(sender)
    }

    pub async fn h2(house: &House) -> Self {
        let tls = tls(house, &["h2"], "api.fleeks.localhost").await;
        let io = TokioIo::new(tls);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self::H2(sender)
    }

    /// Sends; the URI of `request` is a path, its Host field says where to.
    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match self {
                Self::H1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::H2(sender) => {
                    let (mut parts, body) = request.into_parts();
                    let host = parts.headers.remove("host").unwrap();
                    let uri = format!("https://{}{}", host.to_str().unwrap(), parts.uri);
                    parts.uri = uri.parse().unwrap();
                    sender.ready().await?;
                    sender.send_request(Request::from_parts(parts, body)).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.unwrap()
    }

    pub async fn answer(&mut self, request: Request<Body>) -> Answer {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect());
        let body = body.await.unwrap().unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.answer(request(host, path, &[])).await
    }
}

/// A GET with further header fields.
pub fn request(host: &str, path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path).header("host", host);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(full("")).unwrap()
}

pub fn post(host: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    let request = Request::post(path).header("host", host);
    request.body(full(body)).unwrap()
}

pub async fn tls(house: &House, alpn: &[&str], name: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(house.cert.clone()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(house.https).await.unwrap();
    // As browsers and curl do: without it an upload waits for delayed acknowledgements.
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, tcp).await.unwrap()
}

/// Sends `bytes` as they are and reads until the gateway closes; what came.
pub async fn raw<S>(mut stream: S, bytes: &[u8]) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset instead of an orderly end would lose the answer for real clients, too.
    read.expect("the gateway closes in time")
        .expect("an orderly end");
    String::from_utf8_lossy(&all).into_owned()
}
