//! `/api/v1/sdk/workspaces`: create (get-or-create), list, get, delete, health, preview URL.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use fleet::id::TemplateName;
use fleet::lifecycle::{ApiStatus, State as Life};
use pool_backend::template::language::Version;
use pool_backend::workspaces::Summary;
use pool_backend::{ErrorKind, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::detached;
use crate::containers::{Sample, resource_limits};
use crate::input::{Params, number, project, project_in_path};
use crate::stamp::Stamp;
use crate::{ApiState, Caller, JsonBody, Problem, PublicUrls};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(health))
        .routes(routes!(preview_url))
}

/// WorkspaceInfo of the contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkspaceInfo {
    project_id: String,
    container_id: String,
    template: String,
    /// `ready`, `starting` or `stopped`.
    #[schema(value_type = String)]
    status: ApiStatus,
    created_at: Stamp,
    languages: Vec<String>,
    language_versions: BTreeMap<String, String>,
    #[schema(value_type = BTreeMap<String, String>)]
    resource_limits: BTreeMap<&'static str, String>,
    preview_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url_http: Option<String>,
    websocket_url: String,
    db_project_id: u32,
    #[schema(value_type = String)]
    lifecycle_state: Life,
    last_activity_at: Stamp,
}

impl WorkspaceInfo {
    pub(crate) fn new(summary: &Summary, public: &PublicUrls) -> Self {
        Self {
            project_id: summary.project.to_string(),
            container_id: summary.container.to_string(),
            template: summary.template.to_string(),
            status: summary.state.api_status(),
            created_at: Stamp(summary.created_at),
            languages: summary.languages.clone(),
            language_versions: language_versions(&summary.versions),
            resource_limits: resource_limits(&summary.limits),
            preview_url: public.preview(&summary.slug),
            preview_url_http: public.preview_http(&summary.slug),
            websocket_url: public.websocket(&summary.slug),
            db_project_id: summary.number,
            lifecycle_state: summary.state,
            last_activity_at: Stamp(summary.last_activity_at),
        }
    }
}

pub(crate) fn language_versions(versions: &BTreeMap<String, Version>) -> BTreeMap<String, String> {
    let text = |(name, version): (&String, &Version)| (name.clone(), version.to_string());
    versions.iter().map(text).collect()
}

/// The caller's workspace that a path names.
pub(crate) fn find(state: &ApiState, caller: &Caller, text: &str) -> Result<Workspace, Problem> {
    let project = project_in_path(text)?;
    Ok(state.workspaces.get(&caller.owner, &project)?)
}

/// What to make.
#[derive(Deserialize, ToSchema)]
#[schema(as = CreateWorkspace)]
struct Create {
    project_id: String,
    template: Option<String>,
    /// Refused where the template has another.
    #[schema(value_type = Option<Object>)]
    pinned_versions: Option<BTreeMap<String, Value>>,
}

/// Make a workspace, or get the one that is there
#[utoipa::path(post, path = "/api/v1/sdk/workspaces", tag = "workspaces",
    request_body = Create, responses((status = 200, body = WorkspaceInfo)))]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Create>,
) -> Result<Json<WorkspaceInfo>, Problem> {
    let project = project(&body.project_id)?;
    let template = template(&state, body.template.as_deref().unwrap_or("default"))?;
    let pins = pins(body.pinned_versions.unwrap_or_default())?;
    let workspaces = state.workspaces.clone();
    let making = async move {
        workspaces
            .create_pinned(&caller.owner, &project, &template, &pins)
            .await
    };
    let workspace = detached(making).await?;
    Ok(Json(WorkspaceInfo::new(
        &workspace.summary(),
        &state.public,
    )))
}

/// Versions by language; a JSON number is as good as a text.
fn pins(given: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Problem> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    let pins = given.into_iter().map(|(language, version)| {
        let wrong = || Problem::invalid(format!("pinned_versions.{language} must be a version"));
        let version = text(version).ok_or_else(wrong)?;
        Ok((language, version))
    });
    pins.collect()
}

