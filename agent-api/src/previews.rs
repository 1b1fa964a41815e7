//! `/api/v1/preview/sessions`: apps that a workspace shows. A session's command is run as a job; its
//! port is what the workspace's own address shows.
//!
//! Must never happen here: a workspace woken by a look.

mod detect;
mod health;
mod look;
mod plan;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use fleet::id::PreviewId;
use fleet::timing;
use http::StatusCode;
use pool_backend::workspaces::{Preview, PreviewStatus};
use pool_backend::{Error, ErrorKind, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::detached;
use crate::input::{Params, number, project_in_path};
use crate::stamp::Stamp;
use crate::{ApiState, Caller, JsonBody, Problem, PublicUrls};

/// Sessions on one page.
const LIMIT_MAX: u64 = 1000;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(detect))
        .routes(routes!(list))
        .routes(routes!(show, stop))
        .routes(routes!(refresh))
        .routes(routes!(check))
}

/// PreviewSession of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewSession {
    session_id: String,
    /// `db_project_id` of the workspace.
    project_id: u32,
    /// `starting`, `running`, `stopped`, `failed` or `unhealthy`.
    status: &'static str,
    preview_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url_http: Option<String>,
    websocket_url: String,
    port: u16,
    framework: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    created_at: Stamp,
    started_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Stamp>,
    last_activity_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    container_id: String,
    health_check_url: String,
    auto_detected: bool,
}

impl PreviewSession {
    fn new(workspace: &Workspace, preview: Preview, public: &PublicUrls) -> Self {
        let summary = workspace.summary();
        let record = preview.record;
        // The youngest one that runs has the workspace's own address, the others their port's.
        let youngest = workspace.previews();
        let youngest = youngest
            .iter()
            .rfind(|known| known.stopped_at.is_none())
            .is_none_or(|known| known.id == record.id);
        let port = (!youngest).then_some(record.port);
        let preview_url = public.preview_at(&summary.slug, port);
        Self {
            session_id: record.id.to_string(),
            project_id: summary.number,
            status: word(preview.status),
            health_check_url: format!("{preview_url}{}", record.health_path),
            preview_url,
            preview_url_http: public.preview_http_at(&summary.slug, port),
            websocket_url: public.websocket_at(&summary.slug, port),
            port: record.port,
            framework: record.framework,
            command: record.command,
            created_at: Stamp(record.created_at),
            started_at: Stamp(record.started_at),
            stopped_at: record.stopped_at.map(Stamp),
            last_activity_at: Stamp(summary.last_activity_at),
            error_message: preview.problem,
            container_id: summary.container.to_string(),
            auto_detected: record.auto_detected,
        }
    }
}

fn word(status: PreviewStatus) -> &'static str {
    match status {
        PreviewStatus::Starting => "starting",
        PreviewStatus::Running => "running",
        PreviewStatus::Stopped => "stopped",
        PreviewStatus::Failed => "failed",
        PreviewStatus::Unhealthy => "unhealthy",
    }
}

/// The SDK has a number here; names are as good, and a number wins over a name of digits.
fn workspace_of(state: &ApiState, caller: &Caller, text: &str) -> Result<Workspace, Problem> {
    if let Ok(number) = text.parse()
        && let Ok(workspace) = state.workspaces.by_number(&caller.owner, number)
    {
        return Ok(workspace);
    }
    let project = project_in_path(text)?;
    Ok(state.workspaces.get(&caller.owner, &project)?)
}

fn session(
    state: &ApiState,
    caller: &Caller,
    text: &str,
) -> Result<(Workspace, PreviewId), Problem> {
    let absent = |error| Problem::not_found(format!("no such preview session: {error}"));
    let id: PreviewId = text.parse().map_err(absent)?;
    let workspace = state.workspaces.by_preview(&caller.owner, &id)?;
    Ok((workspace, id))
}

async fn shown(
    state: &ApiState,
    workspace: &Workspace,
    id: &PreviewId,
) -> Result<Json<PreviewSession>, Problem> {
    let preview = workspace.preview(id).await?;
    Ok(Json(PreviewSession::new(workspace, preview, &state.public)))
}

/// What to start, and where it will listen.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StartPreview {
    /// `react_vite`, `flask`, …; `custom` leaves it to the files.
    framework: Option<String>,
    /// Where the app listens; 3000 together with `custom` leaves it to the files.
    port: Option<i64>,
    /// What starts the app; none: what the files call for, if `auto_detect`.
    command: Option<String>,
    /// For the command, which also gets `PORT`.
    env_vars: Option<BTreeMap<String, String>>,
    health_check_path: Option<String>,
    auto_detect: Option<bool>,
}

