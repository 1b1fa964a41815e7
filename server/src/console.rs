//! The console: a page for owners and operators, out of the binary, under `/console` on every host
//! of the API and at `/` of `console.<domain>`. It speaks the same API as everybody, from its own
//! origin, with a key that its user types in.
//!
//! Must never happen here: a key, a cookie, a file of the host's, or HTML where the API is.

mod pack;

use std::collections::HashMap;
use std::sync::Arc;

use agent_api::Problem;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

pub use pack::BadPack;
use pack::{Encoding, File};

const PAGE: &str = "index.html";

/// Everything from here, nothing inline; images also from what the page itself has fetched.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The console's files, in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console {
    files: Arc<HashMap<String, File>>,
    /// `console.<domain>`, in lower case.
    host: Arc<str>,
}

impl Console {
    /// Reads what `make console` packed. `domain` is the platform's, in lower case.
    ///
    /// # Errors
    /// It is not such a pack.
    pub fn open(pack: &'static [u8], domain: &str) -> Result<Self, BadPack> {
        let files = pack::read(pack)?;
        if !files.contains_key(PAGE) {
            return Err(BadPack::NoPage);
        }
        Ok(Self {
            files: Arc::new(files),
            host: format!("console.{domain}").into(),
        })
    }

    /// Whether `/` of the host that these headers name is the console.
    pub(crate) fn is_at(&self, headers: &HeaderMap) -> bool {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let name = host.map(|host| host.split_once(':').map_or(host, |(name, _)| name));
        name.is_some_and(|name| name.eq_ignore_ascii_case(&self.host))
    }

    /// The page itself.
    pub(crate) fn page(&self, headers: &HeaderMap) -> Response {
        self.file(PAGE, headers)
    }

    fn file(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(file) = self.files.get(path) else {
            return Problem::not_found("the console has no such file").into_response();
        };
        let (encoding, body) = file.best(|encoding| is_accepted(headers, encoding.name()));
        let tag = format!("\"{}-{}\"", file.hash, encoding.name());
        let cache = match file.immutable {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let mut response = match is_known(headers, &tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => {
                let kind = [(header::CONTENT_TYPE, file.kind.as_str())];
                (kind, Bytes::from_static(body)).into_response()
            }
        };
        let fields = [
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, cache),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ];
        let encoded =
            (encoding != Encoding::Identity).then_some((header::CONTENT_ENCODING, encoding.name()));
        for (name, value) in fields.into_iter().chain(encoded) {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The console's paths, for anybody: what they serve is public.
pub(crate) fn routes(console: Console) -> Router {
    Router::new()
        .route("/console", get(page))
        .route("/console/{*path}", get(file))
        .with_state(console)
}

/// Whether one of [`routes`] is at this path.
pub(crate) fn is_there(path: &str) -> bool {
    path.strip_prefix("/console")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn page(State(console): State<Console>, request: Request) -> Response {
    console.page(request.headers())
}

async fn file(
    State(console): State<Console>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    console.file(&path, &headers)
}

/// Whether `Accept-Encoding` names it, and not with a weight of nothing.
fn is_accepted(headers: &HeaderMap, encoding: &str) -> bool {
    let fields = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut choices = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    choices.any(|choice| {
        let (name, weight) = choice.split_once(';').unwrap_or((choice, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case(encoding)
            && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// Whether the client has what the tag names.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(|known| known.trim().trim_start_matches("W/"));
    tags.any(|known| known == tag || known == "*")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt as _;

    pub(crate) fn console() -> Console {
        let pack = pack::tests::sample();
        Console::open(Box::leak(pack.into_boxed_slice()), "fleeks.localhost").unwrap()
    }

    async fn ask(path: &str, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = http::Request::builder().uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = routes(console()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, body.to_vec())
    }

    #[tokio::test]
    async fn the_page_is_strict_and_never_stale() {
        let (status, headers, body) = ask("/console", &[]).await;
        assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"<page>"[..]));
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        let tag = headers[header::ETAG].to_str().unwrap();
        let (status, headers, body) = ask("/console", &[("if-none-match", tag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert!(headers.contains_key(header::ETAG));
    }

    #[tokio::test]
    async fn what_is_named_by_its_content_stays_and_comes_small() {
        let path = "/console/assets/a-1.js";
        for (accepted, encoding, expected) in [
            ("gzip, deflate, br;q=0.9", Some("br"), "BR"),
            ("br;q=0, gzip", Some("gzip"), "GZP"),
            ("identity", None, "let a"),
        ] {
            let (status, headers, body) = ask(path, &[("accept-encoding", accepted)]).await;
            assert_eq!(status, StatusCode::OK);
            let given = headers.get(header::CONTENT_ENCODING);
            assert_eq!(given.map(|value| value.to_str().unwrap()), encoding);
            assert_eq!(body, expected.as_bytes());
            assert_eq!(headers[header::VARY], "accept-encoding");
            let cache = headers[header::CACHE_CONTROL].to_str().unwrap();
            assert!(cache.contains("immutable"));
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_no_page() {
        for path in ["/console/x", "/console/../etc/passwd", "/console/assets/"] {
            let (status, headers, _) = ask(path, &[]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(!headers.contains_key(header::ETAG));
        }
    }

    #[test]
    fn hosts() {
        let console = console();
        let is_at = |host: &str| {
            console.is_at(&HeaderMap::from_iter([(
                header::HOST,
                host.parse().unwrap(),
            )]))
        };
        assert!(is_at("console.fleeks.localhost") && is_at("CONSOLE.fleeks.localhost:8443"));
        assert!(!is_at("api.fleeks.localhost") && !is_at("127.0.0.1:8080"));
        assert!(!console.is_at(&HeaderMap::new()));
    }
}
