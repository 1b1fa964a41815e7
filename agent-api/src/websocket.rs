//! Websockets of the API: the handshake, who holds how many, and their end with the server.
//!
//! The gateway carries them: it pings clients and cuts nobody off for being quiet. A handler gets the
//! socket and serves it in a task of its own, until either end has enough or [`Leaving`] says that
//! the server goes.
//!
//! Must never happen here: a socket that outlives its server's drain, or a message of any size in
//! memory.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleet::id::OwnerId;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::Problem;

/// Longest message of a client, and longest frame.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// What waits to be written to a client before it must have read some.
const UNREAD_MAX: usize = 512 * 1024;
/// Websockets of one owner at a time.
const OWNER_MAX: usize = 512;
/// Websockets that have not shown a key yet.
const STRANGERS_MAX: usize = 128;

/// One end of a websocket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// All websockets of a server. Cheap to clone.
#[derive(Clone)]
pub struct Websockets {
    leaving: watch::Receiver<bool>,
    tasks: TaskTracker,
    owners: Arc<Mutex<HashMap<OwnerId, usize>>>,
    strangers: Arc<Semaphore>,
}

/// Says when the server goes.
#[derive(Clone)]
pub struct Leaving(watch::Receiver<bool>);

impl Leaving {
    /// Whether it goes already.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when sockets have to say goodbye (1001). Cancel safe.
    pub async fn begun(&mut self) {
        // A sender that is gone is gone for good.
        let _ = self.0.wait_for(|leaving| *leaving).await;
    }
}

/// A place among an owner's websockets, given back when it is dropped.
pub struct Seat {
    owner: OwnerId,
    owners: Arc<Mutex<HashMap<OwnerId, usize>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut owners = self.owners.lock();
        if let Some(taken) = owners.get_mut(&self.owner) {
            *taken -= 1;
            if *taken == 0 {
                owners.remove(&self.owner);
            }
        }
    }
}

impl Websockets {
    /// None yet; they end after `leaving` turned true.
    pub fn new(leaving: watch::Receiver<bool>) -> Self {
        Self {
            leaving,
            tasks: TaskTracker::new(),
            owners: Arc::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        }
    }

    /// To hear when the server goes.
    pub fn leaving(&self) -> Leaving {
        Leaving(self.leaving.clone())
    }

    /// Returns when all have ended. Cancel safe.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A place for one more of this owner.
    ///
    /// # Errors
    /// 429 when it has as many as it may.
    pub fn seat(&self, owner: &OwnerId) -> Result<Seat, Problem> {
        let mut owners = self.owners.lock();
        let taken = owners.entry(owner.clone()).or_default();
        if *taken >= OWNER_MAX {
            let detail = format!("more than {OWNER_MAX} websockets at once; close some");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        *taken += 1;
        Ok(Seat {
            owner: owner.clone(),
            owners: Arc::clone(&self.owners),
        })
    }

    /// A place for one that has yet to show its key.
    ///
    /// # Errors
    /// 503 when too many do.
    pub fn stranger(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.strangers).try_acquire_owned();
        place.map_err(|_| {
            let detail = "too many connections wait to show their key";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }

    /// Agrees to a websocket and serves it once the agreement is sent.
    ///
    /// # Errors
    /// 426 for a request that does not ask for one, 400 for a malformed handshake.
    pub fn upgrade<F>(
        &self,
        request: Request,
        serve: impl FnOnce(Socket, Leaving) -> F + Send + 'static,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.upgrade_bytes(request, |upgraded, leaving| async move {
            let bounds = Some(bounds());
            let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, bounds).await;
            serve(socket, leaving).await;
        })
    }

    /// The same for who reads and writes frames by itself.
    ///
    /// # Errors
    /// As [`Websockets::upgrade`].
    pub fn upgrade_bytes<F>(
        &self,
        mut request: Request,
        serve: impl FnOnce(TokioIo<Upgraded>, Leaving) -> F + Send + 'static,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let accept = match handshake(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err(Handshake::None) => return Ok(upgrade_required()),
            Err(Handshake::Malformed) => {
                let detail = "the websocket handshake is malformed";
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
            }
        };
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return Ok(upgrade_required());
        };
        let leaving = Leaving(self.leaving.clone());
        let task = async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => return tracing::debug!(%error, "no websocket"),
            };
            serve(upgraded, leaving).await;
        };
        self.tasks.spawn(task.in_current_span());
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response)
    }
}

/// Small buffers: most sockets are idle most of the time.
fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(UNREAD_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

#[derive(Debug, PartialEq, Eq)]
enum Handshake {
    None,
    Malformed,
}

/// What to answer to the client's key.
fn handshake(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Handshake> {
    let says = |name, word: &str| {
        headers.get_all(name).iter().any(|value| {
            let mut words = value.as_bytes().split(|byte| *byte == b',');
            words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    if *method != Method::GET || !says(UPGRADE, "websocket") || !says(CONNECTION, "upgrade") {
        return Err(Handshake::None);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        return Err(Handshake::Malformed);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Handshake::Malformed)?;
    let key = Bytes::copy_from_slice(key.as_bytes());
    let decoded = data_encoding::BASE64.decode(&key);
    if decoded.is_ok_and(|nonce| nonce.len() == 16) {
        let accept = derive_accept_key(&key);
        return HeaderValue::try_from(accept).map_err(|_| Handshake::Malformed);
    }
    Err(Handshake::Malformed)
}

fn upgrade_required() -> Response {
    let detail = "this is a websocket: connect with ws:// or wss://";
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        fields.map(pair).collect()
    }

    #[test]
    fn handshakes() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let accept = handshake(&Method::GET, &headers(&good)).unwrap();
        // The example of RFC 6455.
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            handshake(&Method::POST, &headers(&good)),
            Err(Handshake::None)
        );
        for (left_out, verdict) in [
            (0, Handshake::None),
            (1, Handshake::None),
            (2, Handshake::Malformed),
            (3, Handshake::Malformed),
        ] {
            let mut fields = good.to_vec();
            fields.remove(left_out);
            let got = handshake(&Method::GET, &headers(&fields));
            assert_eq!(got, Err(verdict), "{left_out}");
        }
        for key in ["", "c2hvcnQ=", "not base64 at all!!!!!!!"] {
            let mut fields = good.to_vec();
            fields[3].1 = key;
            let got = handshake(&Method::GET, &headers(&fields));
            assert_eq!(got, Err(Handshake::Malformed), "{key}");
        }
    }

    #[test]
    fn seats_are_counted_and_given_back() {
        let (_leave, leaving) = watch::channel(false);
        let sockets = Websockets::new(leaving);
        let owner = OwnerId::mint();
        let mut seats: Vec<Seat> = (0..OWNER_MAX)
            .map(|_| sockets.seat(&owner).unwrap())
            .collect();
        assert_eq!(sockets.seat(&owner).err().unwrap().status().as_u16(), 429);
        assert!(sockets.seat(&OwnerId::mint()).is_ok());
        seats.pop();
        assert!(sockets.seat(&owner).is_ok());
        seats.clear();
        assert!(sockets.owners.lock().is_empty());
    }
}
