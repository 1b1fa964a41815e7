//! Pingora's proxy with our decisions: each method is a call or two into a stage.
//!
//! Must never happen here: a decision of its own, or a wait without a bound.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fleet::directory::Route;
use fleet::door::{ConnectError, Guard, PortChoice, Visit};
use fleet::timing::{BODY_GRACE, BODY_SILENCE, WEBSOCKET_SILENCE};
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use tokio::time::Instant;

use crate::account::{Account, Metrics};
use crate::classify::{self, Target, Via};
use crate::config::GatewayConfig;
use crate::forward::{self, Client};
use crate::head;
use crate::peer;
use crate::reach::{Entered, Reach, Wish};
use crate::refusal::{Format, Kind, Refusal};

/// A request body slower than this on average, after its grace, is cut off: bytes per second.
const BODY_MIN_RATE: u64 = 128;

/// See the module.
pub(crate) struct Edge {
    /// Settings.
    pub config: GatewayConfig,
    /// Into workspaces.
    pub reach: Arc<Reach>,
    /// Into the node's HTTP listener.
    pub api_socket: PathBuf,
    /// Where connections to apps really go.
    pub detours: Arc<peer::Detours>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// One request on its way.
pub(crate) struct Ctx {
    account: Account,
    target: Option<Target>,
    /// The host asked for, checked and lower case, with its port.
    host: String,
    tls: bool,
    client: Option<IpAddr>,
    visit: Visit,
    format: Format,
    /// A person's navigation may get the holding page.
    navigation: bool,
    body_started: Option<Instant>,
    guard: Option<Guard>,
    /// Where to, found by the filter for the first try.
    peer: Option<Box<HttpPeer>>,
    /// Past the filters: pingora will not go on with the connection after an error.
    filtered: bool,
    route: Option<Route>,
    connect_failure: Arc<peer::Failure>,
    refusal: Option<Refusal>,
}

impl Ctx {
    /// Remembers what the visitor is told and makes pingora stop.
    fn refuse<T>(&mut self, refusal: Refusal) -> Result<T> {
        let status = refusal.kind.status();
        self.refusal = Some(refusal);
        Error::err_down(ErrorType::HTTPStatus(status))
    }
}

impl Edge {
    /// Reads who asks for what; refuses what is refused before anybody is asked.
    fn begin(&self, session: &mut Session, ctx: &mut Ctx) -> Result<(), Refusal> {
        ctx.tls = session
            .digest()
            .is_some_and(|digest| digest.ssl_digest.is_some());
        ctx.client = session
            .client_addr()
            .and_then(|address| address.as_inet().map(std::net::SocketAddr::ip));
        let upgrade = session.is_upgrade_req();
        let req = session.req_header_mut();
        ctx.format = Format::of(&req.headers);
        ctx.navigation = req.method == Method::GET && ctx.format == Format::Html;
        if upgrade || asks_for_events(&req.headers) {
            ctx.visit = Visit::Attached;
            ctx.account.attached();
        }
        if req.version == Version::HTTP_2 {
            self.check_h2(req)?;
        }
        self.classify(req, ctx)?;
        if upgrade {
            session.set_read_timeout(Some(WEBSOCKET_SILENCE));
        }
        Ok(())
    }

    /// What the strict reading of a head does for HTTP/1 and the h2 library leaves to us.
    fn check_h2(&self, req: &RequestHeader) -> Result<(), Refusal> {
        let bad =
            |why: &str| Refusal::new(Kind::BadRequest, format!("The request was refused: {why}."));
        if req.headers.len() > self.config.limits.headers {
            return Err(head::Fault::TooLarge.into());
        }
        if matches!(req.method.as_str(), "TRACE" | "CONNECT" | "TRACK") {
            return Err(head::Fault::Method.into());
        }
        if req.uri.scheme_str() != Some("https") {
            return Err(bad("the scheme is not https"));
        }
        if req.headers.contains_key(http::header::TRANSFER_ENCODING) {
            return Err(bad("HTTP/2 has no transfer encodings"));
        }
        if req
            .headers
            .get_all(http::header::CONTENT_LENGTH)
            .iter()
            .count()
            > 1
        {
            return Err(bad("more than one Content-Length field"));
        }
        Ok(())
    }

