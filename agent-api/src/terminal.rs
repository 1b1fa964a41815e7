//! `/api/v1/sdk/terminal`: shell lines, waited for or in the background.

mod follow;
pub(crate) mod held;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use data_encoding::BASE64;
use fleet::id::JobId;
use init_protocol::JobStatus;
use pool_backend::Workspace;
use pool_backend::init_client::Captured;
use pool_backend::workspaces::{Command, Job};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Params, job_in_path, number, project, required, within};
use crate::stamp::Stamp;
use crate::{ApiState, Caller, JsonBody, Problem};

/// The SDK's default.
const TIMEOUT_SECONDS: i64 = 30;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(execute))
        .routes(routes!(background))
        .routes(routes!(jobs))
        .routes(routes!(job, stop))
        .routes(routes!(output))
        .routes(routes!(follow::follow))
}

/// TerminalJob of the contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TerminalJob {
    job_id: String,
    project_id: String,
    command: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
    started_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_time_ms: Option<f64>,
}

impl TerminalJob {
    fn new(project_id: String, job: Job) -> Self {
        Self {
            job_id: job.id.to_string(),
            project_id,
            command: job.command,
            status: status_word(job.status),
            exit_code: job.exit_code,
            stdout: job.stdout,
            stderr: job.stderr,
            started_at: Stamp(job.started_at),
            completed_at: job.completed_at.map(Stamp),
            execution_time_ms: job.duration.map(|time| time.as_micros() as f64 / 1e3),
        }
    }
}

/// The contract knows no 'stopped'.
pub(crate) fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed | JobStatus::Stopped => "failed",
        JobStatus::Timeout => "timeout",
    }
}

/// What `execute`, `background` and a container's `exec` have in common.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RunBody {
    project_id: Option<String>,
    command: String,
    working_dir: Option<String>,
    timeout_seconds: Option<i64>,
    environment: Option<BTreeMap<String, String>>,
}

impl RunBody {
    /// The command; the engine checks what a shell cannot take.
    pub(crate) fn command(self) -> Result<Command, Problem> {
        if self.command.trim().is_empty() {
            return Err(Problem::invalid("command is empty"));
        }
        let working_dir = self.working_dir.filter(|dir| !dir.is_empty());
        let seconds = self.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
        let seconds = within("timeout_seconds", seconds, 1..=3600)?;
        Ok(Command {
            command: self.command,
            working_dir: working_dir.unwrap_or_else(|| "/workspace".to_owned()),
            environment: self.environment.unwrap_or_default().into_iter().collect(),
            timeout: Some(Duration::from_secs(seconds)),
        })
    }

    fn workspace(&self, state: &ApiState, caller: &Caller) -> Result<Workspace, Problem> {
        let project = project(required("project_id", self.project_id.as_deref())?)?;
        Ok(state.workspaces.get(&caller.owner, &project)?)
    }
}

/// Run a shell line and wait for it
#[utoipa::path(post, path = "/api/v1/sdk/terminal/execute", tag = "terminal",
    request_body = crate::openapi::RunInProject, responses((status = 200, body = TerminalJob)))]
async fn execute(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<RunBody>,
) -> Result<Response, Problem> {
    let workspace = body.workspace(&state, &caller)?;
    let command = body.command()?;
    let line = command.command.clone();
    let project = workspace.summary().project.to_string();
    let for_error = project.clone();
    held::run(
        workspace,
        command,
        move |job| held::json(&TerminalJob::new(project, job)),
        move |problem| {
            held::json(&json!({
                "job_id": "",
                "project_id": for_error,
                "command": line,
                "status": "failed",
                "stdout": "",
                "stderr": problem.detail(),
                "detail": problem.detail(),
            }))
        },
    )
    .await
}

/// Start a shell line and leave it running
#[utoipa::path(post, path = "/api/v1/sdk/terminal/background", tag = "terminal",
    request_body = crate::openapi::RunInProject, responses((status = 200, body = TerminalJob)))]
async fn background(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<RunBody>,
) -> Result<Json<TerminalJob>, Problem> {
    let workspace = body.workspace(&state, &caller)?;
    // A background job may run for as long as it likes, unless it was given a time.
    let timed = body.timeout_seconds.is_some();
    let mut command = body.command()?;
    if !timed {
        command.timeout = None;
    }
    let job = workspace.start_job(command).await?;
    Ok(Json(TerminalJob::new(project_of(&workspace), job)))
}

