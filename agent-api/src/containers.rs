//! `/api/v1/sdk/containers/{container_id}`: what a workspace's container is and uses, commands in
//! it, restart; and under it its [`lifecycle`].

mod lifecycle;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use fleet::lifecycle::ApiStatus;
use fleet::timing;
use pool_backend::config::Limits;
use pool_backend::workspaces::{Job, Measured};
use pool_backend::{Error, ErrorKind, Workspace};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::detached;
use crate::input::container_in_path;
use crate::stamp::Stamp;
use crate::terminal::{RunBody, held};
use crate::workspaces::language_versions;
use crate::{ApiState, Caller, JsonBody, Problem};

/// What a shell reports of a command that ran out of time.
const EXIT_TIMED_OUT: i32 = 124;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(info))
        .routes(routes!(stats))
        .routes(routes!(exec))
        .routes(routes!(processes))
        .routes(routes!(restart))
        .merge(lifecycle::routes())
}

pub(crate) fn find(state: &ApiState, caller: &Caller, text: &str) -> Result<Workspace, Problem> {
    let container = container_in_path(text)?;
    Ok(state.workspaces.by_container(&caller.owner, &container)?)
}

/// Limits as the contract wants them: text to text.
pub(crate) fn resource_limits(limits: &Limits) -> BTreeMap<&'static str, String> {
    let cpus = f64::from(limits.cpu_millis) / 1000.0;
    BTreeMap::from([
        ("cpu", cpus.to_string()),
        ("memory", format!("{}MiB", limits.memory_bytes >> 20)),
        ("pids", limits.pids.to_string()),
        ("open_files", limits.open_files.to_string()),
    ])
}

/// ContainerInfo of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct ContainerInfo {
    container_id: String,
    project_id: String,
    template: String,
    #[schema(value_type = String, example = "ready")]
    status: ApiStatus,
    created_at: Stamp,
    languages: Vec<String>,
    language_versions: BTreeMap<String, String>,
    #[schema(value_type = BTreeMap<String, String>)]
    resource_limits: BTreeMap<&'static str, String>,
    /// What listens inside now, by its number; empty while it does not run.
    ports: BTreeMap<String, u16>,
    /// `running`, `hibernating`, `stopped`, `starting` or `waking`.
    state: &'static str,
}

/// What a container is
#[utoipa::path(get, path = "/api/v1/sdk/containers/{container_id}/info", tag = "containers",
    params(("container_id" = String, Path)), responses((status = 200, body = ContainerInfo)))]
async fn info(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<ContainerInfo>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = workspace.summary();
    // Looking must not start a container, nor thaw one.
    let ports = match workspace.ports().await {
        Ok(ports) => ports,
        Err(error) if error.kind == ErrorKind::NotReady => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let ports = ports
        .iter()
        .map(|port| (port.port.to_string(), port.port))
        .collect();
    Ok(Json(ContainerInfo {
        container_id: summary.container.to_string(),
        project_id: summary.project.to_string(),
        template: summary.template.to_string(),
        status: summary.state.api_status(),
        created_at: Stamp(summary.created_at),
        resource_limits: resource_limits(&summary.limits),
        language_versions: language_versions(&summary.versions),
        languages: summary.languages,
        ports,
        state: lifecycle::word(summary.state),
    }))
}

/// Two looks at a container's usage, and what they mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// 100 is one CPU.
    pub(crate) cpu_percent: f64,
    pub(crate) memory_mb: f64,
    now: Measured,
}

impl Sample {
    pub(crate) async fn take(workspace: &Workspace) -> Result<Self, Error> {
        let before = workspace.usage().await?;
        let began = tokio::time::Instant::now();
        if before != Measured::default() {
            tokio::time::sleep(timing::USAGE_SAMPLE).await;
        }
        let now = workspace.usage().await?;
        let wall = began.elapsed().as_secs_f64() * 1e6;
        let used = now.cpu_micros.saturating_sub(before.cpu_micros);
        Ok(Self {
            cpu_percent: rounded(used as f64 / wall.max(1.0) * 100.0),
            memory_mb: mib(now.memory_bytes),
            now,
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Four digits after the point: a few hundred bytes of traffic are not nothing.
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / MIB * 1e4).round() / 1e4
}

/// ContainerStats of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct ContainerStats {
    container_id: String,
    /// Of one CPU, over the last moment.
    cpu_percent: f64,
    /// Without what the kernel would give back first.
    memory_mb: f64,
    memory_percent: f64,
    network_rx_mb: f64,
    network_tx_mb: f64,
    disk_read_mb: f64,
    disk_write_mb: f64,
    /// Processes inside.
    process_count: u64,
    timestamp: Stamp,
}

/// What a container uses
///
/// Measured by the host, since the container last started; zeros while it does not run.
#[utoipa::path(get, path = "/api/v1/sdk/containers/{container_id}/stats", tag = "containers",
    params(("container_id" = String, Path)), responses((status = 200, body = ContainerStats)))]
async fn stats(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<ContainerStats>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let used = Sample::take(&workspace).await?;
    let summary = workspace.summary();
    let limit = summary.limits.memory_bytes.max(1) as f64 / MIB;
    Ok(Json(ContainerStats {
        container_id: summary.container.to_string(),
        cpu_percent: used.cpu_percent,
        memory_mb: used.memory_mb,
        memory_percent: rounded(used.memory_mb / limit * 100.0),
        network_rx_mb: mib(used.now.network.received),
        network_tx_mb: mib(used.now.network.sent),
        disk_read_mb: mib(used.now.disk.received),
        disk_write_mb: mib(used.now.disk.sent),
        process_count: process_count(&workspace, used.now.tasks).await,
        timestamp: Stamp::now(),
    }))
}

