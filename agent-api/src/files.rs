//! `/api/v1/sdk/files/{project_id}`: files of a workspace. Paths are the user's (`a`, `/a`,
//! `./a`, `/workspace/a` are one); answers name them relative to the workspace.
//!
//! Must never happen here: a path joined to another, or opened.

mod archive;
mod encoding;
mod multipart;
mod pages;
mod range;
mod raw;
mod resumable;
mod upload;
mod watch;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use pool_backend::workspaces::{FileInfo as Found, FileKind, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Params, flag, permissions, required};
use crate::stamp::Stamp;
use crate::streams::{collect, once};
use crate::workspaces::find;
use crate::{ApiState, Caller, JsonBody, Problem};
use encoding::Encoding;
use pages::page;

/// Largest file that is answered as text in JSON.
const TEXT_LIMIT: usize = 16 << 20;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, update, delete))
        .routes(routes!(mkdir))
        .routes(routes!(watch::watch))
}

/// Calls whose request body is a stream: their deadline is silence, not time.
pub(crate) fn streaming_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(upload::upload))
        .routes(routes!(raw::get, raw::put))
        .routes(routes!(archive::get, archive::put, archive::post))
        .routes(routes!(resumable::begin, resumable::about))
        .routes(routes!(
            resumable::look,
            resumable::append,
            resumable::abort
        ))
}

/// FileInfo of the contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileInfo {
    path: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    size_bytes: u64,
    permissions: String,
    created_at: Stamp,
    modified_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    /// Of the write that this answers; a watch names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    write_id: Option<u64>,
}

impl From<Found> for FileInfo {
    fn from(found: Found) -> Self {
        let name = match found.path.rsplit('/').next() {
            None | Some("") => "workspace",
            Some(name) => name,
        };
        let mime_type = match found.kind {
            FileKind::File => mime_guess::from_path(name).first_raw(),
            FileKind::Directory | FileKind::Symlink | FileKind::Other => None,
        };
        Self {
            name: name.to_owned(),
            kind: match found.kind {
                FileKind::File => "file",
                FileKind::Directory => "directory",
                FileKind::Symlink => "symlink",
                FileKind::Other => "other",
            },
            size_bytes: found.size,
            permissions: format!("{:04o}", found.mode & 0o7777),
            created_at: Stamp(found.created_at),
            modified_at: Stamp(found.modified_at),
            mime_type,
            write_id: found.write_id,
            path: found.path,
        }
    }
}

/// What to write.
#[derive(Deserialize, ToSchema)]
#[schema(as = CreateFile)]
struct Create {
    path: String,
    content: Option<String>,
    encoding: Option<String>,
    permissions: Option<String>,
}

/// Write a text file
#[utoipa::path(post, path = "/api/v1/sdk/files/{project_id}", tag = "files", params(("project_id" = String, Path)),
    request_body = Create, responses((status = 200, body = FileInfo)))]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<Create>,
) -> Result<Json<FileInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", Some(&body.path))?;
    let options = WriteOptions {
        mode: permissions(body.permissions.as_deref())?,
        exclusive: false,
    };
    let bytes = encoded(body.content, body.encoding.as_deref())?;
    let info = workspace.write_file(path, once(bytes), options).await?;
    Ok(Json(info.into()))
}

fn encoded(content: Option<String>, encoding: Option<&str>) -> Result<Bytes, Problem> {
    let encoding: Encoding = encoding.unwrap_or_default().parse()?;
    encoding.encode(content.unwrap_or_default())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    path: Option<String>,
    #[param(value_type = Option<bool>)]
    recursive: Option<String>,
    #[param(value_type = Option<bool>)]
    include_hidden: Option<String>,
    /// Pages of so many; else all at once.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 10_000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What is in a directory, or the one file that the path names
///
/// Sorted by path. `total_count` is of all pages together.
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}", tag = "files",
    params(("project_id" = String, Path), ListQuery), responses((status = 200, body = Object)))]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = query
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let recursive = flag("recursive", query.recursive.as_deref(), false)?;
    let hidden = flag("include_hidden", query.include_hidden.as_deref(), false)?;
    // Of a file this is the one entry: so the SDK asks about it.
    let found = workspace.list_files(path, recursive, hidden).await?;
    let total = found.len();
    let (found, next) = page(found, query.limit.as_deref(), query.cursor.as_deref())?;
    let files: Vec<FileInfo> = found.into_iter().map(FileInfo::from).collect();
    let mut answer = json!({
        "project_id": project_id,
        "path": path,
        "total_count": total,
        "files": files,
    });
    if let Some(next) = next {
        answer["next_cursor"] = json!(next);
    }
    Ok(Json(answer))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReadQuery {
    #[param(required = true)]
    path: Option<String>,
    encoding: Option<String>,
    #[param(value_type = Option<bool>)]
    binary: Option<String>,
}

