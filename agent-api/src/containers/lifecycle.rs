//! Sleep, wake, and when a workspace does so by itself.
//!
//! Must never happen here: a promise of what was not recorded.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use fleet::lifecycle::State as Life;
use fleet::record::{IdleAction, LifecycleSettings};
use pool_backend::Workspace;
use pool_backend::workspaces::{Lifecycle, MAX_EXTENSION};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::find;
use crate::caller::detached;
use crate::input::within;
use crate::stamp::Stamp;
use crate::workspaces::uptime_seconds;
use crate::{ApiState, Caller, JsonBody, Problem};

/// A week.
const IDLE_MINUTES_MAX: u64 = 7 * 24 * 60;
/// A year.
const DURATION_HOURS_MAX: u64 = 365 * 24;
/// A day.
const HEARTBEAT_SECONDS_MAX: u64 = 24 * 3600;
/// For a client that wants a number before it waits; a request never waits longer.
const RESUME_SECONDS: u64 = 1;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(heartbeat))
        .routes(routes!(show, configure))
        .routes(routes!(extend_timeout))
        .routes(routes!(keep_alive))
        .routes(routes!(freeze))
        .routes(routes!(hibernate))
        .routes(routes!(wake))
}

/// Stop a workspace's processes where they are, in memory
///
/// The SDK has no call for it: idle workspaces are frozen by themselves. For operators.
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/freeze", tag = "lifecycle",
    params(("container_id" = String, Path)), responses((status = 200, body = Object)))]
async fn freeze(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = detached(async move { workspace.freeze().await }).await?;
    Ok(Json(json!({
        "container_id": summary.container,
        "status": "frozen",
        "action": "freeze",
        "estimated_resume_seconds": 0,
        "message": "frozen in memory; the next use goes on where it was",
    })))
}

/// Put a workspace to sleep with its processes
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/hibernate", tag = "lifecycle",
    params(("container_id" = String, Path)), responses((status = 200, body = Object)))]
async fn hibernate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = detached(async move { workspace.hibernate().await }).await?;
    Ok(Json(json!({
        "container_id": summary.container,
        "status": "hibernated",
        "action": "hibernate",
        "estimated_resume_seconds": RESUME_SECONDS,
        "message": "hibernated; the next use wakes it where it was",
    })))
}

/// Start, wake or thaw a workspace
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/wake", tag = "lifecycle",
    params(("container_id" = String, Path)), responses((status = 200, body = Object)))]
async fn wake(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let waking = workspace.clone();
    let summary = detached(async move { waking.wake().await }).await?;
    let woken = workspace.lifecycle().woken;
    Ok(Json(json!({
        "container_id": summary.container,
        "status": "running",
        "action": "wake",
        "estimated_resume_seconds": 0,
        "woken": woken,
        "message": match woken {
            Some(fleet::record::Woken::Volume) =>
                "running; its snapshot could not be used, so it started anew from its files",
            _ => "running",
        },
    })))
}

/// Say that a workspace is in use
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/heartbeat", tag = "lifecycle",
    params(("container_id" = String, Path)), responses((status = 200, body = Object)))]
async fn heartbeat(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let now = Stamp::now();
    workspace.heartbeat();
    let lifecycle = workspace.lifecycle();
    let idle_seconds = u64::from(lifecycle.settings.idle_timeout_minutes) * 60;
    // The SDK wants a time, also of what never idles out.
    let left = lifecycle.idles_out_in;
    let left = left.unwrap_or(Duration::from_secs(idle_seconds));
    Ok(Json(json!({
        "container_id": lifecycle.summary.container,
        "status": "active",
        "state": word(lifecycle.summary.state),
        "last_heartbeat": now,
        "next_timeout_at": Stamp(now.0 + left),
        "idle_timeout_seconds": idle_seconds,
        "message": "",
    })))
}

/// How a workspace stands, and when it sleeps
#[utoipa::path(get, path = "/api/v1/sdk/containers/{container_id}/lifecycle", tag = "lifecycle",
    params(("container_id" = String, Path)), responses((status = 200, body = Object)))]