/// Start an app and show it
///
/// The same call again gets the session that is there. 409 with `detail.error_code`
/// `container_not_running` if the workspace cannot be started.
#[utoipa::path(post, path = "/api/v1/preview/sessions/{project_id}/start", tag = "previews",
    params(("project_id" = String, Path, description = "`db_project_id` or project id")),
    request_body = StartPreview, responses((status = 200, body = PreviewSession)))]
async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<StartPreview>,
) -> Result<Json<PreviewSession>, Problem> {
    let workspace = workspace_of(&state, &caller, &project_id)?;
    let asked = plan::Asked::new(body)?;
    workspace
        .ensure_running()
        .await
        .map_err(|error| not_running(error, &workspace))?;
    let found = match asked.auto_detect {
        true => Some(detect::detect(
            &look::look(&state.workspaces, &workspace).await?,
        )),
        false => None,
    };
    // Asked only of what was found.
    let is_as_made = found.as_ref().is_some_and(|found| {
        let starter = look::starter(&state.workspaces, &workspace);
        starter.is_some_and(|starter| detect::detect(&starter) == *found)
    });
    let facts = plan::Facts {
        is_as_made,
        found,
        template: workspace.template_command(),
        listening: listening(&workspace, &asked).await?,
    };
    let wish = plan::plan(asked, facts);
    let starting = workspace.clone();
    let record = detached(async move { starting.start_preview(wish).await }).await?;
    shown(&state, &workspace, &record.id).await
}

/// Ports on which something listens. What was started a moment ago may be about to: an app of the
/// template's must not be faster and take its port.
async fn listening(workspace: &Workspace, asked: &plan::Asked) -> Result<Vec<u16>, Problem> {
    let until = tokio::time::Instant::now() + timing::PREVIEW_SETTLES;
    loop {
        let ports = workspace.ports().await?;
        let ports: Vec<u16> = ports.iter().map(|known| known.port).collect();
        let late = tokio::time::Instant::now() >= until;
        if late || !asked.waits_for_others(&ports) || !is_beginning(workspace).await? {
            return Ok(ports);
        }
        tokio::time::sleep(timing::PREVIEW_LOOK).await;
    }
}

/// Something was begun just now, and something is alive.
async fn is_beginning(workspace: &Workspace) -> Result<bool, Problem> {
    let recently = OffsetDateTime::now_utc() - timing::PREVIEW_SETTLES;
    let jobs = workspace.jobs().await?;
    if !jobs.iter().any(|job| job.started_at > recently) {
        return Ok(false);
    }
    let processes = workspace.processes().await?;
    Ok(processes.iter().any(|process| process.pid != 1))
}

/// WorkspaceNotReadyError of the SDK.
fn not_running(error: Error, workspace: &Workspace) -> Problem {
    if !matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotReady) {
        return error.into();
    }
    let summary = workspace.summary();
    let container = summary.container;
    Problem::new(StatusCode::CONFLICT, error.message.clone()).detailed(json!({
        "error_code": "container_not_running",
        "message": format!("the workspace's container does not run: {}", error.message),
        "project_id": summary.number,
        "remediation": [
            format!("wake it: POST /api/v1/sdk/containers/{container}/wake"),
            format!("or start it anew: POST /api/v1/sdk/containers/{container}/restart"),
        ],
    }))
}

/// PreviewDetectResult of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct Detected {
    project_id: u32,
    detected_framework: &'static str,
    /// 0 to 1.
    confidence: f64,
    suggested_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggested_command: Option<String>,
    config_files_found: Vec<String>,
}

/// Find out what a project is made with
///
/// From its files; nothing is started or woken for that.
#[utoipa::path(post, path = "/api/v1/preview/sessions/{project_id}/detect", tag = "previews",
    params(("project_id" = String, Path, description = "`db_project_id` or project id")),
    responses((status = 200, body = Detected)))]