fn project_of(workspace: &Workspace) -> String {
    workspace.summary().project.to_string()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct JobQuery {
    #[param(required = true)]
    project_id: Option<String>,
    status: Option<String>,
    #[param(value_type = Option<u64>)]
    tail_lines: Option<String>,
    #[param(value_type = Option<u64>)]
    stdout_from: Option<String>,
    #[param(value_type = Option<u64>)]
    stderr_from: Option<String>,
}

impl JobQuery {
    fn workspace(&self, state: &ApiState, caller: &Caller) -> Result<Workspace, Problem> {
        let project = project(required("project_id", self.project_id.as_deref())?)?;
        Ok(state.workspaces.get(&caller.owner, &project)?)
    }
}

/// Jobs, oldest first, without their output
#[utoipa::path(get, path = "/api/v1/sdk/terminal/jobs", tag = "terminal",
    params(JobQuery), responses((status = 200, body = Object)))]
async fn jobs(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<JobQuery>,
) -> Result<Json<Value>, Problem> {
    let workspace = query.workspace(&state, &caller)?;
    let wanted = match query.status.as_deref() {
        None | Some("" | "all") => None,
        Some(word @ ("running" | "completed" | "failed" | "timeout")) => Some(word),
        Some(_) => {
            return Err(Problem::invalid(
                "status must be running, completed, failed, timeout or all",
            ));
        }
    };
    let project = project_of(&workspace);
    let jobs: Vec<TerminalJob> = workspace
        .jobs()
        .await?
        .into_iter()
        .filter(|job| wanted.is_none_or(|word| status_word(job.status) == word))
        .map(|job| TerminalJob::new(project.clone(), job))
        .collect();
    Ok(Json(json!({
        "project_id": project,
        "total_count": jobs.len(),
        "jobs": jobs,
    })))
}

/// One job with its output
#[utoipa::path(get, path = "/api/v1/sdk/terminal/jobs/{job_id}", tag = "terminal",
    params(("job_id" = String, Path), JobQuery), responses((status = 200, body = TerminalJob)))]
async fn job(
    State(state): State<ApiState>,
    caller: Caller,
    Path(job_id): Path<String>,
    Params(query): Params<JobQuery>,
) -> Result<Json<TerminalJob>, Problem> {
    let workspace = query.workspace(&state, &caller)?;
    let job = workspace.job(&job_in_path(&job_id)?).await?;
    Ok(Json(TerminalJob::new(project_of(&workspace), job)))
}

/// A job's output
#[utoipa::path(get, path = "/api/v1/sdk/terminal/jobs/{job_id}/output", tag = "terminal",
    params(("job_id" = String, Path), JobQuery), responses((status = 200, body = Object)))]
async fn output(
    State(state): State<ApiState>,
    caller: Caller,
    Path(job_id): Path<String>,
    Params(query): Params<JobQuery>,
) -> Result<Json<Value>, Problem> {
    let lines = number(
        "tail_lines",
        query.tail_lines.as_deref(),
        u64::MAX,
        1..=10_000_000,
    )?;
    let workspace = query.workspace(&state, &caller)?;
    let id = job_in_path(&job_id)?;
    if query.stdout_from.is_some() || query.stderr_from.is_some() {
        return since(&workspace, &id, &query).await;
    }
    let job = workspace.job(&id).await?;
    Ok(Json(json!({
        "job_id": job.id,
        "project_id": project_of(&workspace),
        "status": status_word(job.status),
        "exit_code": job.exit_code,
        "stdout": tail(&job.stdout, lines),
        "stderr": tail(&job.stderr, lines),
    })))
}

/// What came after what the caller has, byte for byte: for who follows a job.
async fn since(
    workspace: &Workspace,
    id: &JobId,
    query: &JobQuery,
) -> Result<Json<Value>, Problem> {
    let from = |name, value: &Option<String>| number(name, value.as_deref(), 0, 0..=u64::MAX);
    let stdout_from = from("stdout_from", &query.stdout_from)?;
    let stderr_from = from("stderr_from", &query.stderr_from)?;
    let (job, output) = workspace.job_and_output(id).await?;
    let shown = |captured: &Captured, from| {
        let part = captured.since(from);
        json!({
            "base64": BASE64.encode(part.bytes),
            "next": part.next,
            "skipped": part.skipped,
        })
    };
    Ok(Json(json!({
        "job_id": job.id,
        "project_id": project_of(workspace),
        "status": status_word(job.status),
        "exit_code": job.exit_code,
        "since": {
            "stdout": shown(&output.stdout, stdout_from),
            "stderr": shown(&output.stderr, stderr_from),
        },
    })))
}