pub(crate) fn template(state: &ApiState, text: &str) -> Result<TemplateName, Problem> {
    let known = state.workspaces.templates();
    let found = known.iter().find(|name| name.as_str() == text);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(TemplateName::as_str).collect();
        let names = names.join(", ");
        Problem::invalid(format!("unknown template; the templates are: {names}"))
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    #[param(value_type = Option<u64>)]
    page: Option<String>,
    #[param(value_type = Option<u64>)]
    page_size: Option<String>,
    status_filter: Option<String>,
}

/// Workspaces, oldest first
#[utoipa::path(get, path = "/api/v1/sdk/workspaces", tag = "workspaces",
    params(ListQuery), responses((status = 200, body = Object)))]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let page = number("page", query.page.as_deref(), 1, 1..=1_000_000)?;
    let page_size = number("page_size", query.page_size.as_deref(), 20, 1..=1000)?;
    let status = match query.status_filter.as_deref() {
        None | Some("" | "all") => None,
        Some(text) => Some(status_filter(text)?),
    };
    let found = state.workspaces.list(
        &caller.owner,
        status,
        usize::try_from(page).unwrap_or(usize::MAX),
        usize::try_from(page_size).unwrap_or(usize::MAX),
    );
    let workspaces: Vec<WorkspaceInfo> = found
        .items
        .iter()
        .map(|summary| WorkspaceInfo::new(summary, &state.public))
        .collect();
    Ok(Json(json!({
        "workspaces": workspaces,
        "total": found.total,
        "page": page,
        "page_size": page_size,
    })))
}

fn status_filter(text: &str) -> Result<ApiStatus, Problem> {
    match text {
        "ready" | "running" => Ok(ApiStatus::Ready),
        "starting" => Ok(ApiStatus::Starting),
        "stopped" => Ok(ApiStatus::Stopped),
        _ => Err(Problem::invalid(
            "status_filter must be ready, starting, stopped or all",
        )),
    }
}

/// One workspace
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}", tag = "workspaces",
    params(("project_id" = String, Path)), responses((status = 200, body = WorkspaceInfo)))]
async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<WorkspaceInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    Ok(Json(WorkspaceInfo::new(
        &workspace.summary(),
        &state.public,
    )))
}

/// Delete a workspace with all its files
#[utoipa::path(delete, path = "/api/v1/sdk/workspaces/{project_id}", tag = "workspaces",
    params(("project_id" = String, Path)), responses((status = 200, body = Object)))]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let project = project_in_path(&project_id)?;
    let gone = project.to_string();
    detached(async move { state.workspaces.delete(&caller.owner, &project).await }).await?;
    Ok(Json(
        json!({ "project_id": gone, "message": "workspace deleted" }),
    ))
}

/// How a workspace stands
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/health", tag = "workspaces",
    params(("project_id" = String, Path)), responses((status = 200, body = Object)))]
