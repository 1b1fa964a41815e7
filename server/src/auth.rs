//! Who calls: the key in `X-API-Key` or `Authorization: Bearer`, and its share of this node.
//!
//! Must never happen here: a cookie that authenticates; two texts for a wrong key that tell how
//! wrong it is (a revoked one was right once, and says so).

use std::sync::Arc;

use agent_api::{Gatekeeper, Problem, StillGood};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fleet::record::Scope;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::body::Held;
use crate::console;
use crate::keys::{Entry, KeyStore, Verdict};
use crate::{limit, scope};

/// Paths that anyone may see, and Socket.IO, where the key comes in a packet (see [`crate::live`]).
const OPEN: &[&str] = &[
    crate::live::PATH,
    "/health",
    "/",
    "/openapi.json",
    "/docs",
    "/docs/page.css",
    "/docs/page.js",
];

pub(crate) async fn authenticate(
    State(keys): State<Arc<KeyStore>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || console::is_there(path) {
        return next.run(request).await;
    }
    let needed = scope::needed(request.method(), path);
    let Some(key) = presented(request.headers()) else {
        if scope::key_may_follow(path, request.headers()) {
            let judge = move |key: &str| {
                let entry = admit(&keys, key, needed)?;
                Ok((entry.caller(), still_good(&keys, &entry)))
            };
            request.extensions_mut().insert(Gatekeeper::new(judge));
            return next.run(request).await;
        }
        return refused("an API key is required: send X-API-Key or Authorization: Bearer");
    };
    let entry = match admit(&keys, key, needed) {
        Ok(entry) => entry,
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
            return refused(problem.detail());
        }
        Err(problem) => return problem.into_response(),
    };
    let Some(slot) = entry.places.request() else {
        entry.usage().refused.add(1);
        return Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests of this key are running; wait for one to end",
        )
        .into_response();
    };
    let extensions = request.extensions_mut();
    extensions.insert(entry.caller());
    extensions.insert(still_good(&keys, &entry));
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let goes_on = kind.is_some_and(|kind| kind == "text/event-stream");
    response.map(|body| match goes_on {
        // It ends with the key.
        true => Body::new(Held::until(body, slot, async move { entry.ended().await })),
        false => Body::new(Held::new(body, slot)),
    })
}

/// Judges a key, and counts its use.
fn admit(keys: &KeyStore, key: &str, needed: Option<Scope>) -> Result<Arc<Entry>, Problem> {
    let wrong = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    let entry = match keys.check(key) {
        Verdict::Valid(entry) => entry,
        Verdict::Revoked => return wrong("this API key was revoked"),
        Verdict::Expired => return wrong("this API key has expired"),
        Verdict::Unknown => return wrong("invalid API key"),
    };
    let usage = entry.usage();
    if let Some(needed) = needed
        && !entry.allows(needed)
    {
        usage.refused.add(1);
        let word = scope::word(needed);
        let detail = format!("this API key does not have the scope {word}, which the call needs");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if let Err(wait) = entry.take(keys.clock()) {
        usage.refused.add(1);
        let detail = "this API key is used more often than its limit allows";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(problem.retry_after(limit::seconds(wait)));
    }
    usage.requests.add(1);
    Ok(entry)
}

fn still_good(keys: &Arc<KeyStore>, entry: &Arc<Entry>) -> StillGood {
    let (keys, entry) = (Arc::clone(keys), Arc::clone(entry));
    StillGood::new(move || keys.is_good(&entry))
}

/// The SDK sends both; the first that is there counts.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |value: &'static str| headers.get(value)?.to_str().ok();
    if let Some(key) = text("x-api-key") {
        return Some(key.trim());
    }
    let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = bearer.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn refused(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