    fn classify(&self, req: &mut RequestHeader, ctx: &mut Ctx) -> Result<(), Refusal> {
        let authority = req.uri.authority().map(http::uri::Authority::as_str);
        let field: &[u8] = match authority {
            Some(authority) => authority.as_bytes(),
            None => req.headers.get(HOST).map_or(b"", HeaderValue::as_bytes),
        };
        let via = if ctx.tls { Via::Tls } else { Via::Plain };
        let host = classify::parse_host(field)?;
        let target = classify::classify(
            &host,
            &self.config.domain,
            via,
            &self.config.forbidden_ports,
        )?;
        ctx.host = host.to_field();
        let respelled = ctx.host.as_bytes() != field;
        normalize(req, &ctx.host, respelled)
            .map_err(|_| Refusal::new(Kind::BadRequest, "The request target is malformed."))?;

        ctx.account.request_id = match (&target, req.headers.get("x-request-id")) {
            (Target::Api, Some(id)) if forward::valid_request_id(id.as_bytes()) => {
                String::from_utf8_lossy(id.as_bytes()).into_owned()
            }
            _ => forward::mint_request_id(),
        };
        match &target {
            Target::Preview { slug, .. } => slug.as_str().clone_into(&mut ctx.account.target),
            Target::Api => "api".clone_into(&mut ctx.account.target),
            Target::Embed => {
                return Err(Refusal::new(Kind::NotFound, "Embeds are not there yet."));
            }
            Target::Apex => return Err(self.landing()),
            Target::Unknown => {
                return Err(Refusal::new(Kind::NotFound, "Nothing has this address."));
            }
        }
        ctx.target = Some(target);
        Ok(())
    }

    fn landing(&self) -> Refusal {
        let GatewayConfig {
            domain,
            public_https_port,
            ..
        } = &self.config;
        let api = match public_https_port {
            443 => format!("https://api.{domain}/"),
            port => format!("https://api.{domain}:{port}/"),
        };
        let mut landing = Refusal::new(
            Kind::NotFound,
            "This is a fleeks server. Workspaces and the API have addresses of their own.",
        );
        landing.links.push(("API".to_owned(), api));
        landing
    }

    /// Gets the visitor into the workspace and remembers the guard.
    async fn enter(&self, ctx: &mut Ctx) -> Result<Box<HttpPeer>, Refusal> {
        let Some(Target::Preview { slug, port }) = &ctx.target else {
            return Ok(Box::new(peer::api(&self.api_socket, ctx.visit)?));
        };
        let suffix = ctx.host.split_once(':').map(|(_, port)| format!(":{port}"));
        let suffix = suffix.unwrap_or_default();
        let domain = &self.config.domain;
        let link = |port: u16| format!("//{port}--{slug}.{domain}{suffix}/");
        let wish = Wish {
            slug,
            port: port.map_or(PortChoice::Main, PortChoice::Number),
            visit: ctx.visit,
            holding_page_since: ctx.navigation.then(|| ctx.account.started()),
            link: &link,
        };
        let Entered { guard, route } = self.reach.enter(&wish).await?;
        let failure = &ctx.connect_failure;
        let peer = peer::preview(&guard.upstream, &self.detours, failure, ctx.visit);
        ctx.guard = Some(guard);
        ctx.route = Some(route);
        Ok(Box::new(peer))
    }

    /// Cuts off bodies that trickle. gRPC streams may be quiet; silence has its own bound.
    fn keeps_up(&self, session: &Session, ctx: &mut Ctx) -> bool {
        let started = *ctx.body_started.get_or_insert_with(Instant::now);
        let elapsed = started.elapsed();
        if elapsed < BODY_GRACE || session.was_upgraded() || is_grpc(session.req_header()) {
            return true;
        }
        let received = u64::try_from(session.body_bytes_read()).unwrap_or(u64::MAX);
        received >= elapsed.as_secs().saturating_mul(BODY_MIN_RATE)
    }