async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let mut answer = status(&workspace.lifecycle());
    if let Some(snapshot) = workspace.snapshot().await {
        answer["snapshot"] = json!({
            "generation": snapshot.generation,
            "size_bytes": snapshot.bytes,
            "created_at": Stamp(snapshot.created_at),
        });
    }
    Ok(Json(answer))
}

/// What was not sent stays as it was.
#[derive(Deserialize, ToSchema)]
#[schema(as = LifecycleSettings)]
struct Settings {
    idle_timeout_minutes: Option<i64>,
    /// Present and null: unlimited.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    max_duration_hours: Option<Option<i64>>,
    idle_action: Option<String>,
    auto_wake: Option<bool>,
    keep_alive_on_preview: Option<bool>,
    heartbeat_interval_seconds: Option<i64>,
}

fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Settings {
    fn over(self, mut settings: LifecycleSettings) -> Result<LifecycleSettings, Problem> {
        if let Some(minutes) = self.idle_timeout_minutes {
            let name = "idle_timeout_minutes";
            settings.idle_timeout_minutes = bounded(name, minutes, IDLE_MINUTES_MAX)?;
        }
        if let Some(hours) = self.max_duration_hours {
            let bounded = |hours| bounded("max_duration_hours", hours, DURATION_HOURS_MAX);
            settings.max_duration_hours = hours.map(bounded).transpose()?;
        }
        if let Some(action) = self.idle_action {
            settings.idle_action = match action.as_str() {
                "shutdown" => IdleAction::Shutdown,
                "hibernate" => IdleAction::Hibernate,
                "keep_alive" => IdleAction::KeepAlive,
                _ => {
                    return Err(Problem::invalid(
                        "idle_action must be shutdown, hibernate or keep_alive",
                    ));
                }
            };
        }
        if let Some(seconds) = self.heartbeat_interval_seconds {
            let name = "heartbeat_interval_seconds";
            settings.heartbeat_interval_seconds = bounded(name, seconds, HEARTBEAT_SECONDS_MAX)?;
        }
        settings.auto_wake = self.auto_wake.unwrap_or(settings.auto_wake);
        let preview = self.keep_alive_on_preview;
        settings.keep_alive_on_preview = preview.unwrap_or(settings.keep_alive_on_preview);
        Ok(settings)
    }
}

fn bounded(name: &str, value: i64, most: u64) -> Result<u32, Problem> {
    let value = within(name, value, 1..=most)?;
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

/// Set when a workspace sleeps and wakes; what is not sent stays
#[utoipa::path(put, path = "/api/v1/sdk/containers/{container_id}/lifecycle", tag = "lifecycle",
    params(("container_id" = String, Path)), request_body = Settings, responses((status = 200, body = Object)))]
async fn configure(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
    JsonBody(body): JsonBody<Settings>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let settings = body.over(workspace.lifecycle_settings())?;
    set(&workspace, settings).await?;
    Ok(Json(status(&workspace.lifecycle())))
}

async fn set(workspace: &Workspace, settings: LifecycleSettings) -> Result<(), Problem> {
    let workspace = workspace.clone();
    detached(async move { workspace.configure_lifecycle(settings).await }).await
}

/// How much later.
#[derive(Deserialize, ToSchema)]
struct Extension {
    additional_minutes: i64,
}

/// Let a workspace idle out later
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/extend-timeout", tag = "lifecycle",
    params(("container_id" = String, Path)), request_body = Extension, responses((status = 200, body = Object)))]
async fn extend_timeout(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
    JsonBody(body): JsonBody<Extension>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let most = MAX_EXTENSION.as_secs() / 60;
    let minutes = within("additional_minutes", body.additional_minutes, 1..=most)?;
    let more = Duration::from_secs(minutes * 60);
    let extending = workspace.clone();
    let added = detached(async move { extending.extend_timeout(more).await }).await?;
    let added = added.as_secs().div_ceil(60);
    let lifecycle = workspace.lifecycle();
    let settings = &lifecycle.settings;
    let left = lifecycle.idles_out_in.unwrap_or_else(|| {
        Duration::from_secs((u64::from(settings.idle_timeout_minutes) + added) * 60)
    });
    Ok(Json(json!({
        "container_id": lifecycle.summary.container,
        "success": true,
        "added_minutes": added,
        "minutes_extended": added,
        "max_allowed_minutes": most,
        "new_timeout_at": Stamp(Stamp::now().0 + left),
        "message": if added < minutes { "as far as it can be extended" } else { "" },
    })))
}

