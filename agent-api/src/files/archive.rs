//! `GET` and `PUT …/archive?path=`: a directory as an archive, and an archive into a directory.
//!
//! Must never happen here: an archive in memory.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, http::header};
use http::{HeaderName, HeaderValue};
use pool_backend::Format;
use pool_backend::workspaces::NotUnpacked;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::input::{Params, flag};
use crate::streams::{Blame, incoming};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

/// How many things an archive has not: links that lead out of the directory, sockets, devices.
const LEFT_OUT: HeaderName = HeaderName::from_static("x-left-out");

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PackQuery {
    /// A directory, or a file; else all of the workspace.
    path: Option<String>,
    /// `tar`, `tar.gz` (if none is named) or `zip`.
    format: Option<String>,
}

/// Get a directory as an archive
///
/// Names in it are relative to `path`. What is hidden is in it, what a package manager installed
/// below `.home` is not. `X-Left-Out` counts what is not either: links that lead out of the
/// directory, sockets, FIFOs.
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/archive", tag = "files",
    operation_id = "pack", params(("project_id" = String, Path), PackQuery),
    responses((status = 200, content((Vec<u8> = "application/gzip"), (Vec<u8> = "application/x-tar"),
        (Vec<u8> = "application/zip")))))]
pub(super) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PackQuery>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let format: Format = query.format.as_deref().unwrap_or("tar.gz").parse()?;
    let packed = workspace.pack(directory(query.path.as_deref()), format);
    let packed = packed.await?;
    // A project id has no quotes and no letters that a header could not have.
    let name = format!("attachment; filename=\"{project_id}.{}\"", format.ending());
    let mut response = Body::from_stream(packed.content).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(format.media_type());
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    headers.insert(LEFT_OUT, packed.left_out.into());
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UnpackQuery {
    /// Below which directory; else the workspace.
    path: Option<String>,
    /// `false`: refused if a file of it is there already.
    #[param(value_type = Option<bool>)]
    overwrite: Option<String>,
}

/// What was written.
#[derive(Serialize, ToSchema)]
pub(super) struct Unpacked {
    path: String,
    files: u64,
    directories: u64,
    links: u64,
    bytes: u64,
}

/// Write all that is in an archive
///
/// A tar, tar.gz or zip; its first bytes say which. It is read to its end before anything is
/// written: one that is refused changes nothing. If a write fails later, `written` of the error
/// says how many `entries` are there, and `failed_at` at which it ended.
#[utoipa::path(put, path = "/api/v1/sdk/files/{project_id}/archive", tag = "files",
    operation_id = "unpack", params(("project_id" = String, Path), UnpackQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Unpacked)))]
pub(super) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<UnpackQuery>,
    request: Request,
) -> Result<Json<Unpacked>, Problem> {
    unpack(&state, &caller, &project_id, query, request).await
}

/// Write all that is in an archive, for clients without PUT
#[utoipa::path(post, path = "/api/v1/sdk/files/{project_id}/archive", tag = "files",
    operation_id = "unpack_by_post", params(("project_id" = String, Path), UnpackQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Unpacked)))]
pub(super) async fn post(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<UnpackQuery>,
    request: Request,
) -> Result<Json<Unpacked>, Problem> {
    unpack(&state, &caller, &project_id, query, request).await
}

async fn unpack(
    state: &ApiState,
    caller: &Caller,
    project_id: &str,
    query: UnpackQuery,
    request: Request,
) -> Result<Json<Unpacked>, Problem> {
    let workspace = find(state, caller, project_id)?;
    let path = directory(query.path.as_deref());
    let exclusive = !flag("overwrite", query.overwrite.as_deref(), true)?;
    let blame = Blame::default();
    let chunks = incoming(request.into_body(), &blame);
    let unpacked = workspace.unpack(path, chunks, exclusive).await;
    let done = unpacked.map_err(|failed| problem(failed, &blame))?;
    Ok(Json(Unpacked {
        path: path.to_owned(),
        files: done.files,
        directories: done.directories,
        links: done.links,
        bytes: done.bytes,
    }))
}

fn problem(failed: NotUnpacked, blame: &Blame) -> Problem {
    let NotUnpacked {
        error,
        written,
        entries,
        at,
    } = failed;
    if entries == 0 {
        return blame.or(error);
    }
    let mut problem = Problem::from(error).with("entries", json!(entries));
    if let Some(written) = written {
        problem = problem.with("written", json!(written));
    }
    match at {
        Some(at) => problem.with("failed_at", json!(at)),
        None => problem,
    }
}

fn directory(path: Option<&str>) -> &str {
    path.filter(|path| !path.is_empty()).unwrap_or("/")
}
