//! Waits for a shell line without letting the SDK think that we are dead: it gives up after 30 s
//! of silence. A line that may run at most 25 s is answered in silence, and its timeout is a 408.
//! For a longer one the answer's head goes out after 20 s, then a space now and again, then the
//! JSON; its timeout is told in the body, because the status is out by then.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleet::timing;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream;
use http::{StatusCode, header};
use init_protocol::JobStatus;
use pool_backend::Workspace;
use pool_backend::workspaces::{Command, Job};
use serde::Serialize;

use crate::Problem;

/// An answer's JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map_or_else(
        |error| {
            tracing::error!(%error, "an answer cannot be written as JSON");
            Bytes::from_static(b"{\"detail\":\"internal error\"}")
        },
        Bytes::from,
    )
}

/// Runs a command; `done` writes its end, `failed` what to say when it could not be run and the
/// status is out already.
pub(crate) async fn run(
    workspace: Workspace,
    command: Command,
    done: impl FnOnce(Job) -> Bytes + Send + 'static,
    failed: impl FnOnce(Problem) -> Bytes + Send + 'static,
) -> Result<Response, Problem> {
    let patient = command
        .timeout
        .is_none_or(|time| time > timing::EXEC_SILENT_MAX);
    if patient {
        let work = async move { Ok(done(workspace.execute(command).await?)) };
        return patiently(work.boxed(), failed).await;
    }
    let job = workspace.execute(command).await?;
    if job.status == JobStatus::Timeout {
        let id = job.id.to_string();
        let problem = Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the command exceeded its timeout and was stopped; its output is kept under job_id",
        );
        return Err(problem.with("job_id", id.into()));
    }
    Ok(whole(done(job)))
}

fn whole(json: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn patiently(
    mut work: BoxFuture<'static, Result<Bytes, Problem>>,
    failed: impl FnOnce(Problem) -> Bytes + Send + 'static,
) -> Result<Response, Problem> {
    if let Ok(result) = tokio::time::timeout(timing::EXEC_FIRST_BYTE, &mut work).await {
        return result.map(whole);
    }
    // The work lives in the body: a client that leaves ends the wait.
    let first = (Some((work, failed)), true);
    let chunks = stream::unfold(first, |(waiting, first)| async move {
        let (mut work, failed) = waiting?;
        let space = Ok::<_, Infallible>(Bytes::from_static(b" "));
        if first {
            return Some((space, (Some((work, failed)), false)));
        }
        match tokio::time::timeout(timing::EXEC_KEEP_ALIVE, &mut work).await {
            Err(_) => Some((space, (Some((work, failed)), false))),
            Ok(Ok(json)) => Some((Ok(json), (None, false))),
            Ok(Err(problem)) => Some((Ok(failed(problem)), (None, false))),
        }
    });
    let body = Body::from_stream(chunks);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn answer(
        seconds: u64,
        result: Result<&'static str, Problem>,
    ) -> Result<String, Problem> {
        let work = async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            result.map(|text| Bytes::from_static(text.as_bytes()))
        };
        let failed = |problem: Problem| Bytes::from(format!("\"{}\"", problem.detail()));
        let response = patiently(work.boxed(), failed).await?;
        let bytes = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        Ok(String::from_utf8(bytes.into()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn quick_answers_keep_their_status() {
        assert_eq!(answer(19, Ok("1")).await.unwrap(), "1");
        let problem = Problem::not_found("gone");
        assert_eq!(answer(19, Err(problem)).await.unwrap_err().detail(), "gone");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answers_begin_with_space() {
        assert_eq!(answer(21, Ok("1")).await.unwrap(), " 1");
        assert_eq!(answer(55, Ok("1")).await.unwrap(), "    1");
        let problem = Problem::not_found("gone");
        assert_eq!(answer(40, Err(problem)).await.unwrap().trim(), "\"gone\"");
    }
}
