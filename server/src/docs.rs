//! The API's description and a page that shows it: everything from here, nothing from elsewhere.
//!
//! Must never happen here: a description that is not made from the code that serves.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa::openapi::OpenApi;

const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; \
     style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes(document: OpenApi) -> Router {
    let document = agent_api::described(document);
    let json = serde_json::to_vec(&document).unwrap_or_else(|error| {
        tracing::error!(%error, "the API's description cannot be written");
        b"{}".to_vec()
    });
    let json = Bytes::from(json);
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { file("application/json", json) }),
        )
        .route(
            "/docs",
            get(|| async { file("text/html; charset=utf-8", PAGE) }),
        )
        .route(
            "/docs/page.css",
            get(|| async { file("text/css; charset=utf-8", STYLE) }),
        )
        .route(
            "/docs/page.js",
            get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }),
        )
}

fn file(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body.into()).into_response()
}

#[cfg(test)]
mod tests;
