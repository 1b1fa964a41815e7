//! Pingora's proxy with our decisions: each method is a call or two into a stage.
//!
//! Must never happen here: a decision of its own, or a wait without a bound.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet::door::{Guard, PortChoice, Visit};
use fleet::id::Slug;
use fleet::share::ShareKey;
use fleet::timing::{BODY_GRACE, BODY_SILENCE};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::account::Account;
use crate::classify::Target;
use crate::config::GatewayConfig;
use crate::events::Thread;
use crate::forward::{self, Client};
use crate::metrics::{Attached, Metrics};
use crate::peer;
use crate::reach::{Entered, Reach, Wish};
use crate::refusal::{Format, Kind, Refusal};
use crate::share::{self, Place, Shown};

/// A request body slower than this on average, after its grace, is cut off: bytes per second.
const BODY_MIN_RATE: u64 = 128;

/// See the module.
#[derive(Clone)]
pub(crate) struct Edge {
    /// Settings.
    pub config: GatewayConfig,
    /// Into workspaces.
    pub reach: Arc<Reach>,
    /// Into the node's HTTP listener.
    pub api_socket: PathBuf,
    /// Checks the tokens of share links.
    pub share_key: Arc<ShareKey>,
    /// Where connections to apps really go.
    pub detours: Arc<peer::Detours>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// One request on its way.
pub(crate) struct Ctx {
    pub account: Account,
    pub target: Option<Target>,
    /// The host asked for, checked and lower case, with its port.
    pub host: String,
    /// What is asked for there; for upgrades.
    pub path: String,
    pub tls: bool,
    pub client: Option<IpAddr>,
    pub visit: Visit,
    /// Tokens of share links.
    pub shown: Shown,
    pub format: Format,
    /// A person's navigation may get the holding page.
    pub navigation: bool,
    pub body_started: Option<Instant>,
    pub guard: Option<Guard>,
    /// Where to, found by the filter for the first try.
    pub peer: Option<Box<HttpPeer>>,
    /// Ends an event stream that has lost its container.
    pub thread: Option<AbortOnDropHandle<()>>,
    /// Past the filters: pingora will not go on with the connection after an error.
    pub filtered: bool,
    pub connect_failure: Arc<peer::Failure>,
    pub refusal: Option<Refusal>,
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
    /// Gets the visitor into the workspace and remembers the guard.
    async fn enter(&self, ctx: &mut Ctx) -> Result<Box<HttpPeer>, Refusal> {
        let Some(Target::Preview { slug, port }) = &ctx.target else {
            return Ok(Box::new(peer::api(&self.api_socket, ctx.visit)?));
        };
        let link = self.link(slug, &ctx.host);
        let place = Place { slug, port: *port };
        let shown = || share::links(&self.share_key, place, &ctx.shown.tokens);
        let wish = Wish {
            slug,
            port: port.map_or(PortChoice::Main, PortChoice::Number),
            visit: ctx.visit,
            holding_page_since: ctx.navigation.then(|| ctx.account.started()),
            link: &link,
            shown: &shown,
        };
        let Entered { guard } = self.reach.enter(&wish).await?;
        let failure = &ctx.connect_failure;
        let thread = (ctx.visit == Visit::Attached).then(Arc::<Thread>::default);
        let hanging = thread
            .as_ref()
            .map(|thread| thread.hang_on(guard.stay.clone()));
        let (upstream, detours) = (&guard.upstream, &self.detours);
        let peer = peer::preview(upstream, detours, failure, ctx.visit, thread.as_ref());
        ctx.thread = hanging;
        ctx.guard = Some(guard);
        Ok(Box::new(peer))
    }

    /// What whoever opened a share link is told. Wakes nothing.
    async fn redeem(&self, ctx: &Ctx, method: &Method, link: &(String, String)) -> Refusal {
        let Some(Target::Preview { slug, port }) = &ctx.target else {
            return Refusal::new(Kind::NotFound, "Nothing has this address.");
        };
        if *method != Method::GET && *method != Method::HEAD {
            return Refusal::new(Kind::Private, "A share link is opened with GET.");
        }
        let route = match self.reach.fresh(slug).await {
            Ok(route) => route,
            Err(refusal) => return refusal,
        };
        let place = Place { slug, port: *port };
        let at = (ctx.tls, ctx.host.as_str());
        share::redeem(&self.share_key, place, route.private.as_deref(), link, at)
    }

    /// Makes addresses of a workspace's other ports, at the outer port that the visitor used.
    pub fn link<'a>(
        &'a self,
        slug: &'a Slug,
        host: &'a str,
    ) -> impl Fn(u16) -> String + Sync + use<'a> {
        move |port| {
            let outer = host.split_once(':').map(|(_, outer)| outer);
            let (colon, outer) = outer.map_or(("", ""), |outer| (":", outer));
            format!("//{port}--{slug}.{}{colon}{outer}/", self.config.domain)
        }
    }

    /// Cuts off bodies that trickle. gRPC streams may be quiet; silence has its own bound.
    fn keeps_up(&self, session: &Session, ctx: &mut Ctx) -> bool {
        let started = *ctx.body_started.get_or_insert_with(Instant::now);
        is_grpc(session.req_header())
            || is_fast_enough(started.elapsed(), session.body_bytes_read())
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
            path: String::new(),
            tls: false,
            client: None,
            visit: Visit::InFlight,
            shown: Shown::default(),
            format: Format::Json,
            navigation: false,
            body_started: None,
            guard: None,
            peer: None,
            thread: None,
            filtered: false,
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
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if let Some(link) = ctx.shown.link.take() {
            let told = self.redeem(ctx, &session.req_header().method, &link).await;
            return ctx.refuse(told);
        }
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
            ctx.account.attached(Attached::Events);
            if let Some(guard) = &ctx.guard {
                guard.stay.attach();
            }
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        // A comment in an event stream is a heartbeat.
        let said = |body: &Bytes| !body.is_empty() && !body.starts_with(b":");
        if let (Visit::Attached, Some(guard)) = (ctx.visit, &ctx.guard)
            && body.as_ref().is_some_and(said)
        {
            guard.stay.answered();
        }
        Ok(None)
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

/// Whether a body of which `received` bytes came in `elapsed` may go on.
fn is_fast_enough(elapsed: Duration, received: usize) -> bool {
    let received = u64::try_from(received).unwrap_or(u64::MAX);
    elapsed < BODY_GRACE || received >= elapsed.as_secs().saturating_mul(BODY_MIN_RATE)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    starts_with(headers.get(CONTENT_TYPE), b"text/event-stream")
}

fn is_grpc(req: &RequestHeader) -> bool {
    starts_with(req.headers.get(CONTENT_TYPE), b"application/grpc")
}

/// Whether a field begins with `prefix`, in any case.
pub(crate) fn starts_with(value: Option<&HeaderValue>, prefix: &[u8]) -> bool {
    value
        .and_then(|value| value.as_bytes().get(..prefix.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_be_slow_at_first_but_not_forever() {
        let second = Duration::from_secs(1);
        assert!(is_fast_enough(BODY_GRACE - second, 0));
        assert!(!is_fast_enough(BODY_GRACE, 30));
        assert!(is_fast_enough(BODY_GRACE, 30 * 128));
        assert!(!is_fast_enough(BODY_GRACE * 100, 30 * 128));
    }
}
