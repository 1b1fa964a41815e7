//! Requests at `/socket.io`, before the engine sees them: who may begin a socket, and which one a
//! request belongs to. The engine gets requests of our making, with nothing in them that it does
//! not need: it keeps the first one of each socket for as long as the socket lives.
//!
//! Must never happen here: a connection that the engine has for itself; an answer that is not
//! counted as written.

use std::convert::Infallible;
use std::sync::Arc;

use agent_api::Problem;
use agent_api::websocket::Websockets;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::service::Service as _;
use serde::Deserialize;
use socketioxide::service::SocketIoService;

use super::flow::{Conn, Flow, Flows};
use super::strangers::{Strangers, client};
use crate::body::Held;

/// Longest answer of the engine: all that waits.
const ANSWER_MAX: usize = 4 << 20;
/// Between the packets of an answer.
const SEPARATOR: u8 = 0x1e;

/// See the module.
pub(super) struct Door {
    service: SocketIoService<Elsewhere>,
    sockets: Websockets,
    flows: Flows,
    strangers: Strangers,
}

/// What the engine would call for paths that are not its own.
#[derive(Clone, Copy)]
pub(super) struct Elsewhere;

impl hyper::service::Service<Request> for Elsewhere {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response, Infallible>>;

    fn call(&self, _: Request) -> Self::Future {
        std::future::ready(Ok(StatusCode::NOT_FOUND.into_response()))
    }
}

/// What a request says in its query.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    websocket: bool,
    sid: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn parse(query: &'a str) -> Result<Self, Problem> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        if value("EIO") != Some("4") {
            return Err(bad("Unsupported protocol version: EIO=4 is spoken here"));
        }
        let websocket = match value("transport") {
            Some("polling") => false,
            Some("websocket") => true,
            _ => return Err(bad("Transport unknown: polling and websocket are there")),
        };
        let sid = value("sid");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if sid.is_some_and(|sid| !sid.bytes().all(is_name)) {
            return Err(unknown());
        }
        Ok(Self { websocket, sid })
    }

    /// As the engine has it.
    fn uri(&self) -> String {
        let transport = match self.websocket {
            true => "websocket",
            false => "polling",
        };
        let sid = self.sid.map(|sid| format!("&sid={sid}"));
        let sid = sid.unwrap_or_default();
        format!("{}?EIO=4&transport={transport}{sid}", super::PATH)
    }
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn unknown() -> Problem {
    bad("Session ID unknown: it has ended; connect again")
}

