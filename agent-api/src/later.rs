//! Paths of the SDK that are not served yet: 501 with a sentence, so that a caller can tell them
//! from a typing error.

use axum::Router;
use axum::routing::any;
use http::StatusCode;

use crate::{ApiState, Problem};

/// What is not served yet, and its name in the answer.
const LATER: &[(&str, &str)] = &[
    ("/api/v1/sdk/agents", "agents"),
    ("/api/v1/sdk/embeds", "embeds"),
    ("/api/v1/sdk/deploy", "deploy"),
    ("/api/v1/sdk/schedules", "schedules"),
    ("/api/v1/sdk/channels", "channels"),
    ("/api/v1/sdk/automations", "automations"),
    ("/api/v1/sdk/environments", "environments"),
    ("/api/v1/preview/sessions", "preview sessions"),
    ("/api/v1/voice", "voice"),
    ("/api/v1/integrations/ai-keys", "AI keys"),
];

pub(crate) fn routes() -> Router<ApiState> {
    LATER.iter().fold(Router::new(), |router, &(path, what)| {
        let answer = any(move || async move { not_yet(format!("{what}: not implemented yet")) });
        router
            .route(path, answer.clone())
            .route(&format!("{path}/{{*rest}}"), answer)
    })
}

fn not_yet(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, detail)
}
