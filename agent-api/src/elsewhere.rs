//! What belongs to the customer's own AI and not to a sandbox platform: agents, schedules, channels,
//! automations, deploys, environments, voice, AI keys. Whoever looks around is told the truth, that
//! there is nothing, in the shapes that the SDK reads; whoever wants something done gets a 501 that
//! says whose job it is. Embeds come later.
//!
//! Must never happen here: a success without anything done.

use axum::extract::State;
use axum::routing::{MethodRouter, any};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Params, number, project};
use crate::{ApiState, Caller, Problem};

/// Path, and what it is about. A GET of one by its id is a 404, all the rest 501.
const ELSEWHERE: &[(&str, &str)] = &[
    ("/api/v1/sdk/agents", "agents"),
    ("/api/v1/sdk/deploy", "deploys"),
    ("/api/v1/sdk/schedules", "schedules"),
    ("/api/v1/sdk/channels", "channels"),
    ("/api/v1/sdk/automations", "automations"),
    ("/api/v1/sdk/environments", "environments"),
    ("/api/v1/voice", "voice"),
    ("/api/v1/integrations/ai-keys", "AI keys"),
];

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    let served = OpenApiRouter::new()
        .routes(routes!(agents))
        .routes(routes!(schedules))
        .routes(routes!(schedule_quota))
        .routes(routes!(channels))
        .routes(routes!(channel_types))
        .routes(routes!(automations))
        .routes(routes!(deploys))
        .routes(routes!(secrets))
        .routes(routes!(voice_config))
        .routes(routes!(voice_sessions))
        .routes(routes!(voice_stats))
        .routes(routes!(voice_health))
        .routes(routes!(ai_keys))
        .routes(routes!(embeds));
    served.merge(refusals().into())
}

/// What is another's business and answers only that. Of all calls of [`crate::router`] these alone are
/// not in the API's description. Methods of one path stand together, so those that look at nothing
/// are refused by the paths' own fallbacks.
pub fn refusals() -> Router<ApiState> {
    let mut router = Router::new();
    for &(path, what) in ELSEWHERE {
        let answer = any(move |method: http::Method| async move {
            match method {
                http::Method::GET => {
                    Problem::not_found(format!("no such thing: there are no {what} here"))
                }
                _ => not_ours(what),
            }
        });
        router = router.route(&format!("{path}/{{*rest}}"), answer);
    }
    for &(path, what) in ELSEWHERE {
        router = router.route(path, changes(move || not_ours(what)));
    }
    let later = || Problem::new(StatusCode::NOT_IMPLEMENTED, "embeds: not implemented yet");
    router
        .route(
            "/api/v1/sdk/deploy/secrets/{project_id}",
            changes(|| not_ours("deploys")),
        )
        .route("/api/v1/sdk/embeds", changes(later))
        .route(
            "/api/v1/sdk/embeds/{*rest}",
            any(move || async move { later() }),
        )
}

/// Refuses what would change something.
fn changes(
    refusal: impl Fn() -> Problem + Clone + Send + Sync + 'static,
) -> MethodRouter<ApiState> {
    let answer = move || std::future::ready(refusal());
    axum::routing::post(answer.clone())
        .put(answer.clone())
        .patch(answer.clone())
        .delete(answer)
}

fn not_ours(what: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        format!(
            "{what} are not served here: fleeks runs your workspaces, your own AI does the rest; \
             workspaces, files, terminal, containers and previews are served"
        ),
    )
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Page {
    project_id: Option<String>,
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
    #[param(value_type = Option<u64>)]
    offset: Option<String>,
}

impl Page {
    fn bounds(&self) -> Result<(u64, u64), Problem> {
        let limit = number("limit", self.limit.as_deref(), 50, 1..=1000)?;
        Ok((
            limit,
            number("offset", self.offset.as_deref(), 0, 0..=1_000_000_000)?,
        ))
    }
}

/// There are no agents
#[utoipa::path(get, path = "/api/v1/sdk/agents", tag = "not served", params(Page),
    responses((status = 200, body = Object)))]
async fn agents(
    State(state): State<ApiState>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<Value>, Problem> {
    let id = page.project_id.unwrap_or_default();
    if !id.is_empty() {
        state.workspaces.get(&caller.owner, &project(&id)?)?;
    }
    Ok(Json(
        json!({ "project_id": id, "total_count": 0, "agents": [] }),
    ))
}

/// There are no schedules
#[utoipa::path(get, path = "/api/v1/sdk/schedules", tag = "not served", params(Page),
    responses((status = 200, body = Object)))]