/// Its init knows, whatever the runtime; one that is asleep or too busy is not bothered.
async fn process_count(workspace: &Workspace, tasks: u64) -> u64 {
    if !workspace.is_awake() {
        return tasks;
    }
    let asked = tokio::time::timeout(timing::USAGE_SAMPLE * 5, workspace.processes()).await;
    match asked {
        Ok(Ok(listed)) if !listed.is_empty() => listed.len() as u64,
        _ => tasks,
    }
}

/// ProcessInfo of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct ProcessInfo {
    pid: u32,
    user: String,
    command: String,
    /// Of one CPU, over the last moment.
    cpu_percent: f64,
    memory_mb: f64,
}

/// ContainerProcessList of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct ProcessList {
    container_id: String,
    project_id: String,
    process_count: usize,
    processes: Vec<ProcessInfo>,
}

/// What runs in a container
#[utoipa::path(get, path = "/api/v1/sdk/containers/{container_id}/processes", tag = "containers",
    params(("container_id" = String, Path)), responses((status = 200, body = ProcessList)))]
async fn processes(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<ProcessList>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let before: BTreeMap<u32, u64> = workspace
        .processes()
        .await?
        .into_iter()
        .map(|process| (process.pid, process.cpu_ms))
        .collect();
    let began = tokio::time::Instant::now();
    if !before.is_empty() {
        tokio::time::sleep(timing::USAGE_SAMPLE).await;
    }
    let after = workspace.processes().await?;
    let wall = began.elapsed().as_secs_f64() * 1e3;
    let processes: Vec<ProcessInfo> = after
        .into_iter()
        .map(|process| {
            let earlier = before.get(&process.pid).copied().unwrap_or(process.cpu_ms);
            let used = process.cpu_ms.saturating_sub(earlier);
            ProcessInfo {
                pid: process.pid,
                user: process.user,
                command: process.command,
                cpu_percent: rounded(used as f64 / wall.max(1.0) * 100.0),
                memory_mb: mib(process.resident_bytes),
            }
        })
        .collect();
    let summary = workspace.summary();
    Ok(Json(ProcessList {
        container_id: summary.container.to_string(),
        project_id: summary.project.to_string(),
        process_count: processes.len(),
        processes,
    }))
}

/// ContainerExecResult of the contract.
#[derive(Debug, Serialize, ToSchema)]
struct ExecResult {
    container_id: String,
    command: String,
    exit_code: i32,
    stdout: String,
    stderr: String,
    execution_time_ms: f64,
    status: &'static str,
}

impl ExecResult {
    fn new(container_id: String, job: Job) -> Self {
        Self {
            container_id,
            exit_code: job.exit_code.unwrap_or(EXIT_TIMED_OUT),
            execution_time_ms: job
                .duration
                .map_or(0.0, |time| rounded(time.as_secs_f64() * 1e3)),
            status: crate::terminal::status_word(job.status),
            command: job.command,
            stdout: job.stdout,
            stderr: job.stderr,
        }
    }
}

/// Run a shell line and wait for it
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/exec", tag = "containers",
    params(("container_id" = String, Path)), request_body = RunBody,
    responses((status = 200, body = ExecResult)))]
async fn exec(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
    JsonBody(body): JsonBody<RunBody>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let command = body.command()?;
    let line = command.command.clone();
    let container = workspace.summary().container.to_string();
    let for_error = container.clone();
    held::run(
        workspace,
        command,
        move |job| held::json(&ExecResult::new(container, job)),
        move |problem| {
            held::json(&ExecResult {
                container_id: for_error,
                command: line,
                exit_code: -1,
                stdout: String::new(),
                stderr: problem.detail().to_owned(),
                execution_time_ms: 0.0,
                status: "failed",
            })
        },
    )
    .await
}

/// What a restart answers.
#[derive(Debug, Serialize, ToSchema)]
struct Restarted {
    container_id: String,
    project_id: String,
    status: &'static str,
    message: &'static str,
}

/// End all processes and start the container anew
///
/// Files stay, and the apps of running previews are started again.
#[utoipa::path(post, path = "/api/v1/sdk/containers/{container_id}/restart", tag = "containers",
    params(("container_id" = String, Path)), responses((status = 200, body = Restarted)))]
async fn restart(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Restarted>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = detached(async move { workspace.restart().await }).await?;
    Ok(Json(Restarted {
        container_id: summary.container.to_string(),
        project_id: summary.project.to_string(),
        status: lifecycle::word(summary.state),
        message: "container restarted; /workspace is unchanged",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::id::JobId;
    use init_protocol::JobStatus;
    use serde_json::json;
    use time::OffsetDateTime;

    #[test]
    fn exec_result_on_the_wire() {
        let job = Job {
            id: JobId::mint(),
            command: "sleep 9".to_owned(),
            status: JobStatus::Timeout,
            exit_code: None,
            stdout: String::new(),
            stderr: "x".to_owned(),
            started_at: OffsetDateTime::UNIX_EPOCH,
            completed_at: None,
            duration: Some(std::time::Duration::from_micros(1500)),
        };
        let result = serde_json::to_value(ExecResult::new("cnt_x".to_owned(), job)).unwrap();
        let expected = json!({
            "container_id": "cnt_x", "command": "sleep 9", "exit_code": 124, "stdout": "",
            "stderr": "x", "execution_time_ms": 1.5, "status": "timeout",
        });
        assert_eq!(result, expected);
    }

    #[test]
    fn limits_are_text() {
        let limits = Limits {
            cpu_millis: 1500,
            ..Limits::default()
        };
        assert_eq!(resource_limits(&limits)["cpu"], "1.5");
    }
}
