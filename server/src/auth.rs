//! Who calls: the key in `X-API-Key` or `Authorization: Bearer`, and its share of this node.
//!
//! Must never happen here: a cookie that authenticates; two texts for a wrong key that tell how
//! wrong it is (a revoked one was right once, and says so).

use std::sync::Arc;

use agent_api::Problem;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::body::Held;
use crate::keys::{KeyStore, Verdict};

/// Paths that anyone may see.
const OPEN: &[&str] = &["/health", "/"];

pub(crate) async fn authenticate(
    State(keys): State<Arc<KeyStore>>,
    mut request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let entry = match presented(request.headers()) {
        None => return refused("an API key is required: send X-API-Key or Authorization: Bearer"),
        Some(key) => match keys.check(key) {
            Verdict::Valid(entry) => entry,
            Verdict::Revoked => return refused("this API key was revoked"),
            Verdict::Unknown => return refused("invalid API key"),
        },
    };
    entry.usage().count();
    let Some(slot) = entry.slot() else {
        return Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests of this key are running; wait for one to end",
        )
        .into_response();
    };
    request.extensions_mut().insert(entry.caller(&keys));
    let response = next.run(request).await;
    response.map(|body| Body::new(Held::new(body, slot)))
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