async fn detect(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Detected>, Problem> {
    let workspace = workspace_of(&state, &caller, &project_id)?;
    let found = detect::detect(&look::look(&state.workspaces, &workspace).await?);
    Ok(Json(Detected {
        project_id: workspace.summary().number,
        detected_framework: found.framework,
        confidence: (found.confidence * 100.0).round() / 100.0,
        suggested_port: found.port,
        suggested_command: found.command,
        config_files_found: found.files,
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `running` (all that were not stopped; the default), `stopped`, `all`, or a status.
    status: Option<String>,
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
    #[param(value_type = Option<u64>)]
    offset: Option<String>,
}

/// PreviewSessionList of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct SessionList {
    sessions: Vec<PreviewSession>,
    total: usize,
    project_id: u32,
}

/// A workspace's preview sessions, youngest first
#[utoipa::path(get, path = "/api/v1/preview/sessions/project/{project_id}", tag = "previews",
    params(("project_id" = String, Path, description = "`db_project_id` or project id"), ListQuery),
    responses((status = 200, body = SessionList)))]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<ListQuery>,
) -> Result<Json<SessionList>, Problem> {
    let limit = number("limit", query.limit.as_deref(), 50, 1..=LIMIT_MAX)?;
    let offset = number("offset", query.offset.as_deref(), 0, 0..=1_000_000)?;
    let wanted = match query.status.as_deref() {
        None | Some("") => "running",
        Some(
            word @ ("running" | "stopped" | "all" | "starting" | "failed" | "unhealthy"
            | "stopping"),
        ) => word,
        Some(_) => {
            return Err(Problem::invalid(
                "status must be running, starting, stopping, stopped, failed, unhealthy or all",
            ));
        }
    };
    let workspace = workspace_of(&state, &caller, &project_id)?;
    let mut sessions = Vec::new();
    for record in workspace.previews().iter().rev() {
        let stopped = record.stopped_at.is_some();
        if (wanted == "running" && stopped) || (wanted == "stopped" && !stopped) {
            continue;
        }
        // Forgotten between the two looks: not there.
        let Ok(preview) = workspace.preview(&record.id).await else {
            continue;
        };
        // What the SDK asks for if it is told nothing: all that is meant to run and may.
        let lives = wanted == "running" && preview.status != PreviewStatus::Failed;
        if wanted == "all" || lives || word(preview.status) == wanted {
            sessions.push(PreviewSession::new(&workspace, preview, &state.public));
        }
    }
    let total = sessions.len();
    let page = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let sessions = sessions.into_iter().skip(page(offset)).take(page(limit));
    Ok(Json(SessionList {
        sessions: sessions.collect(),
        total,
        project_id: workspace.summary().number,
    }))
}

/// One preview session
#[utoipa::path(get, path = "/api/v1/preview/sessions/{session_id}", tag = "previews",
    params(("session_id" = String, Path)), responses((status = 200, body = PreviewSession)))]
async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(session_id): Path<String>,
) -> Result<Json<PreviewSession>, Problem> {
    let (workspace, id) = session(&state, &caller, &session_id)?;
    shown(&state, &workspace, &id).await
}

/// What a stop answers.
#[derive(Debug, Serialize, ToSchema)]
struct Stopped {
    session_id: String,
    status: &'static str,
    message: &'static str,
}

/// Stop a preview session's app
///
/// It is listed as stopped for a while; once more, and it is forgotten.
#[utoipa::path(delete, path = "/api/v1/preview/sessions/{session_id}", tag = "previews",
    params(("session_id" = String, Path)), responses((status = 200, body = Stopped)))]
async fn stop(
    State(state): State<ApiState>,
    caller: Caller,
    Path(session_id): Path<String>,
) -> Result<Json<Stopped>, Problem> {
    let (workspace, id) = session(&state, &caller, &session_id)?;
    detached(async move { workspace.stop_preview(&id).await }).await?;
    Ok(Json(Stopped {
        session_id,
        status: "stopped",
        message: "preview session stopped",
    }))
}

/// Start a preview session's app anew
#[utoipa::path(post, path = "/api/v1/preview/sessions/{session_id}/refresh", tag = "previews",
    params(("session_id" = String, Path)), responses((status = 200, body = PreviewSession)))]
async fn refresh(
    State(state): State<ApiState>,
    caller: Caller,
    Path(session_id): Path<String>,
) -> Result<Json<PreviewSession>, Problem> {
    let (workspace, id) = session(&state, &caller, &session_id)?;
    let (starting, wanted) = (workspace.clone(), id.clone());
    detached(async move { starting.restart_preview(&wanted).await }).await?;
    shown(&state, &workspace, &id).await
}

/// Ask a preview session's app how it is
///
/// With a request to `health_check_path`, from the node. A workspace that sleeps is not woken.
#[utoipa::path(get, path = "/api/v1/preview/sessions/{session_id}/health", tag = "previews",
    params(("session_id" = String, Path)), responses((status = 200, body = health::Health)))]
async fn check(
    State(state): State<ApiState>,
    caller: Caller,
    Path(session_id): Path<String>,
) -> Result<Json<health::Health>, Problem> {
    let (workspace, id) = session(&state, &caller, &session_id)?;
    Ok(Json(health::ask(&workspace, &id).await?))
}
