//! `GET` and `PUT …/raw?path=`: a file's bytes as they are, of any size. Not the SDK's: for the
//! command line and for whoever moves large files.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, http::header};
use pool_backend::workspaces::WriteOptions;
use serde::Deserialize;

use super::{FileInfo, PathQuery};
use crate::input::{Params, flag, permissions, required};
use crate::streams::{Blame, incoming};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

/// Read a file's bytes
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/raw", tag = "files",
    params(("project_id" = String, Path), PathQuery),
    responses((status = 200, content_type = "application/octet-stream")))]
pub(super) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PathQuery>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", query.path.as_deref())?;
    let (info, chunks) = workspace.read_file(path).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, info.size.to_string()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    let body = Body::from_stream(chunks);
    Ok((headers, body).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PutQuery {
    #[param(required = true)]
    path: Option<String>,
    #[param(value_type = Option<bool>)]
    overwrite: Option<String>,
    permissions: Option<String>,
}

/// Write a file of any size
#[utoipa::path(put, path = "/api/v1/sdk/files/{project_id}/raw", tag = "files",
    params(("project_id" = String, Path), PutQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FileInfo)))]
pub(super) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PutQuery>,
    request: Request,
) -> Result<Json<FileInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", query.path.as_deref())?;
    let options = WriteOptions {
        mode: permissions(query.permissions.as_deref())?,
        exclusive: !flag("overwrite", query.overwrite.as_deref(), true)?,
    };
    let blame = Blame::default();
    let chunks = incoming(request.into_body(), &blame);
    let written = workspace.write_file(path, chunks, options).await;
    let info = written.map_err(|error| blame.or(error))?;
    Ok(Json(info.into()))
}
