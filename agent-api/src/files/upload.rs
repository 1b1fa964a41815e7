//! `POST …/upload`: one file by multipart, streamed into the workspace.

use axum::extract::{Path, Request, State};
use axum::{Json, http::header};
use http::StatusCode;
use pool_backend::workspaces::WriteOptions;
use pool_backend::{ErrorKind, Workspace};

use super::FileInfo;
use super::multipart::Form;
use crate::input::{permissions, required};
use crate::streams::{Blame, collect, incoming, once};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

/// Largest file whose `overwrite` may come after it, when something stands at its path.
const UNDECIDED_LIMIT: usize = 16 << 20;

/// Upload a file as a form with `path`, `overwrite` and `file`
#[utoipa::path(post, path = "/api/v1/sdk/files/{project_id}/upload", tag = "files",
    params(("project_id" = String, Path)),
    request_body(content = Object, content_type = "multipart/form-data"),
    responses((status = 200, body = FileInfo)))]
pub(super) async fn upload(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    request: Request,
) -> Result<Json<FileInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|kind| kind.to_str().ok());
    let blame = Blame::default();
    let mut form = Form::open(content_type, incoming(body, &blame), &blame).await?;
    let Some(path) = form.path.clone() else {
        return Err(Problem::invalid("send the field `path` before `file`"));
    };
    let path = required("path", Some(&path))?;
    let mode = permissions(form.permissions.as_deref())?;
    let overwrite = match form.overwrite {
        Some(overwrite) => overwrite,
        None if !is_taken(&workspace, path).await? => false,
        None => return undecided(&workspace, path, mode, form, &blame).await,
    };
    let options = WriteOptions {
        mode,
        exclusive: !overwrite,
    };
    let written = workspace.write_file(path, form.file(), options).await;
    let info = written.map_err(|error| blame.or(error))?;
    Ok(Json(info.into()))
}

async fn is_taken(workspace: &Workspace, path: &str) -> Result<bool, Problem> {
    match workspace.stat(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The TypeScript SDK says whether to overwrite only after the file.
async fn undecided(
    workspace: &Workspace,
    path: &str,
    mode: Option<u32>,
    mut form: Form,
    blame: &Blame,
) -> Result<Json<FileInfo>, Problem> {
    let content = collect(form.file(), UNDECIDED_LIMIT).await;
    let content = content.map_err(|_| blame.or_problem(crate::input::cut_off()))?;
    let Some(content) = content else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "something is at this path; send the field `overwrite` before `file`",
        ));
    };
    form.read_fields().await?;
    let options = WriteOptions {
        mode,
        exclusive: !form.overwrite.unwrap_or(false),
    };
    let info = workspace.write_file(path, once(content), options).await?;
    Ok(Json(info.into()))
}
