//! The order in which a request is treated: name it, take slashes off, is this node ready, whose
//! key is it, then the handler; and on the way back every error gets its JSON.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use agent_api::Problem;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body::Body as HttpBody;
use serde_json::json;
use tokio::sync::watch;
use tower::util::MapRequest;
use tracing::Instrument as _;

use crate::body::Drained;
use crate::console::{self, Console};
use crate::keys::KeyStore;
use crate::{auth, request_id};

/// Everything around the API's router.
pub(crate) fn app(
    api: Router,
    keys: Arc<KeyStore>,
    ready: watch::Receiver<bool>,
    console: Console,
) -> Router {
    Router::new()
        .merge(api)
        .merge(console::routes(console.clone()))
        .route("/", get(welcome).with_state(console))
        .route("/health", get(health).with_state(ready.clone()))
        .layer(middleware::from_fn_with_state(keys, auth::authenticate))
        .layer(middleware::from_fn_with_state(ready, only_when_ready))
        .layer(middleware::from_fn(name_and_shape))
}

/// What a connection calls: the router, after slashes at the end were taken off (a layer of the
/// router would come too late: after routing).
pub(crate) fn entrance<B>(router: Router) -> MapRequest<Router, fn(http::Request<B>) -> Request>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Unpin + Send + 'static,
{
    MapRequest::new(router, |mut request: http::Request<B>| {
        if let Some(uri) = without_slash(request.uri()) {
            *request.uri_mut() = uri;
        }
        request.map(|body| Body::new(Drained::new(body)))
    })
}

/// `None`: there was none to take off.
fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let short = path.trim_end_matches('/');
    if short.len() == path.len() || path == "/" {
        return None;
    }
    let short = if short.is_empty() { "/" } else { short };
    let text = match uri.query() {
        Some(query) => format!("{short}?{query}"),
        None => short.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

async fn name_and_shape(request: Request, next: Next) -> Response {
    let id = request_id::of(request.headers());
    let span = tracing::info_span!(
        "api",
        request_id = %id,
        method = %request.method(),
        path = request.uri().path(),
    );
    let began = Instant::now();
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match handled.instrument(span.clone()).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(parent: &span, "a handler panicked");
            Problem::internal().into_response()
        }
    };
    let mut response = Problem::finish(response, &id);
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    tracing::debug!(parent: &span, status = response.status().as_u16(), elapsed = ?began.elapsed());
    response
}

async fn only_when_ready(
    State(ready): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    if *ready.borrow() || request.uri().path() == "/health" {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting; try again in a moment",
    )
    .into_response()
}

async fn health(State(ready): State<watch::Receiver<bool>>) -> Response {
    let ready = *ready.borrow();
    if ready {
        return Json(json!({ "status": "ok" })).into_response();
    }
    let body = Json(json!({ "status": "starting", "detail": "starting" }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn welcome(State(console): State<Console>, headers: HeaderMap) -> Response {
    if console.is_at(&headers) {
        return console.page(&headers);
    }
    Json(json!({
        "name": "fleeks",
        "api": "/api/v1/sdk",
        "health": "/health",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "console": "/console",
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_go_and_nothing_else() {
        let table = [
            ("/a/", Some("/a")),
            ("/a//", Some("/a")),
            ("/a/?x=/", Some("/a?x=/")),
            ("/a", None),
            ("/", None),
            ("//", Some("/")),
            ("/a%2F", None),
            ("http://h:1/a/?b", Some("http://h:1/a?b")),
        ];
        for (uri, expected) in table {
            let short = without_slash(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(short.as_deref(), expected, "{uri}");
        }
    }
}