/// Whether.
#[derive(Deserialize, ToSchema)]
struct KeepAlive {
    enabled: bool,
}

/// Set whether a workspace never idles out
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/keep-alive", tag = "lifecycle",
    params(("container_id" = String, Path)), request_body = KeepAlive, responses((status = 200, body = Object)))]
async fn keep_alive(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
    JsonBody(body): JsonBody<KeepAlive>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let keeping = workspace.clone();
    detached(async move { keeping.set_keep_alive(body.enabled).await }).await?;
    Ok(Json(json!({
        "container_id": workspace.summary().container,
        "keep_alive_enabled": body.enabled,
        // Whoever has a key may: there are no tiers here.
        "is_authorized": true,
        "message": match body.enabled {
            true => "it does not sleep when nobody uses it",
            false => "it sleeps when nobody uses it",
        },
    })))
}

/// LifecycleStatus of the contract, and what else is known.
fn status(lifecycle: &Lifecycle) -> Value {
    let (summary, settings) = (&lifecycle.summary, &lifecycle.settings);
    let left = lifecycle.idles_out_in;
    json!({
        "container_id": summary.container,
        "state": word(summary.state),
        "lifecycle_state": summary.state,
        "generation": summary.generation,
        "idle_timeout_minutes": settings.idle_timeout_minutes,
        "max_duration_hours": settings.max_duration_hours,
        "idle_action": settings.idle_action,
        "auto_wake": settings.auto_wake,
        "keep_alive_on_preview": settings.keep_alive_on_preview,
        "heartbeat_interval_seconds": settings.heartbeat_interval_seconds,
        "keep_alive_enabled": settings.keep_alive,
        "kept_awake_by": lifecycle.kept_awake_by,
        "last_activity_at": Stamp(summary.last_activity_at),
        "timeout_at": left.map(|left| Stamp(Stamp::now().0 + left)),
        "time_remaining_seconds": left.map(|left| left.as_secs()),
        "uptime_seconds": uptime_seconds(summary),
        "woken": lifecycle.woken,
        "problem": lifecycle.problem,
    })
}

/// The contract's word for a state.
pub(super) fn word(state: Life) -> &'static str {
    match state {
        Life::Running | Life::Freezing | Life::Frozen => "running",
        Life::Hibernating | Life::Hibernated => "hibernating",
        Life::Starting => "starting",
        Life::Waking => "waking",
        Life::Stopped | Life::Failed | Life::Deleted => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(body: &str) -> Result<LifecycleSettings, Problem> {
        let body: Settings = serde_json::from_str(body).unwrap();
        let before = LifecycleSettings {
            max_duration_hours: Some(3),
            keep_alive: true,
            ..LifecycleSettings::default()
        };
        body.over(before)
    }

    #[test]
    fn what_was_not_sent_stays() {
        let settings = over(r#"{"idle_timeout_minutes": 5, "idle_action": "shutdown"}"#).unwrap();
        assert_eq!(settings.idle_timeout_minutes, 5);
        assert_eq!(settings.idle_action, IdleAction::Shutdown);
        assert_eq!(settings.max_duration_hours, Some(3));
        assert!(settings.keep_alive && settings.auto_wake);
        let unlimited = over(r#"{"max_duration_hours": null, "auto_wake": false}"#).unwrap();
        assert_eq!(unlimited.max_duration_hours, None);
        assert!(!unlimited.auto_wake);
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [
            r#"{"idle_timeout_minutes": 0}"#,
            r#"{"idle_timeout_minutes": -5}"#,
            r#"{"max_duration_hours": 9000000}"#,
            r#"{"idle_action": "explode"}"#,
            r#"{"heartbeat_interval_seconds": 0}"#,
        ] {
            assert!(over(body).is_err(), "{body}");
        }
    }
}
