//! One GET to an app, to see whether it answers.
//!
//! Must never happen here: trust in what it answers, or a wait for more than its head.

use std::io;

use fleet::id::PreviewId;
use fleet::timing;
use pool_backend::Workspace;
use pool_backend::workspaces::PreviewStatus;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::Problem;
use crate::stamp::Stamp;

/// Largest head of an answer that is looked at.
const HEAD_MAX: u64 = 16 * 1024;

/// PreviewHealth of the contract.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    session_id: String,
    /// It answered, and not with an error.
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_time_ms: Option<f64>,
    checked_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn ask(workspace: &Workspace, id: &PreviewId) -> Result<Health, Problem> {
    let preview = workspace.preview(id).await?;
    let mut health = Health {
        session_id: id.to_string(),
        healthy: false,
        status_code: None,
        response_time_ms: None,
        checked_at: Stamp::now(),
        error: None,
    };
    if preview.status == PreviewStatus::Stopped {
        health.error = Some("the preview session is stopped".to_owned());
        return Ok(health);
    }
    if !workspace.is_awake() {
        let error = "the workspace does not run; a visit or a call wakes it";
        health.error = Some(error.to_owned());
        return Ok(health);
    }
    let began = Instant::now();
    let record = preview.record;
    let asked = async {
        let Ok(stream) = workspace.connect(record.port).await else {
            let silent = format!("nothing listens on port {}", record.port);
            return Err(preview.problem.clone().unwrap_or(silent));
        };
        get(stream, record.port, &record.health_path).await
    };
    match tokio::time::timeout(timing::PREVIEW_HEALTH, asked).await {
        Ok(Ok(status)) => {
            let elapsed = began.elapsed().as_secs_f64() * 1e3;
            health.response_time_ms = Some((elapsed * 100.0).round() / 100.0);
            health.status_code = Some(status);
            health.healthy = status < 400;
            health.error = (status >= 400).then(|| format!("it answered with status {status}"));
        }
        Ok(Err(error)) => health.error = Some(error),
        Err(_) => {
            let seconds = timing::PREVIEW_HEALTH.as_secs();
            health.error = Some(format!("no answer within {seconds} s"));
        }
    }
    Ok(health)
}

async fn get(mut stream: TcpStream, port: u16, path: &str) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: fleeks-health\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    let broke = |_: io::Error| "it closed the connection".to_owned();
    stream.write_all(request.as_bytes()).await.map_err(broke)?;
    let mut head = Vec::new();
    let mut limited = stream.take(HEAD_MAX);
    loop {
        if let Some(status) = status(&head)? {
            return Ok(status);
        }
        if limited.read_buf(&mut head).await.map_err(broke)? == 0 {
            if head.is_empty() {
                return Err(broke(io::ErrorKind::UnexpectedEof.into()));
            }
            return Err("it answered with something that is not HTTP".to_owned());
        }
    }
}

/// None: not all of the first line is there.
fn status(head: &[u8]) -> Result<Option<u16>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(_) => Ok(response.code),
        // More fields than anyone needs: the status is known by then.
        Err(httparse::Error::TooManyHeaders) => Ok(response.code),
        Err(_) => Err("it answered with something that is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_known_as_soon_as_it_is_there() {
        assert_eq!(status(b"HTTP/1.1 20").unwrap(), None);
        assert_eq!(
            status(b"HTTP/1.1 204 No Content\r\nA: b").unwrap(),
            Some(204)
        );
        assert_eq!(status(b"HTTP/1.0 500 \r\n\r\n").unwrap(), Some(500));
        assert!(status(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert_eq!(status(b"").unwrap(), None);
    }
}
