//! `GET …/jobs/{job_id}/follow`: what a job prints, as server-sent events, until it ends.
//!
//! The id of an event says how much of each stream was told: `Last-Event-ID` goes on there.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use data_encoding::BASE64;
use pool_backend::workspaces::{Follow, FollowEvent, Offsets};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{project_of, status_word};
use crate::input::{Params, job_in_path, number, project, required};
use crate::live::sse;
use crate::live::text::TextParts;
use crate::{ApiState, Caller, Problem};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowQuery {
    #[param(required = true)]
    project_id: Option<String>,
    /// Bytes of standard output that you have.
    #[param(value_type = Option<u64>)]
    stdout_from: Option<String>,
    /// Bytes of standard error that you have.
    #[param(value_type = Option<u64>)]
    stderr_from: Option<String>,
    /// `base64` for the bytes as they are; else `text`.
    encoding: Option<String>,
}

/// Follow a job's output
///
/// Server-sent events: `output` with `stream` (stdout, stderr) and `text` or `base64`; `skipped`
/// when bytes were not kept; last `ended` with `status` and `exit_code`, or `gone` when the job
/// went with its container.
#[utoipa::path(get, path = "/api/v1/sdk/terminal/jobs/{job_id}/follow", tag = "terminal",
    params(("job_id" = String, Path), FollowQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event.")),
    responses((status = 200, content_type = "text/event-stream", body = serde_json::Value)))]
pub(super) async fn follow(
    State(state): State<ApiState>,
    caller: Caller,
    Path(job_id): Path<String>,
    Params(query): Params<FollowQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = project(required("project_id", query.project_id.as_deref())?)?;
    let workspace = state.workspaces.get(&caller.owner, &name)?;
    let id = job_in_path(&job_id)?;
    let from = |name, value: &Option<String>| number(name, value.as_deref(), 0, 0..=u64::MAX);
    let asked = Offsets {
        stdout: from("stdout_from", &query.stdout_from)?,
        stderr: from("stderr_from", &query.stderr_from)?,
    };
    let as_bytes = match query.encoding.as_deref() {
        None | Some("" | "text" | "utf-8") => false,
        Some("base64") => true,
        Some(_) => return Err(Problem::invalid("encoding must be text or base64")),
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last.and_then(parse).unwrap_or(asked);
    let follow = workspace.follow_job(&id, from).await?;
    let base = json!({ "job_id": id, "project_id": project_of(&workspace) });
    Ok(sse::answer(state.sockets.leaving(), move |writer| {
        tell(follow, base, as_bytes, writer)
    }))
}

async fn tell(
    mut follow: Follow,
    base: Value,
    as_bytes: bool,
    writer: sse::Writer,
) -> Result<(), sse::Gone> {
    let (mut out, mut err) = (TextParts::default(), TextParts::default());
    // The head goes out at once: the job may be silent for long.
    writer.send(": following\n\n".to_owned()).await?;
    loop {
        let event = tokio::select! {
            event = follow.next() => event,
            () = writer.gone() => return Err(sse::Gone),
        };
        let Some(event) = event else { return Ok(()) };
        let at = follow.at();
        let id = format!("{}-{}", at.stdout, at.stderr);
        let mut text = String::new();
        let mut output = |stream: &str, bytes: &[u8], parts: &mut TextParts| {
            let content = match as_bytes {
                true => json!({ "stream": stream, "base64": BASE64.encode(bytes) }),
                false => json!({ "stream": stream, "text": parts.push(bytes) }),
            };
            sse::push(&mut text, "output", Some(&id), &content);
        };
        match event {
            FollowEvent::Stdout(bytes) => output("stdout", &bytes, &mut out),
            FollowEvent::Stderr(bytes) => output("stderr", &bytes, &mut err),
            FollowEvent::Skipped(Offsets { stdout, stderr }) => {
                let data = json!({ "stdout_bytes": stdout, "stderr_bytes": stderr });
                sse::push(&mut text, "skipped", Some(&id), &data);
            }
            FollowEvent::Ended(job) => {
                for (stream, parts) in [("stdout", &mut out), ("stderr", &mut err)] {
                    let rest = parts.end();
                    if !rest.is_empty() {
                        let data = json!({ "stream": stream, "text": rest });
                        sse::push(&mut text, "output", Some(&id), &data);
                    }
                }
                let mut data = base.clone();
                data["status"] = status_word(job.status).into();
                data["exit_code"] = json!(job.exit_code);
                sse::push(&mut text, "ended", Some(&id), &data);
            }
            FollowEvent::Gone => {
                let mut data = base.clone();
                data["detail"] = "the job went with its container".into();
                sse::push(&mut text, "gone", Some(&id), &data);
            }
        }
        writer.send(text).await?;
    }
}

fn parse(id: &str) -> Option<Offsets> {
    let (stdout, stderr) = id.split_once('-')?;
    Some(Offsets {
        stdout: stdout.parse().ok()?,
        stderr: stderr.parse().ok()?,
    })
}
