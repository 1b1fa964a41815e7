//! `/api/v1/sdk/containers/{container_id}`: what a workspace's container is and uses, commands in
//! it, restart; and under it its [`lifecycle`].

mod lifecycle;

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use fleet::lifecycle::ApiStatus;
use fleet::timing;
use pool_backend::config::Limits;
use pool_backend::workspaces::Job;
use pool_backend::{Error, ErrorKind, Workspace};
use serde::Serialize;
use serde_json::{Value, json};

use crate::caller::detached;
use crate::input::container_in_path;
use crate::stamp::Stamp;
use crate::terminal::{RunBody, held};
use crate::workspaces::language_versions;
use crate::{ApiState, Caller, JsonBody, Problem};

/// What a shell reports of a command that ran out of time.
const EXIT_TIMED_OUT: i32 = 124;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn routes() -> Router<ApiState> {
    let base = "/api/v1/sdk/containers/{container_id}";
    let at = |end: &str| format!("{base}/{end}");
    Router::new()
        .route(&at("info"), get(info))
        .route(&at("stats"), get(stats))
        .route(&at("exec"), post(exec))
        .route(&at("processes"), get(processes))
        .route(&at("restart"), post(restart))
        .merge(lifecycle::routes(base))
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

async fn info(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = workspace.summary();
    // Looking must not start a container.
    let ports = match summary.state.api_status() {
        ApiStatus::Ready => workspace.ports().await,
        ApiStatus::Starting | ApiStatus::Stopped => Ok(Vec::new()),
    };
    let ports = match ports {
        Ok(ports) => ports,
        Err(error) if error.kind == ErrorKind::NotReady => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let ports: BTreeMap<String, u16> = ports
        .iter()
        .map(|port| (port.port.to_string(), port.port))
        .collect();
    Ok(Json(json!({
        "container_id": summary.container,
        "project_id": summary.project,
        "template": summary.template,
        "status": summary.state.api_status(),
        "created_at": Stamp(summary.created_at),
        "languages": summary.languages,
        "language_versions": language_versions(&summary.versions),
        "resource_limits": resource_limits(&summary.limits),
        "ports": ports,
    })))
}

/// Two looks at a container's usage, and what they mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuAndMemory {
    /// 100 is one CPU.
    pub(crate) cpu_percent: f64,
    pub(crate) memory_mb: f64,
    processes: u64,
}

impl CpuAndMemory {
    pub(crate) async fn sample(workspace: &Workspace) -> Result<Self, Error> {
        let before = workspace.usage().await?;
        let began = tokio::time::Instant::now();
        tokio::time::sleep(timing::USAGE_SAMPLE).await;
        let after = workspace.usage().await?;
        let wall = began.elapsed().as_secs_f64() * 1e6;
        let used = after.cpu_micros.saturating_sub(before.cpu_micros);
        Ok(Self {
            cpu_percent: rounded(used as f64 / wall * 100.0),
            memory_mb: rounded(after.memory_bytes as f64 / MIB),
            processes: after.pids,
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

async fn stats(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let used = CpuAndMemory::sample(&workspace).await?;
    let summary = workspace.summary();
    let limit = summary.limits.memory_bytes.max(1) as f64 / MIB;
    Ok(Json(json!({
        "container_id": summary.container,
        "cpu_percent": used.cpu_percent,
        "memory_mb": used.memory_mb,
        "memory_percent": rounded(used.memory_mb / limit * 100.0),
        // Not measured yet; the SDK demands the fields.
        "network_rx_mb": 0.0,
        "network_tx_mb": 0.0,
        "disk_read_mb": 0.0,
        "disk_write_mb": 0.0,
        "process_count": used.processes,
        "timestamp": Stamp::now(),
    })))
}

async fn processes(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let before: BTreeMap<u32, u64> = workspace
        .processes()
        .await?
        .into_iter()
        .map(|process| (process.pid, process.cpu_ms))
        .collect();
    let began = tokio::time::Instant::now();
    tokio::time::sleep(timing::USAGE_SAMPLE).await;
    let after = workspace.processes().await?;
    let wall = began.elapsed().as_secs_f64() * 1e3;
    let processes: Vec<Value> = after
        .iter()
        .map(|process| {
            let earlier = before.get(&process.pid).copied().unwrap_or(process.cpu_ms);
            let used = process.cpu_ms.saturating_sub(earlier);
            json!({
                "pid": process.pid,
                "user": process.user,
                "command": process.command,
                "cpu_percent": rounded(used as f64 / wall * 100.0),
                "memory_mb": rounded(process.resident_bytes as f64 / MIB),
            })
        })
        .collect();
    let summary = workspace.summary();
    Ok(Json(json!({
        "container_id": summary.container,
        "project_id": summary.project,
        "process_count": processes.len(),
        "processes": processes,
    })))
}

/// ContainerExecResult of the contract.
#[derive(Debug, Serialize)]
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

async fn restart(
    State(state): State<ApiState>,
    caller: Caller,
    Path(container_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &container_id)?;
    let summary = detached(async move { workspace.restart().await }).await?;
    Ok(Json(json!({
        "container_id": summary.container,
        "project_id": summary.project,
        "status": lifecycle::word(summary.state),
        "message": "container restarted; /workspace is unchanged",
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::id::JobId;
    use init_protocol::JobStatus;
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