async fn health(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let summary = workspace.summary();
    let status = summary.state.api_status();
    let mut container = json!({ "id": summary.container, "status": status });
    if status == ApiStatus::Ready {
        match Sample::take(&workspace).await {
            Ok(used) => {
                container["cpu_percent"] = json!(used.cpu_percent);
                container["memory"] = json!(format!("{:.1} MiB", used.memory_mb));
                container["memory_mb"] = json!(used.memory_mb);
            }
            // It stopped between the two looks.
            Err(error) if matches!(error.kind, ErrorKind::NotReady | ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(problem) = workspace.problem() {
        container["problem"] = problem.into();
    }
    Ok(Json(json!({
        "project_id": summary.project,
        "status": status,
        "container": container,
        "agents": { "active_count": 0, "total_count": 0 },
        "last_activity": Stamp(summary.last_activity_at),
        "uptime_seconds": uptime_seconds(&summary),
    })))
}

/// Since its container last started; 0 while it has none.
pub(crate) fn uptime_seconds(summary: &Summary) -> i64 {
    let running = summary.state.api_status() == ApiStatus::Ready;
    let started = summary.started_at.filter(|_| running);
    started.map_or(0, |at| (Stamp::now().0 - at).whole_seconds().max(0))
}

/// Where a workspace shows its apps
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/preview-url", tag = "workspaces",
    params(("project_id" = String, Path)), responses((status = 200, body = PreviewUrl)))]
async fn preview_url(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<PreviewUrl>, Problem> {
    let summary = find(&state, &caller, &project_id)?.summary();
    Ok(Json(PreviewUrl::new(&summary, &state.public)))
}

/// PreviewURLInfo of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewUrl {
    project_id: String,
    preview_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url_http: Option<String>,
    websocket_url: String,
    #[schema(value_type = String)]
    status: ApiStatus,
    container_id: String,
}

impl PreviewUrl {
    fn new(summary: &Summary, public: &PublicUrls) -> Self {
        Self {
            project_id: summary.project.to_string(),
            preview_url: public.preview(&summary.slug),
            preview_url_http: public.preview_http(&summary.slug),
            websocket_url: public.websocket(&summary.slug),
            status: summary.state.api_status(),
            container_id: summary.container.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::id::{ContainerId, Generation, Slug, WorkspaceId};
    use fleet::lifecycle::State as Life;
    use time::OffsetDateTime;

    pub(crate) fn sample() -> Summary {
        Summary {
            id: WorkspaceId::mint(),
            project: "learning".parse().unwrap(),
            number: 7,
            container: "cnt_aaaaaaaaaaaaaaaa".parse::<ContainerId>().unwrap(),
            slug: "workspace-abcdefghij".parse::<Slug>().unwrap(),
            template: "python".parse().unwrap(),
            languages: vec!["python".to_owned()],
            versions: BTreeMap::from([("python".to_owned(), "3.11.2".parse().unwrap())]),
            limits: pool_backend::config::Limits::default(),
            state: Life::Frozen,
            generation: Generation(1),
            created_at: OffsetDateTime::UNIX_EPOCH,
            started_at: None,
            last_activity_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn public() -> PublicUrls {
        PublicUrls {
            domain: "fleeks.localhost".to_owned(),
            https: true,
            port: 8443,
            loopback_http_port: Some(8080),
        }
    }

    #[test]
    fn workspace_info_on_the_wire() {
        let info = serde_json::to_value(WorkspaceInfo::new(&sample(), &public())).unwrap();
        let expected = json!({
            "project_id": "learning",
            "container_id": "cnt_aaaaaaaaaaaaaaaa",
            "template": "python",
            "status": "ready",
            "created_at": "1970-01-01T00:00:00Z",
            "languages": ["python"],
            "language_versions": {"python": "3.11.2"},
            "resource_limits": {"cpu": "2", "memory": "2048MiB", "pids": "512", "open_files": "4096"},
            "preview_url": "https://workspace-abcdefghij.fleeks.localhost:8443",
            "preview_url_http": "http://workspace-abcdefghij.fleeks.localhost:8080",
            "websocket_url": "wss://workspace-abcdefghij.fleeks.localhost:8443",
            "db_project_id": 7,
            "lifecycle_state": "frozen",
            "last_activity_at": "1970-01-01T00:00:00Z",
        });
        assert_eq!(info, expected);
    }

    #[test]
    fn preview_url_on_the_wire() {
        let mut public = public();
        public.loopback_http_port = None;
        let mut summary = sample();
        summary.state = Life::Hibernated;
        let info = serde_json::to_value(PreviewUrl::new(&summary, &public)).unwrap();
        let expected = json!({
            "project_id": "learning",
            "preview_url": "https://workspace-abcdefghij.fleeks.localhost:8443",
            "websocket_url": "wss://workspace-abcdefghij.fleeks.localhost:8443",
            "status": "stopped",
            "container_id": "cnt_aaaaaaaaaaaaaaaa",
        });
        assert_eq!(info, expected);
    }

    #[test]
    fn filters() {
        assert_eq!(status_filter("ready").unwrap(), ApiStatus::Ready);
        assert!(status_filter("READY").is_err());
        assert!(status_filter("hibernated'; --").is_err());
    }
}