/// The last lines of a text; a last line without its end counts as one.
fn tail(text: &str, lines: u64) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let skip = usize::try_from(lines)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    match body.rmatch_indices('\n').nth(skip) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

/// Stop a job
#[utoipa::path(delete, path = "/api/v1/sdk/terminal/jobs/{job_id}", tag = "terminal",
    params(("job_id" = String, Path), JobQuery), responses((status = 200, body = Object)))]
async fn stop(
    State(state): State<ApiState>,
    caller: Caller,
    Path(job_id): Path<String>,
    Params(query): Params<JobQuery>,
) -> Result<Json<Value>, Problem> {
    let workspace = query.workspace(&state, &caller)?;
    let job = workspace.stop_job(&job_in_path(&job_id)?).await?;
    let message = match job.status {
        JobStatus::Running => "the job was told to stop",
        JobStatus::Stopped => "job stopped",
        JobStatus::Completed | JobStatus::Failed | JobStatus::Timeout => {
            "the job had already ended"
        }
    };
    Ok(Json(json!({
        "job_id": job.id,
        "status": status_word(job.status),
        "exit_code": job.exit_code,
        "message": message,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::id::JobId;
    use time::OffsetDateTime;

    fn body(json: Value) -> Result<Command, Problem> {
        serde_json::from_value::<RunBody>(json).unwrap().command()
    }

    #[test]
    fn terminal_job_on_the_wire() {
        let mut job = Job {
            id: "job_aaaaaaaaaaaaaaaa".parse::<JobId>().unwrap(),
            command: "true".to_owned(),
            status: JobStatus::Running,
            exit_code: None,
            stdout: String::new(),
            stderr: String::new(),
            started_at: OffsetDateTime::UNIX_EPOCH,
            completed_at: None,
            duration: None,
        };
        let wire = serde_json::to_value(TerminalJob::new("p".to_owned(), job.clone())).unwrap();
        let expected = json!({
            "job_id": "job_aaaaaaaaaaaaaaaa", "project_id": "p", "command": "true",
            "status": "running", "stdout": "", "stderr": "",
            "started_at": "1970-01-01T00:00:00Z",
        });
        assert_eq!(wire, expected);
        job.status = JobStatus::Stopped;
        job.exit_code = Some(143);
        job.completed_at = Some(OffsetDateTime::UNIX_EPOCH);
        job.duration = Some(Duration::from_millis(12));
        let wire = serde_json::to_value(TerminalJob::new("p".to_owned(), job)).unwrap();
        assert_eq!(wire["status"], "failed");
        assert_eq!(wire["exit_code"], 143);
        assert_eq!(wire["completed_at"], "1970-01-01T00:00:00Z");
        assert_eq!(wire["execution_time_ms"], 12.0);
    }

    #[test]
    fn commands_have_defaults_and_limits() {
        let command = body(json!({"command": "ls"})).unwrap();
        assert_eq!(command.working_dir, "/workspace");
        assert_eq!(command.timeout, Some(Duration::from_secs(30)));
        let environment = json!({"command": "ls", "environment": {"B": "2", "A": ""}});
        let pairs = body(environment).unwrap().environment;
        assert_eq!(
            pairs,
            [("A".into(), String::new()), ("B".into(), "2".into())]
        );
        let wrong = [
            json!({"command": ""}),
            json!({"command": " \n"}),
            json!({"command": "x", "timeout_seconds": 0}),
            json!({"command": "x", "timeout_seconds": -1}),
            json!({"command": "x", "timeout_seconds": 3601}),
        ];
        for json in wrong {
            assert_eq!(body(json).unwrap_err().status().as_u16(), 422);
        }
    }

    #[test]
    fn tails() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("", 1), "");
        assert_eq!(tail("\n\n", 1), "\n");
        assert_eq!(tail("ü", u64::MAX), "ü");
    }
}
