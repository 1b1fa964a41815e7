//! `/api/v1/overview` and `/api/v1/wakes`: what a page for owners and operators shows, in one call
//! each. Ours, not the SDK's.
//!
//! Must never happen here: anything woken, thawed or kept awake by a look.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use fleet::lifecycle::{ApiStatus, State as Life};
use fleet::record::{IdleAction, Woken};
use http::StatusCode;
use pool_backend::Workspace;
use pool_backend::workspaces::{WAKES_KEPT, Wake};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Params, number};
use crate::stamp::Stamp;
use crate::workspaces::{WorkspaceInfo, find, uptime_seconds};
use crate::{ApiState, Caller, Problem};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(overview))
        .routes(routes!(one))
        .routes(routes!(wakes))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OverviewQuery {
    /// Part of a project id or of a template's name.
    search: Option<String>,
    /// One of the states that `states` counts.
    state: Option<String>,
    #[param(value_type = Option<u64>)]
    page: Option<String>,
    #[param(value_type = Option<u64>)]
    page_size: Option<String>,
}

/// A page of workspaces, and how many there are in each state.
#[derive(Debug, Serialize, ToSchema)]
struct Overview {
    workspaces: Vec<Standing>,
    /// That were asked for.
    total: usize,
    page: u64,
    page_size: u64,
    /// Of all of the owner's workspaces, whatever was asked for.
    states: BTreeMap<String, usize>,
}

/// How a workspace stands.
#[derive(Debug, Serialize, ToSchema)]
struct Standing {
    #[serde(flatten)]
    info: WorkspaceInfo,
    generation: u64,
    uptime_seconds: i64,
    /// For people; empty when nothing does.
    kept_awake_by: Vec<String>,
    /// Until its `idle_action`; absent if that will not come as things are.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_remaining_seconds: Option<u64>,
    #[schema(value_type = String)]
    idle_action: IdleAction,
    auto_wake: bool,
    /// What came back with its last wake: `memory` or `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    woken: Option<Woken>,
    /// Why its last start, wake or hibernation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Absent while it has no container.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Used>,
}

/// What a container uses, measured by the host.
#[derive(Debug, Serialize, ToSchema)]
struct Used {
    /// CPU time since it started.
    cpu_seconds: f64,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    /// Processes and threads as the host counts them.
    tasks: u64,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    disk_read_bytes: u64,
    disk_written_bytes: u64,
    /// Differences of CPU time are over differences of this.
    sampled_at: Stamp,
}

impl Standing {
    async fn of(workspace: &Workspace, state: &ApiState) -> Self {
        let lifecycle = workspace.lifecycle();
        let summary = &lifecycle.summary;
        let measured = match summary.state.api_status() {
            // What cannot be measured at this moment is left out.
            ApiStatus::Ready => workspace.usage().await.ok(),
            ApiStatus::Starting | ApiStatus::Stopped => None,
        };
        Self {
            info: WorkspaceInfo::new(summary, &state.public),
            generation: summary.generation.0,
            uptime_seconds: uptime_seconds(summary),
            time_remaining_seconds: lifecycle.idles_out_in.map(|left| left.as_secs()),
            idle_action: lifecycle.settings.idle_action,
            auto_wake: lifecycle.settings.auto_wake,
            woken: lifecycle.woken,
            usage: measured.map(|measured| Used {
                cpu_seconds: measured.cpu_micros as f64 / 1e6,
                memory_bytes: measured.memory_bytes,
                memory_limit_bytes: summary.limits.memory_bytes,
                tasks: measured.tasks,
                network_received_bytes: measured.network.received,
                network_sent_bytes: measured.network.sent,
                disk_read_bytes: measured.disk.received,
                disk_written_bytes: measured.disk.sent,
                sampled_at: Stamp::now(),
            }),
            kept_awake_by: lifecycle.kept_awake_by,
            problem: lifecycle.problem,
        }
    }
}