async fn schedules(Params(page): Params<Page>) -> Result<Json<Value>, Problem> {
    let (limit, offset) = page.bounds()?;
    Ok(Json(json!({
        "schedules": [], "items": [], "total": 0, "limit": limit, "offset": offset,
    })))
}

/// No schedules are allowed, and none are used
#[utoipa::path(get, path = "/api/v1/sdk/schedules/quota", tag = "not served",
    responses((status = 200, body = Object)))]
async fn schedule_quota() -> Json<Value> {
    Json(json!({
        "agent_hours": { "used": 0.0, "limit": 0.0, "unit": "hours" },
        "schedules": { "current": 0, "max_allowed": 0 },
        "concurrent_daemons": { "current": 0, "max_allowed": 0 },
        "billing_period_start": "",
        "billing_period_end": "",
        "tier": "none",
    }))
}

/// There are no channels
#[utoipa::path(get, path = "/api/v1/sdk/channels", tag = "not served", params(Page),
    responses((status = 200, body = Object)))]
async fn channels(Params(page): Params<Page>) -> Result<Json<Value>, Problem> {
    let (limit, offset) = page.bounds()?;
    Ok(Json(
        json!({ "channels": [], "total": 0, "limit": limit, "offset": offset }),
    ))
}

/// There are no types of channels
#[utoipa::path(get, path = "/api/v1/sdk/channels/types", tag = "not served",
    responses((status = 200, body = Vec<Object>)))]
async fn channel_types() -> Json<Value> {
    Json(json!([]))
}

/// There are no automations
#[utoipa::path(get, path = "/api/v1/sdk/automations", tag = "not served", params(Page),
    responses((status = 200, body = Object)))]
async fn automations(Params(page): Params<Page>) -> Result<Json<Value>, Problem> {
    let (limit, offset) = page.bounds()?;
    Ok(Json(
        json!({ "automations": [], "total": 0, "limit": limit, "offset": offset }),
    ))
}

/// There are no deploys
#[utoipa::path(get, path = "/api/v1/sdk/deploy/list", tag = "not served", params(Page),
    responses((status = 200, body = Object)))]
async fn deploys(Params(page): Params<Page>) -> Result<Json<Value>, Problem> {
    let (limit, _) = page.bounds()?;
    Ok(Json(
        json!({ "deployments": [], "total": 0, "limit": limit }),
    ))
}

/// There are no secrets of deploys
#[utoipa::path(get, path = "/api/v1/sdk/deploy/secrets/{project_id}", tag = "not served",
    params(("project_id" = String, Path)), responses((status = 200, body = Object)))]
async fn secrets(
    State(state): State<ApiState>,
    caller: Caller,
    axum::extract::Path(project_id): axum::extract::Path<String>,
) -> Result<Json<Value>, Problem> {
    crate::workspaces::find(&state, &caller, &project_id)?;
    Ok(Json(
        json!({ "project_id": project_id, "secrets": [], "count": 0 }),
    ))
}

/// Voice is not there
#[utoipa::path(get, path = "/api/v1/voice/config", tag = "not served",
    responses((status = 200, body = Object)))]
async fn voice_config() -> Json<Value> {
    Json(json!({ "enabled": false, "models": [], "voices": [], "limits": {} }))
}

/// There are no voice sessions
#[utoipa::path(get, path = "/api/v1/voice/sessions", tag = "not served",
    responses((status = 200, body = Object)))]
async fn voice_sessions() -> Json<Value> {
    Json(json!({ "sessions": [], "total": 0 }))
}

/// Nobody speaks
#[utoipa::path(get, path = "/api/v1/voice/stats", tag = "not served",
    responses((status = 200, body = Object)))]
async fn voice_stats() -> Json<Value> {
    Json(json!({ "enabled": false, "active_sessions": 0, "total_sessions": 0, "capacity": 0 }))
}

/// Voice is not there
#[utoipa::path(get, path = "/api/v1/voice/health", tag = "not served",
    responses((status = 200, body = Object)))]
async fn voice_health() -> Json<Value> {
    Json(json!({ "status": "disabled", "healthy": false, "enabled": false }))
}

/// There are no AI keys
#[utoipa::path(get, path = "/api/v1/integrations/ai-keys", tag = "not served",
    responses((status = 200, body = Vec<Object>)))]
async fn ai_keys() -> Json<Value> {
    Json(json!([]))
}

/// There are no embeds yet
#[utoipa::path(get, path = "/api/v1/sdk/embeds", tag = "not served",
    responses((status = 200, body = Object)))]
async fn embeds() -> Json<Value> {
    Json(json!({ "embeds": [], "total": 0 }))
}
