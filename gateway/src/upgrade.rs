//! Websockets, and whatever else a visitor upgrades to: judged, admitted and scrubbed as every
//! request, then two raw streams with our own pump between them. Pingora's tunnel could neither
//! ping nor say goodbye, nor hold what is said to an app that sleeps.
//!
//! | stage | what it does |
//! |---|---|
//! | this | the handshake: who, where to, and the app's answer; anything but a 101 is passed on |
//! | `frame` | where websocket frames begin and end. Pure |
//! | `beat` | which messages are heartbeats. Pure |
//! | `relay` | what passes, what is ours to say, and where it may be said. Pure |
//! | `pump` | moves the bytes; wakes, holds, says goodbye |
//!
//! Must never happen here: a way around a stage that other requests go through.

mod beat;
mod frame;
mod pump;
mod relay;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use fleet::door::{ConnectError, Guard, PortChoice, Visit};
use fleet::id::Slug;
use fleet::share::ShareKey;
use fleet::timing::{CONNECT, RESPONSE_HEADERS, UPGRADE};
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE as UPGRADE_TO};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use pingora_core::protocols::Stream;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::ProxyHttp as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::TRIES;
use crate::classify::Target;
use crate::connection::Host;
use crate::edge::{Ctx, Edge, starts_with};
use crate::forward::{self, Client};
use crate::metrics::Attached;
use crate::reach::{Entered, Reach, Wish};
use crate::refusal::{Kind, Refusal};
use crate::share::{self, Place};

use beat::Beats;
use pump::{Line, Pump};
use relay::Relay;

/// Who upgrades.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitor {
    /// Its address.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// Serves the request that begins with `head`, which asks for an upgrade, and what it upgrades to.
/// The connection ends with it.
pub(crate) async fn serve(
    host: &Host,
    stream: Stream,
    head: BytesMut,
    visitor: Visitor,
    shutdown: watch::Receiver<bool>,
) {
    let outcome = Mutex::new(None);
    let answer = service_fn(async |mut request: Request<Incoming>| {
        let stream = hyper::upgrade::on(&mut request);
        let (answer, opened) = answer(host, visitor, request).await;
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some((stream, opened));
        Ok::<_, Infallible>(answer)
    });
    let begun = TokioIo::new(Begun { head, stream });
    let handshake = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_headers(host.limits.headers)
        .serve_connection(begun, answer)
        .with_upgrades();
    // Boxed, lest every conversation keeps the room that its handshake took.
    match timeout(UPGRADE, Box::pin(handshake)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "upgrade"),
        Err(_) => return,
    }
    let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Some((stream, opened)) = outcome else {
        return;
    };
    // Handed out in any case, also where the app did not agree.
    let Some((begun, said)) = stream.await.ok().and_then(parts::<Begun>) else {
        return;
    };
    match opened {
        Some(opened) => opened.converse(begun.stream, &said, shutdown).await,
        None => crate::connection::leave(begun.stream).await,
    }
}

/// A conversation after its 101.
struct Opened {
    ctx: Ctx,
    app: OnUpgrade,
    beats: Option<Beats>,
    waker: Option<Waker>,
}

impl Opened {
    async fn converse(self, visitor: Stream, said: &[u8], shutdown: watch::Receiver<bool>) {
        let Self {
            mut ctx,
            app,
            beats,
            waker,
        } = self;
        let Some((app, answered)) = app.await.ok().and_then(parts::<Box<dyn Line>>) else {
            return;
        };
        let mut relay = Relay::new(beats);
        relay.visitor_says(said, false);
        relay.app_says(&answered);
        let stay = ctx.guard.take().map(|guard| guard.stay);
        let pump = Pump {
            relay,
            visitor,
            app,
            visit: stay.zip(waker),
            shutdown,
        };
        let passed = Box::pin(pump.run()).await;
        ctx.account.bytes_in = passed.from_visitor;
        ctx.account.bytes_out = passed.to_visitor;
    }
}