/// How workspaces stand, oldest first
///
/// What a page shows of many workspaces at once: state, usage, what keeps each awake.
#[utoipa::path(get, path = "/api/v1/overview", tag = "node",
    params(OverviewQuery), responses((status = 200, body = Overview)))]
async fn overview(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<OverviewQuery>,
) -> Result<Json<Overview>, Problem> {
    let page = number("page", query.page.as_deref(), 1, 1..=1_000_000)?;
    let page_size = number("page_size", query.page_size.as_deref(), 50, 1..=200)?;
    let search = query.search.unwrap_or_default().to_ascii_lowercase();
    let wanted = query.state.filter(|state| !state.is_empty());
    let mut states = BTreeMap::new();
    let mut found = Vec::new();
    for workspace in state.workspaces.all(&caller.owner) {
        let summary = workspace.summary();
        let word = state_word(summary.state);
        *states.entry(word.clone()).or_default() += 1;
        let named = [summary.project.as_str(), summary.template.as_str()];
        let meant = named
            .iter()
            .any(|name| name.to_ascii_lowercase().contains(&search));
        if meant && wanted.as_ref().is_none_or(|wanted| *wanted == word) {
            found.push(workspace);
        }
    }
    let total = found.len();
    let size = usize::try_from(page_size).unwrap_or(usize::MAX);
    let before = usize::try_from(page - 1)
        .unwrap_or(usize::MAX)
        .saturating_mul(size);
    let mut workspaces = Vec::new();
    for workspace in found.iter().skip(before).take(size) {
        workspaces.push(Standing::of(workspace, &state).await);
    }
    Ok(Json(Overview {
        workspaces,
        total,
        page,
        page_size,
        states,
    }))
}

/// How one workspace stands
#[utoipa::path(get, path = "/api/v1/overview/{project_id}", tag = "node",
    params(("project_id" = String, Path)), responses((status = 200, body = Standing)))]
async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Standing>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    Ok(Json(Standing::of(&workspace, &state).await))
}

fn state_word(state: Life) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WakesQuery {
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// The last wakes of this node.
#[derive(Debug, Serialize, ToSchema)]
struct Wakes {
    wakes: Vec<WakeInfo>,
}

/// A workspace that somebody needed while it did not run.
#[derive(Debug, Serialize, ToSchema)]
struct WakeInfo {
    /// When it ran, or did not.
    ended_at: Stamp,
    workspace_id: String,
    project_id: String,
    owner_id: String,
    /// `visit`, `api`, `file_write`, `create` or `explicit`.
    cause: &'static str,
    /// Of `memory` or from the `volume`; `thaw`, it had only stood still; `start`, it was stopped; or
    /// `failed`.
    outcome: &'static str,
    duration_ms: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<Wake> for WakeInfo {
    fn from(wake: Wake) -> Self {
        Self {
            ended_at: Stamp(wake.at),
            workspace_id: wake.workspace.to_string(),
            project_id: wake.project.to_string(),
            owner_id: wake.owner.to_string(),
            cause: wake.cause,
            outcome: wake.outcome,
            duration_ms: wake.took.as_micros() as f64 / 1e3,
            problem: wake.problem,
        }
    }
}

/// The last wakes, newest first
///
/// Kept in memory: since this process started, so many at most. For keys of the first owner.
#[utoipa::path(get, path = "/api/v1/wakes", tag = "node",
    params(WakesQuery), responses((status = 200, body = Wakes)))]
async fn wakes(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<WakesQuery>,
) -> Result<Json<Wakes>, Problem> {
    if !caller.admin {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wakes are for the first owner's keys",
        ));
    }
    let limit = number("limit", query.limit.as_deref(), 50, 1..=WAKES_KEPT as u64)?;
    let wakes = state
        .workspaces
        .wakes(usize::try_from(limit).unwrap_or(WAKES_KEPT));
    let wakes = wakes.into_iter().map(WakeInfo::from).collect();
    Ok(Json(Wakes { wakes }))
}