/// Read a text file
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/content", tag = "files",
    params(("project_id" = String, Path), ReadQuery), responses((status = 200, body = Object)))]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<ReadQuery>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", query.path.as_deref())?;
    let binary = flag("binary", query.binary.as_deref(), false)?;
    let encoding: Encoding = query.encoding.as_deref().unwrap_or_default().parse()?;
    let (info, chunks) = workspace.read_file(path).await?;
    if binary {
        // Each byte as the letter of its number: `.encode('latin1')` gives the bytes back.
        let head = once(Bytes::from_static(b"{\"content\":\""));
        let middle = chunks.map(|chunk| chunk.map(|bytes| encoding::latin1_json(&bytes)));
        let end = once(Bytes::from_static(b"\"}"));
        let body = Body::from_stream(head.chain(middle).chain(end));
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "more than {TEXT_LIMIT} bytes cannot be read as text; use binary=true, or GET …/raw"
            ),
        )
    };
    if info.size > TEXT_LIMIT as u64 {
        return Err(too_large());
    }
    let bytes = match collect(chunks, TEXT_LIMIT).await {
        Ok(bytes) => bytes.ok_or_else(too_large)?,
        Err(error) => {
            tracing::warn!(%error, "a file could not be read to its end");
            return Err(Problem::internal());
        }
    };
    let content = encoding.decode(&bytes)?;
    Ok(Json(json!({
        "content": content,
        "path": info.path,
        "size_bytes": bytes.len(),
    }))
    .into_response())
}

/// What to write.
#[derive(Deserialize, ToSchema)]
#[schema(as = UpdateFile)]
struct Update {
    path: Option<String>,
    content: Option<String>,
    encoding: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PathQuery {
    #[param(required = true)]
    path: Option<String>,
}

/// Replace a text file
///
/// Whether or not it is there: the SDK never sends its `create_if_missing`.
#[utoipa::path(put, path = "/api/v1/sdk/files/{project_id}/content", tag = "files",
    params(("project_id" = String, Path), PathQuery), request_body = Update,
    responses((status = 200, body = FileInfo)))]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PathQuery>,
    JsonBody(body): JsonBody<Update>,
) -> Result<Json<FileInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    // The TypeScript SDK sends the path in the body.
    let path = required("path", query.path.as_deref().or(body.path.as_deref()))?;
    // Nothing said is not nothing meant.
    required("content", body.content.as_ref().map(|_| "said"))?;
    let bytes = encoded(body.content, body.encoding.as_deref())?;
    let options = WriteOptions::default();
    let info = workspace.write_file(path, once(bytes), options).await?;
    Ok(Json(info.into()))
}

/// Remove a file or directory
#[utoipa::path(delete, path = "/api/v1/sdk/files/{project_id}/content", tag = "files",
    params(("project_id" = String, Path), PathQuery), responses((status = 200, body = Object)))]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PathQuery>,
) -> Result<Json<Value>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", query.path.as_deref())?;
    workspace.remove_file(path).await?;
    Ok(Json(json!({ "path": path, "message": "deleted" })))
}

/// What to make.
#[derive(Deserialize, ToSchema)]
#[schema(as = MakeDirectory)]
struct Mkdir {
    path: String,
    parents: Option<bool>,
    permissions: Option<String>,
}

/// Make a directory
#[utoipa::path(post, path = "/api/v1/sdk/files/{project_id}/directories", tag = "files", params(("project_id" = String, Path)),
    request_body = Mkdir, responses((status = 200, body = FileInfo)))]
async fn mkdir(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<Mkdir>,
) -> Result<Json<FileInfo>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", Some(&body.path))?;
    let mode = permissions(body.permissions.as_deref())?;
    let parents = body.parents.unwrap_or(true);
    let info = workspace.make_directory(path, parents, mode).await?;
    Ok(Json(info.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    #[test]
    fn file_info_on_the_wire() {
        let found = Found {
            path: "src/main.py".to_owned(),
            kind: FileKind::File,
            size: 3,
            mode: 0o100_644,
            created_at: OffsetDateTime::UNIX_EPOCH,
            modified_at: OffsetDateTime::UNIX_EPOCH,
            write_id: None,
        };
        let expected = json!({
            "path": "src/main.py", "name": "main.py", "type": "file", "size_bytes": 3,
            "permissions": "0644", "created_at": "1970-01-01T00:00:00Z",
            "modified_at": "1970-01-01T00:00:00Z", "mime_type": "text/plain",
        });
        let mut wire = serde_json::to_value(FileInfo::from(found.clone())).unwrap();
        // Which of Python's media types is right is not ours to say.
        assert!(wire["mime_type"].as_str().unwrap().starts_with("text/"));
        wire["mime_type"] = json!("text/plain");
        assert_eq!(wire, expected);
        let root = Found {
            path: String::new(),
            kind: FileKind::Directory,
            mode: 0o755,
            ..found
        };
        let wire = serde_json::to_value(FileInfo::from(root)).unwrap();
        assert_eq!(wire["path"], "");
        assert_eq!(wire["name"], "workspace");
        assert_eq!(wire["type"], "directory");
        assert!(wire.get("mime_type").is_none());
    }
}
