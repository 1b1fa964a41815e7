//! `/api/v1/sdk/workspaces/{project_id}/terminals`: interactive terminals, and their websocket
//! ([`socket`]).
//!
//! Must never happen here: a terminal of another owner's, not even the word that it is there.

mod origin;
mod socket;
mod wire;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use fleet::id::TerminalId;
use http::StatusCode;
use pool_backend::Workspace;
use pool_backend::workspaces::{Terminal, TerminalSize, TerminalWish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{project, within};
use crate::stamp::Stamp;
use crate::{ApiState, Caller, JsonBody, Problem};

/// Where a terminal's window is unknown.
const COLS: i64 = 80;
const ROWS: i64 = 24;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, open))
        .routes(routes!(one, close))
        .routes(routes!(socket::view))
}

#[derive(Debug, Deserialize, ToSchema)]
struct OpenBody {
    /// 1 to 1000; 80.
    cols: Option<i64>,
    /// 1 to 1000; 24.
    rows: Option<i64>,
    /// A shell line; an interactive shell if there is none.
    command: Option<String>,
    /// `/workspace`.
    working_dir: Option<String>,
    environment: Option<BTreeMap<String, String>>,
}

impl OpenBody {
    fn wish(self) -> Result<TerminalWish, Problem> {
        let side = |name, value: Option<i64>, default| {
            let side = within(name, value.unwrap_or(default), 1..=1000)?;
            Ok::<_, Problem>(u16::try_from(side).unwrap_or(1000))
        };
        Ok(TerminalWish {
            size: TerminalSize {
                cols: side("cols", self.cols, COLS)?,
                rows: side("rows", self.rows, ROWS)?,
            },
            command: self.command.filter(|command| !command.trim().is_empty()),
            working_dir: self.working_dir.unwrap_or_default(),
            environment: self.environment.unwrap_or_default().into_iter().collect(),
        })
    }
}

/// A terminal.
#[derive(Debug, Serialize, ToSchema)]
struct TerminalInfo {
    terminal_id: String,
    cols: u16,
    rows: u16,
    command: String,
    created_at: Stamp,
    /// `running` or `exited`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

impl From<Terminal> for TerminalInfo {
    fn from(terminal: Terminal) -> Self {
        Self {
            terminal_id: terminal.id.to_string(),
            cols: terminal.size.cols,
            rows: terminal.size.rows,
            command: terminal.command,
            created_at: Stamp(terminal.created_at),
            status: match terminal.exit_code {
                None => "running",
                Some(_) => "exited",
            },
            exit_code: terminal.exit_code,
        }
    }
}

fn workspace(state: &ApiState, caller: &Caller, name: &str) -> Result<Workspace, Problem> {
    Ok(state.workspaces.get(&caller.owner, &project(name)?)?)
}

/// What is no id is none that there is.
fn terminal_in_path(text: &str) -> Result<TerminalId, Problem> {
    let id = text.parse();
    id.map_err(|_| Problem::not_found("no such terminal"))
}

/// Open a terminal
#[utoipa::path(post, path = "/api/v1/sdk/workspaces/{project_id}/terminals", tag = "terminal",
    params(("project_id" = String, Path)), request_body = OpenBody,
    responses((status = 201, body = TerminalInfo)))]
async fn open(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<Response, Problem> {
    let workspace = workspace(&state, &caller, &project_id)?;
    let opened = workspace.open_terminal(body.wish()?).await?;
    Ok((StatusCode::CREATED, Json(TerminalInfo::from(opened))).into_response())
}

/// Terminals, oldest first
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/terminals", tag = "terminal",
    params(("project_id" = String, Path)), responses((status = 200, body = Object)))]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let workspace = workspace(&state, &caller, &project_id)?;
    let terminals: Vec<TerminalInfo> = workspace
        .terminals()
        .await?
        .into_iter()
        .map(TerminalInfo::from)
        .collect();
    Ok(Json(json!({
        "project_id": project_id,
        "total_count": terminals.len(),
        "terminals": terminals,
    })))
}

/// One terminal
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/terminals/{terminal_id}",
    tag = "terminal", params(("project_id" = String, Path), ("terminal_id" = String, Path)),
    responses((status = 200, body = TerminalInfo)))]
async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, terminal_id)): Path<(String, String)>,
) -> Result<Json<TerminalInfo>, Problem> {
    let workspace = workspace(&state, &caller, &project_id)?;
    let id = terminal_in_path(&terminal_id)?;
    Ok(Json(workspace.terminal(&id).await?.into()))
}

/// End a terminal and all that runs there
#[utoipa::path(delete, path = "/api/v1/sdk/workspaces/{project_id}/terminals/{terminal_id}",
    tag = "terminal", params(("project_id" = String, Path), ("terminal_id" = String, Path)),
    responses((status = 200, body = TerminalInfo)))]
async fn close(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, terminal_id)): Path<(String, String)>,
) -> Result<Json<TerminalInfo>, Problem> {
    let workspace = workspace(&state, &caller, &project_id)?;
    let id = terminal_in_path(&terminal_id)?;
    Ok(Json(workspace.close_terminal(&id).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(body: Value) -> Result<TerminalWish, Problem> {
        serde_json::from_value::<OpenBody>(body).unwrap().wish()
    }

    #[test]
    fn wishes_have_defaults_and_limits() {
        let plain = wish(json!({})).unwrap();
        let size = TerminalSize { cols: 80, rows: 24 };
        assert_eq!((plain.size, plain.command), (size, None));
        let shell = wish(json!({"command": " ", "cols": 1, "rows": 1000})).unwrap();
        assert_eq!((shell.command, shell.size.rows), (None, 1000));
        for body in [
            json!({"cols": 0}),
            json!({"cols": 1001}),
            json!({"rows": -1}),
        ] {
            assert_eq!(wish(body).unwrap_err().status().as_u16(), 422);
        }
    }
}
