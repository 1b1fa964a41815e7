//! The API that fleeks-sdk speaks: JSON of the wire over the façade [`Workspaces`].
//!
//! The router expects a [`Caller`] in the request's extensions and leaves errors as [`Problem`]s
//! without a body; the server puts in the one and writes out the others. It serves paths without
//! a trailing slash; the server takes slashes off.
//!
//! Must never happen here: a key checked, a container touched, a path of the host in an answer,
//! a body of unknown size in memory.

mod account;
mod caller;
mod containers;
mod elsewhere;
mod files;
mod input;
pub mod live;
mod openapi;
mod overview;
mod pools;
mod previews;
mod problem;
mod sharing;
mod stamp;
mod streams;
mod templates;
mod terminal;
mod terminals;
mod urls;
pub mod websocket;
mod workspaces;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use fleet::timing;
use http::StatusCode;
use pool_backend::Workspaces;
use utoipa_axum::router::OpenApiRouter;

pub use caller::{Caller, Count, Counter, Gatekeeper, KeyFacts, KeyUsage, StillGood};
pub use elsewhere::refusals;
pub use input::JsonBody;
pub use openapi::described;
pub use problem::Problem;
pub use stamp::Stamp;
pub use urls::PublicUrls;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The engine.
    pub workspaces: Workspaces,
    /// How the world reaches what runs here.
    pub public: std::sync::Arc<PublicUrls>,
    /// Signs the tokens of share links.
    pub share_key: std::sync::Arc<fleet::share::ShareKey>,
    /// All websockets of this server.
    pub sockets: websocket::Websockets,
}

/// Every path of the API but `/health` and keys, which are the server's.
pub fn router(state: ApiState) -> OpenApiRouter {
    calls().with_state(state)
}

/// The same without a state, to be looked at.
pub fn calls() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .merge(workspaces::routes())
        .merge(files::routes())
        .merge(terminal::routes())
        .merge(terminals::routes())
        .merge(containers::routes())
        .merge(pools::routes())
        .merge(overview::routes())
        .merge(templates::routes())
        .merge(previews::routes())
        .merge(sharing::routes())
        .merge(account::routes())
        .route_layer(middleware::from_fn(deadline))
        .merge(elsewhere::routes())
        .merge(files::streaming_routes())
}

/// Answers before the SDK gives up. The body of an answer may take longer.
async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(timing::API_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "not done within {} s; it may still be going on",
                timing::API_DEADLINE.as_secs()
            ),
        )
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_answered_before_the_sdk_gives_up() {
        let never = get(std::future::pending::<&'static str>);
        let router: Router = Router::new()
            .route("/", never)
            .route_layer(middleware::from_fn(deadline));
        let began = tokio::time::Instant::now();
        let response = router.oneshot(Request::new(Body::empty())).await;
        assert_eq!(response.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        assert!(began.elapsed() < std::time::Duration::from_secs(30));
    }
}
