//! `GET …/watch`: changes of files as server-sent events, for the command line, consoles and curl.
//!
//! Each event has an id; `Last-Event-ID` goes on after it, or is answered with an overflow.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use http::Uri;
use pool_backend::workspaces::{Position, Watch, WatchEvent};
use serde_json::{Value, json};

use crate::live::patterns::Patterns;
use crate::live::{sse, watch_event};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

/// Events that are written together.
const TOGETHER: usize = 256;

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there to be described")]
pub(super) struct WatchQuery {
    /// Which paths are told, as often as you like: `*.py`, `src/**`, `!**/*.log`. None: all.
    #[param(required = false)]
    pattern: Vec<String>,
}

/// Hear of changes of files
///
/// Server-sent events: `ready` once every change is told, then `change` with `event` (created,
/// modified, deleted, moved), `path`, `old_path` of a move, `is_directory`, `write_id` for writes
/// through this API; `overflow` with a `reason` when something was not told; `end`.
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/watch", tag = "files",
    params(("project_id" = String, Path), WatchQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event.")),
    responses((status = 200, content_type = "text/event-stream", body = serde_json::Value)))]
pub(super) async fn watch(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let patterns: Vec<_> = query
        .filter(|(name, _)| name == "pattern" || name == "patterns")
        .map(|(_, pattern)| pattern)
        .collect();
    let patterns = Patterns::new(patterns.iter().map(AsRef::as_ref))?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = last.map(parse);
    let watch = workspace.watch(patterns.into_filter(), after).await?;
    Ok(sse::answer(state.sockets.leaving(), |writer| {
        tell(watch, project_id, writer)
    }))
}

async fn tell(mut watch: Watch, project: String, writer: sse::Writer) -> Result<(), sse::Gone> {
    let mut text = String::new();
    let data = json!({ "event": "ready", "project_id": project });
    sse::push(&mut text, "ready", Some(&shown(watch.begins())), &data);
    writer.send(std::mem::take(&mut text)).await?;
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            () = writer.gone() => return Err(sse::Gone),
        };
        let Some(event) = event else {
            sse::push(&mut text, "end", None, &json!({ "event": "end" }));
            return writer.send(text).await;
        };
        push(&mut text, &watch, &event);
        for _ in 1..TOGETHER {
            let Some(event) = watch.ready() else { break };
            push(&mut text, &watch, &event);
        }
        writer.send(std::mem::take(&mut text)).await?;
    }
}

fn push(text: &mut String, watch: &Watch, event: &WatchEvent) {
    let fields = watch_event(event);
    let name = match fields.contains_key("path") {
        true => "change",
        false => "overflow",
    };
    let id = shown(watch.position(event));
    sse::push(text, name, Some(&id), &Value::Object(fields));
}

fn shown(position: Position) -> String {
    format!("{:x}-{}", position.epoch, position.number)
}

/// What was never ours is no place: it is answered with an overflow.
fn parse(text: &str) -> Position {
    let parsed = text.split_once('-').and_then(|(epoch, number)| {
        Some(Position {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            number: number.parse().ok()?,
        })
    });
    parsed.unwrap_or(Position {
        epoch: 0,
        number: u64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_out_and_come_back() {
        let position = Position {
            epoch: u64::MAX,
            number: 17,
        };
        assert_eq!(parse(&shown(position)), position);
        for foreign in ["", "x", "1-", "-1", "1-2-3", "zz-1", "\u{fc}-1"] {
            assert_eq!(parse(foreign).number, u64::MAX, "{foreign}");
        }
    }
}
