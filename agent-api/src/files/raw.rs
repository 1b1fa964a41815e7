//! `GET` and `PUT …/raw?path=`: a file's bytes as they are, of any size, or a range of them. Not the SDK's: for the
//! command line and for whoever moves large files.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, http::header};
use http::{HeaderMap, Method, StatusCode};
use pool_backend::workspaces::WriteOptions;
use serde::Deserialize;

use super::range::{Wanted, wanted};
use super::{FileInfo, PathQuery};
use crate::input::{Params, flag, permissions, required};
use crate::streams::{Blame, incoming};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

/// Read a file's bytes, or some of them
///
/// `Range` is understood (one range; 206, 416), `If-Range` and `If-None-Match` with the `ETag` of an
/// earlier answer.
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/raw", tag = "files",
    operation_id = "read_raw", params(("project_id" = String, Path), PathQuery, ("range" = Option<String>, Header)),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 206, content_type = "application/octet-stream"),
        (status = 304, description = "not changed")))]
pub(super) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<PathQuery>,
    method: Method,
    mut headers: HeaderMap,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let path = required("path", query.path.as_deref())?;
    // RFC 9110, 14.2: a range means something with GET only.
    if method != Method::GET {
        headers.remove(header::RANGE);
    }
    let file = workspace.open_file(path).await?;
    let (tag, size) = (format!("\"{}\"", file.version), file.info.size);
    let named = [
        (header::ETAG, tag.clone()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let part = match wanted(&headers, &tag, size) {
        Wanted::Unchanged => return Ok((StatusCode::NOT_MODIFIED, named).into_response()),
        Wanted::Beyond => {
            let problem = Problem::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("the file has {size} bytes"),
            );
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((range, problem).into_response());
        }
        Wanted::Whole => None,
        Wanted::Part(part) => Some(part),
    };
    let length = part.as_ref().map_or(size, |part| part.end - part.start);
    let modified = httpdate(file.info.modified_at);
    let kind = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::LAST_MODIFIED, modified),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    let Some(part) = part else {
        return Ok((named, kind, Body::from_stream(file.bytes())).into_response());
    };
    let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
    let range = [(header::CONTENT_RANGE, range)];
    let body = Body::from_stream(file.range(part));
    Ok((StatusCode::PARTIAL_CONTENT, named, kind, range, body).into_response())
}

/// A moment as HTTP writes it.
pub(super) fn httpdate(at: time::OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        at.day(),
        &month[..3],
        at.year(),
        at.hour(),
        at.minute(),
        at.second(),
    )
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
    operation_id = "write_raw", params(("project_id" = String, Path), PutQuery),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_http_has_them() {
        let at = time::OffsetDateTime::from_unix_timestamp(784_111_777).unwrap();
        assert_eq!(httpdate(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