fn leaves() -> Problem {
    let detail = "this node shuts down; connect again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

/// The handler.
pub(super) async fn enter(State(door): State<Arc<Door>>, request: Request) -> Response {
    let mut response = match door.enter(request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Door {
    pub(super) fn new(service: SocketIoService<Elsewhere>, sockets: Websockets) -> Self {
        Self {
            service,
            sockets,
            flows: Flows::default(),
            strangers: Strangers::default(),
        }
    }

    async fn enter(&self, request: Request) -> Result<Response, Problem> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let wanted = Wanted::parse(&query)?;
        let (get, post) = (Method::GET, Method::POST);
        let method = request.method().clone();
        if method != get && (method != post || wanted.websocket || wanted.sid.is_none()) {
            let detail = "sockets are begun and polled with GET, and posted to with POST";
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail));
        }
        if self.sockets.leaving().has_begun() {
            return Err(leaves());
        }
        let flow = match wanted.sid {
            Some(sid) => self.flows.get(sid).ok_or_else(unknown)?,
            None => {
                let stranger = self.strangers.admit(client(request.headers()))?;
                self.flows.begin(stranger)
            }
        };
        match wanted.websocket {
            true => self.websocket(request, &wanted, flow),
            false => self.poll(request, &wanted, flow).await,
        }
    }

    /// The engine speaks over our connection, so that we can count, and cut it off.
    fn websocket(
        &self,
        request: Request,
        wanted: &Wanted<'_>,
        flow: Arc<Flow>,
    ) -> Result<Response, Problem> {
        let place = flow.request().ok_or_else(too_many)?;
        let head = http::Request::get(wanted.uri()).extension(Arc::clone(&flow));
        let head = head.body(()).map_err(|_| Problem::internal())?;
        let goodbye = wanted.sid.map(|_| {
            let polling = Wanted {
                websocket: false,
                ..*wanted
            };
            http::Request::post(polling.uri()).body(Body::from("1"))
        });
        let goodbye = goodbye.transpose().map_err(|_| Problem::internal())?;
        let service = self.service.clone();
        self.sockets
            .upgrade_bytes(request, move |io, mut leaving| async move {
                let (conn, mut gone) = Conn::new(io, Arc::clone(&flow));
                // The engine does the rest in tasks of its own.
                if service.call((conn, head)).await.is_err() {
                    return;
                }
                drop(place);
                tokio::select! {
                    _ = &mut gone => {}
                    () = flow.ended() => {}
                    // Without a packet that says so: a client in Python that is told goodbye by
                    // the engine or the namespace does not come back, one that is cut off does.
                    () = leaving.begun() => flow.end(),
                }
                // When it broke off before the socket had moved over to it, the engine would keep
                // the socket for ever. Any other socket has ended, or takes no posts any more.
                if let Some(post) = goodbye {
                    let _ = service.call(post).await;
                }
            })
    }

    async fn poll(
        &self,
        request: Request,
        wanted: &Wanted<'_>,
        flow: Arc<Flow>,
    ) -> Result<Response, Problem> {
        let place = flow.request().ok_or_else(too_many)?;
        let (mut parts, body) = request.into_parts();
        let mut ours = http::Request::builder()
            .method(parts.method.clone())
            .uri(wanted.uri())
            .extension(Arc::clone(&flow));
        if let Some(kind) = parts.headers.remove(header::CONTENT_TYPE) {
            ours = ours.header(header::CONTENT_TYPE, kind);
        }
        let ours = ours.body(body).map_err(|_| Problem::internal())?;
        let mut leaving = self.sockets.leaving();
        let answer = tokio::select! {
            answer = self.service.call(ours) => answer.map_err(|_| Problem::internal())?,
            () = flow.ended() => return Err(unknown()),
            () = leaving.begun() => return Err(leaves()),
        };
        let (head, body) = answer.into_parts();
        let body = axum::body::to_bytes(Body::new(body), ANSWER_MAX).await;
        let body = body.map_err(|_| Problem::internal())?;
        if wanted.sid.is_none() {
            named(&body, &flow)?;
        } else if parts.method == Method::GET {
            let packets = body.iter().filter(|byte| **byte == SEPARATOR).count() + 1;
            flow.polled(body.len(), packets);
        }
        let body = Body::new(Held::new(Body::from(body), place));
        Ok(Response::from_parts(head, body))
    }
}

fn too_many() -> Problem {
    let detail = "too many requests of this socket at once";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1)
}

/// Learns a socket's name from the answer to its first request.
fn named(body: &[u8], flow: &Arc<Flow>) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Open<'a> {
        sid: &'a str,
    }
    let open = body.strip_prefix(b"0").map(serde_json::from_slice::<Open>);
    match open {
        Some(Ok(open)) => flow.named(open.sid),
        _ => return Err(Problem::internal()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let wanted = |query| Wanted::parse(query).map_err(|problem| problem.status().as_u16());
        let polling = Wanted {
            websocket: false,
            sid: None,
        };
        assert_eq!(wanted("transport=polling&EIO=4&t=1.5"), Ok(polling));
        let upgrade = Wanted {
            websocket: true,
            sid: Some("a-Z_9"),
        };
        assert_eq!(
            upgrade.uri(),
            "/socket.io?EIO=4&transport=websocket&sid=a-Z_9"
        );
        assert_eq!(wanted("EIO=4&sid=a-Z_9&transport=websocket"), Ok(upgrade));
        for strange in [
            "",
            "EIO=3&transport=polling",
            "transport=polling",
            "EIO=4",
            "EIO=4&transport=Polling",
            "EIO=4&transport=polling&sid=%41",
            "EIO=4&transport=polling&sid=a%26transport=websocket",
        ] {
            assert_eq!(wanted(strange), Err(400), "{strange}");
        }
    }
}