    /// What pingora's error means to a visitor. `None`: the visitor is gone.
    fn explain(&self, error: &Error, ctx: &Ctx) -> Option<Refusal> {
        use ErrorType as T;
        let refusal = match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, T::ReadTimedout) => {
                Refusal::new(Kind::BodyTooSlow, "The request's body came too slowly.")
            }
            (ErrorSource::Downstream, T::InvalidHTTPHeader | T::HTTPStatus(_)) => Refusal::new(
                Kind::BadRequest,
                "The request was refused: it is malformed.",
            ),
            (ErrorSource::Downstream, _) => return None,
            (ErrorSource::Upstream, _) if ctx.target == Some(Target::Api) => Refusal::new(
                Kind::Unavailable,
                "The API cannot be reached at the moment; try again shortly.",
            ),
            (ErrorSource::Upstream, T::ReadTimedout | T::WriteTimedout | T::ConnectTimedout) => {
                Refusal::new(Kind::AppTimeout, "The app did not answer in time.")
            }
            (ErrorSource::Upstream, _) => Refusal::new(
                Kind::AppFailed,
                "The app closed the connection or answered with something that is not HTTP.",
            ),
            (ErrorSource::Internal | ErrorSource::Unset, _) => {
                tracing::warn!(%error, "a request failed inside the gateway");
                Refusal::new(Kind::Internal, "Something went wrong on our side.")
            }
        };
        Some(refusal)
    }

    /// What a failed connect means; a container that is gone means a stale route, and a retry.
    fn connect_failed(&self, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        let Some(failure) = ctx.connect_failure.take() else {
            return error;
        };
        match failure {
            ConnectError::NotListening(what) => {
                ctx.refusal = Some(Refusal::not_listening(&what, |_| String::new()));
                if let Some(refusal) = &mut ctx.refusal {
                    refusal.links.clear();
                }
            }
            ConnectError::TimedOut => {
                let detail = "The workspace did not accept a connection in time.";
                ctx.refusal = Some(Refusal::new(Kind::AppTimeout, detail));
            }
            ConnectError::Gone => {
                if let Some(Target::Preview { slug, .. }) = &ctx.target {
                    self.reach.routes.forget(slug);
                }
                ctx.refusal = Some(Refusal::unavailable());
                error.set_retry(true);
            }
        }
        error
    }

    /// Tells the visitor. Whether pingora may go on with the connection.
    async fn tell(&self, session: &mut Session, ctx: &mut Ctx, refusal: &Refusal) -> Result<()> {
        ctx.account.refused = Some(refusal.kind);
        if ctx.account.request_id.is_empty() {
            ctx.account.request_id = forward::mint_request_id();
        }
        let told = refusal.render(ctx.format, &ctx.account.request_id);
        let mut response = ResponseHeader::build(told.status, Some(told.headers.len()))?;
        for (name, value) in told.headers {
            response.insert_header(name, value)?;
        }
        let head = session.req_header().method == Method::HEAD;
        let unread = !session.is_body_done();
        if unread || ctx.filtered || refusal.kind.closes() {
            session.set_keepalive(None);
        }
        let body = if head {
            Bytes::new()
        } else {
            Bytes::from(told.body)
        };
        let downstream = session.as_downstream_mut();
        downstream.write_response_header(Box::new(response)).await?;
        downstream.write_response_body(body, true).await?;
        let expects = session.get_header(http::header::EXPECT).is_some();
        if unread && !expects && !session.is_http2() {
            // Closing over unread bytes would reset the connection and lose the answer. Bounded by
            // the drain timeout.
            session.finish_body().await?;
            let _ = session.drain_request_body().await;
        }
        Ok(())
    }
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            account: Account::open(&self.metrics),
            target: None,
            host: String::new(),
            tls: false,
            client: None,
            visit: Visit::InFlight,
            format: Format::Json,
            navigation: false,
            body_started: None,
            guard: None,
            peer: None,
            filtered: false,
            route: None,
            connect_failure: Arc::default(),
            refusal: None,
        }
    }

    /// None: pingora's default module is response compression, which is the app's business.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        session.set_read_timeout(Some(BODY_SILENCE));
        session.set_write_timeout(Some(BODY_SILENCE));
        session.set_total_drain_timeout(Some(fleet::timing::LINGER));
        match self.begin(session, ctx) {
            Ok(()) => Ok(()),
            Err(refusal) => ctx.refuse(refusal),
        }
    }

    /// Gets in here rather than in `upstream_peer`: after a refusal there, pingora gives the
    /// connection up.
    async fn request_filter(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        match self.enter(ctx).await {
            Ok(peer) => {
                ctx.peer = Some(peer);
                ctx.filtered = true;
                Ok(false)
            }
            Err(refusal) => ctx.refuse(refusal),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        if let Some(peer) = ctx.peer.take() {
            return Ok(peer);
        }
        // A retry: the kept connection was dead, or the route stale.
        ctx.guard = None;
        ctx.refusal = None;
        match self.enter(ctx).await {
            Ok(peer) => Ok(peer),
            Err(refusal) => ctx.refuse(refusal),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        self.connect_failed(ctx, error)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let client = Client {
            address: ctx.client,
            tls: ctx.tls,
            host: &ctx.host,
            request_id: &ctx.account.request_id,
        };
        forward::scrub_request(request, &client)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if end_of_stream || self.keeps_up(session, ctx) {
            return Ok(());
        }
        let detail = "The request's body came too slowly.";
        ctx.refuse(Refusal::new(Kind::BodyTooSlow, detail))
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.target != Some(Target::Api) {
            forward::scrub_response(response, &self.config.domain)?;
        }
        // An event stream nobody announced: from here on it must not keep the workspace awake.
        if ctx.visit == Visit::InFlight && is_event_stream(&response.headers) {
            ctx.visit = Visit::Attached;
            ctx.account.attached();
            if let (Some(route), Some(guard)) = (&ctx.route, &ctx.guard)
                && let Some(attached) = self.reach.attach(route, guard.port).await
            {
                ctx.guard = Some(attached);
            }
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        ctx.guard = None;
        let gone = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        let refusal = ctx.refusal.take().or_else(|| self.explain(error, ctx));
        let Some(refusal) = refusal else {
            return gone;
        };
        let begun = session
            .response_written()
            .is_some_and(|response| !response.status.is_informational() || response.status == 101);
        if begun || self.tell(session, ctx, &refusal).await.is_err() {
            return gone;
        }
        FailToProxy {
            error_code: refusal.kind.status(),
            // Where the connection must end, `tell` turned keep-alive off; then this means an
            // orderly end instead of a reset.
            can_reuse_downstream: true,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Ctx) {
        let account = &mut ctx.account;
        account.status = session
            .response_written()
            .map_or(0, |response| response.status.as_u16());
        account.bytes_in = u64::try_from(session.body_bytes_read()).unwrap_or(u64::MAX);
        account.bytes_out = u64::try_from(session.body_bytes_sent()).unwrap_or(u64::MAX);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Gives a request one spelling: origin-form, and our host where the visitor's was spelled
/// otherwise.
fn normalize(req: &mut RequestHeader, host: &str, respelled: bool) -> Result<()> {
    if req.version == Version::HTTP_2 {
        if respelled {
            let mut parts = req.uri.clone().into_parts();
            parts.authority = host.parse().ok();
            if let Ok(uri) = http::Uri::from_parts(parts) {
                req.set_uri(uri);
            }
            if req.headers.contains_key(HOST) {
                req.insert_header(HOST, host)?;
            }
        }
        return Ok(());
    }
    if head::absolute_authority(req.raw_path()).is_some() {
        let path = req.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.to_owned();
        let uri =
            http::Uri::try_from(path).map_err(|_| Error::new_down(ErrorType::InvalidHTTPHeader))?;
        req.set_uri(uri);
    }
    if respelled {
        req.insert_header(HOST, host)?;
    }
    Ok(())
}

fn asks_for_events(headers: &HeaderMap) -> bool {
    starts_with(headers.get(ACCEPT), b"text/event-stream")
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    starts_with(headers.get(CONTENT_TYPE), b"text/event-stream")
}

fn is_grpc(req: &RequestHeader) -> bool {
    starts_with(req.headers.get(CONTENT_TYPE), b"application/grpc")
}

fn starts_with(value: Option<&HeaderValue>, prefix: &[u8]) -> bool {
    value
        .and_then(|value| value.as_bytes().get(..prefix.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
