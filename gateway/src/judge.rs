//! The judgement of a request by its head: who asks for what, and what is refused before anybody
//! is asked. For HTTP/1 [`head`] has looked at the raw bytes before.
//!
//! Must never happen here: I/O.

use fleet::door::Visit;
use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::classify::{self, Target, Via};
use crate::config::GatewayConfig;
use crate::edge::{Ctx, Edge, starts_with};
use crate::forward;
use crate::head;
use crate::metrics::{self, Attached};
use crate::refusal::{Format, Kind, Refusal};
use crate::share::Shown;
use crate::upgrade::Visitor;

type Judged<T> = std::result::Result<T, Refusal>;

impl Edge {
    /// Reads who asks for what; refuses what is refused before anybody is asked.
    pub fn begin(&self, session: &mut Session, ctx: &mut Ctx) -> Judged<()> {
        ctx.tls = session
            .digest()
            .is_some_and(|digest| digest.ssl_digest.is_some());
        ctx.client = session
            .client_addr()
            .and_then(|address| address.as_inet().map(std::net::SocketAddr::ip));
        let req = session.req_header_mut();
        ctx.format = Format::of(&req.headers);
        ctx.navigation = req.method == Method::GET && ctx.format == Format::Html;
        if asks_for_events(&req.headers) {
            ctx.visit = Visit::Attached;
            ctx.account.attached(Attached::Events);
        }
        if req.version == Version::HTTP_2 {
            self.check_h2(req)?;
        }
        self.classify(req, ctx)
    }

    /// The same for a request that pingora does not see, as it asks for an upgrade.
    pub fn begin_upgrade(
        &self,
        req: &mut RequestHeader,
        visitor: Visitor,
        ctx: &mut Ctx,
    ) -> Judged<()> {
        (ctx.tls, ctx.client) = (visitor.tls, Some(visitor.peer.ip()));
        ctx.format = Format::of(&req.headers);
        self.classify(req, ctx)
    }

    /// What the strict reading of a head does for HTTP/1 and the h2 library leaves to us.
    fn check_h2(&self, req: &RequestHeader) -> Judged<()> {
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

    fn classify(&self, req: &mut RequestHeader, ctx: &mut Ctx) -> Judged<()> {
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
            Target::Preview { slug, .. } => {
                ctx.account.kind = metrics::Target::Preview;
                slug.as_str().clone_into(&mut ctx.account.target);
                let path = req.uri.path_and_query().map_or("/", |path| path.as_str());
                ctx.shown = Shown::of(&req.headers, path, &ctx.host, &self.share_key);
            }
            Target::Api => {
                ctx.account.kind = metrics::Target::Api;
                "api".clone_into(&mut ctx.account.target);
                // Its callers are machines, whatever they accept.
                ctx.format = Format::Json;
            }
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
        let link = |label: &str| match public_https_port {
            443 => format!("https://{label}.{domain}/"),
            port => format!("https://{label}.{domain}:{port}/"),
        };
        let mut landing = Refusal::new(
            Kind::NotFound,
            "This is a fleeks server. Workspaces and the API have addresses of their own.",
        );
        landing.links.push(("API".to_owned(), link("api")));
        landing.links.push(("Console".to_owned(), link("console")));
        landing
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