/// The stream below, and what was read of it beyond the handshake.
fn parts<S>(upgraded: Upgraded) -> Option<(S, Bytes)>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    match upgraded.downcast::<TokioIo<S>>() {
        Ok(parts) => Some((parts.io.into_inner(), parts.read_buf)),
        Err(_) => {
            tracing::error!("an upgraded connection is not the one that it was");
            None
        }
    }
}

/// Gets a conversation's workspace awake.
pub(crate) struct Waker {
    reach: Arc<Reach>,
    slug: Slug,
    port: u16,
    /// What the visitor came by: a link may have been revoked since.
    named: Option<u16>,
    tokens: Vec<String>,
    share_key: Arc<ShareKey>,
}

impl Waker {
    /// Returns when it is awake; with a guard that keeps it so, if it still listens there.
    pub async fn wake(&self) -> Result<Option<Guard>, Refusal> {
        let place = Place {
            slug: &self.slug,
            port: self.named,
        };
        let shown = || share::links(&self.share_key, place, &self.tokens);
        let wish = Wish {
            slug: &self.slug,
            port: PortChoice::Number(self.port),
            visit: Visit::InFlight,
            holding_page_since: None,
            link: &|_| String::new(),
            shown: &shown,
        };
        match self.reach.enter(&wish).await {
            Ok(entered) => Ok(Some(entered.guard)),
            // It may have closed its door and still talk to who is inside.
            Err(refusal) if refusal.kind == Kind::NotListening => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}

/// One request; what it opened, if the app agreed.
async fn answer(
    host: &Host,
    visitor: Visitor,
    request: Request<Incoming>,
) -> (Answer, Option<Opened>) {
    let mut ctx = host.edge.new_ctx();
    let tried = ask(host, visitor, request, &mut ctx).await;
    let mut response = match tried {
        Ok(response) => response,
        Err(refusal) => return (refused(&mut ctx, &refusal), None),
    };
    ctx.account.status = response.status().as_u16();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Whatever follows on the connection would pass by our own reading of heads.
        response.headers_mut().insert(CONNECTION, CLOSE);
        return (response.map(Either::Right), None);
    }
    ctx.account.attached(Attached::Websocket);
    let app = hyper::upgrade::on(&mut response);
    let websocket = starts_with(response.headers().get(UPGRADE_TO), b"websocket");
    let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.and_then(|protocol| protocol.to_str().ok());
    let beats = websocket.then(|| Beats::of(&ctx.path, protocol));
    let waker = match (&ctx.target, &ctx.guard) {
        (Some(Target::Preview { slug, port }), Some(guard)) => {
            guard.stay.attach();
            Some(Waker {
                reach: Arc::clone(&host.reach),
                slug: slug.clone(),
                port: guard.port,
                named: *port,
                tokens: ctx.shown.tokens.clone(),
                share_key: Arc::clone(&host.edge.share_key),
            })
        }
        _ => None,
    };
    let opened = Opened {
        ctx,
        app,
        beats,
        waker,
    };
    // A 101 has no body; whatever a strange app says of one would confuse.
    response.headers_mut().remove(TRANSFER_ENCODING);
    (response.map(Either::Right), Some(opened))
}

/// Takes the request to where it wants to go, and brings the answer.
async fn ask(
    host: &Host,
    visitor: Visitor,
    request: Request<Incoming>,
    ctx: &mut Ctx,
) -> Result<Response<Incoming>, Refusal> {
    let (parts, _) = request.into_parts();
    let cases = parts.extensions.clone();
    let mut head = RequestHeader::from(parts);
    host.edge.begin_upgrade(&mut head, visitor, ctx)?;
    let stream = connect(&host.edge, ctx).await?;
    let client = Client {
        address: ctx.client,
        tls: ctx.tls,
        host: &ctx.host,
        request_id: &ctx.account.request_id,
    };
    let malformed = |_| Refusal::new(Kind::BadRequest, "The request target is malformed.");
    forward::scrub_request(&mut head, &client).map_err(malformed)?;
    let mut request = Request::from_parts(head.into(), Empty::<Bytes>::new());
    *request.extensions_mut() = cases;
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path
        .parse()
        .map_err(|_| Refusal::new(Kind::BadRequest, "The request target is malformed."))?;
    ctx.path = path;
    let mut response = timeout(RESPONSE_HEADERS, exchange(stream, request))
        .await
        .unwrap_or_else(|_| {
            let detail = "The app did not answer in time.";
            Err(Refusal::new(Kind::AppTimeout, detail))
        })?;
    if ctx.target != Some(Target::Api) {
        let (parts, body) = response.into_parts();
        let cases = parts.extensions.clone();
        let mut head = ResponseHeader::from(parts);
        forward::scrub_response(&mut head, &host.edge.config.domain)
            .map_err(|_| Refusal::new(Kind::Internal, "Something went wrong on our side."))?;
        response = Response::from_parts(head.into(), body);
        *response.extensions_mut() = cases;
    }
    Ok(response)
}

/// One request on a new connection.
async fn exchange(
    stream: Box<dyn Line>,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Refusal> {
    let failed = |error: hyper::Error| {
        tracing::debug!(%error, "upgrade");
        let detail = "The app closed the connection or answered with something that is not HTTP.";
        Refusal::new(Kind::AppFailed, detail)
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with the exchange: when the answer was read, or nobody wants it any more.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(failed)
}

/// Gets the visitor in and connects. A route that proves stale is looked up again.
async fn connect(edge: &Edge, ctx: &mut Ctx) -> Result<Box<dyn Line>, Refusal> {
    let Some(Target::Preview { slug, port }) = ctx.target.clone() else {
        let connected = timeout(CONNECT, UnixStream::connect(&edge.api_socket)).await;
        return match connected {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(_)) | Err(_) => Err(Refusal::no_api()),
        };
    };
    if ctx.shown.link.is_some() {
        return Err(Refusal::new(
            Kind::Private,
            "A share link is opened by itself.",
        ));
    }
    let link = edge.link(&slug, &ctx.host);
    let place = Place { slug: &slug, port };
    let tokens = ctx.shown.tokens.clone();
    let shown = || share::links(&edge.share_key, place, &tokens);
    let wish = Wish {
        slug: &slug,
        port: port.map_or(PortChoice::Main, PortChoice::Number),
        // Until the app agreed: then it may outlive sleep.
        visit: Visit::InFlight,
        holding_page_since: None,
        link: &link,
        shown: &shown,
    };
    for _ in 0..TRIES {
        let Entered { guard } = edge.reach.enter(&wish).await?;
        match dial(&guard).await {
            Ok(stream) => {
                ctx.guard = Some(guard);
                return Ok(Box::new(stream));
            }
            Err(ConnectError::Gone) => edge.reach.routes.forget(&slug),
            Err(failure) => return Err(Refusal::of_connect(&failure, &link)),
        }
    }
    Err(Refusal::unavailable())
}

async fn dial(guard: &Guard) -> Result<TcpStream, ConnectError> {
    let connecting = timeout(CONNECT, guard.upstream.connector.connect());
    connecting.await.unwrap_or(Err(ConnectError::TimedOut))
}

fn refused(ctx: &mut Ctx, refusal: &Refusal) -> Answer {
    ctx.account.refused = Some(refusal.kind);
    ctx.account.status = refusal.kind.status();
    if ctx.account.request_id.is_empty() {
        ctx.account.request_id = forward::mint_request_id();
    }
    let told = refusal.render(ctx.format, &ctx.account.request_id);
    let mut response = Response::builder().status(told.status);
    response = response.header(CONNECTION, CLOSE);
    for (name, value) in &told.headers {
        response = response.header(*name, value);
    }
    let body = Either::Left(Full::new(Bytes::from(told.body)));
    response.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "a refusal is not a response");
        let mut bare = Response::new(Either::Left(Full::default()));
        *bare.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        bare
    })
}

/// A connection of which the beginning was read already.
struct Begun {
    head: BytesMut,
    stream: Stream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let taken = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..taken]);
        self.head.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
