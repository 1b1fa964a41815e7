//! `…/uploads`: large files in parts, after tus 1.0 (creation, termination, expiration), so that its
//! clients work; the path and the rest are in the query.
//!
//! Must never happen here: an offset answered that is not kept.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64;
use fleet::id::UploadId;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pool_backend::workspaces::{NotAppended, Upload, UploadWish, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::raw::httpdate;
use crate::input::{Params, flag, permissions, required};
use crate::stamp::Stamp;
use crate::streams::{Blame, incoming};
use crate::workspaces::find;
use crate::{ApiState, Caller, Problem};

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const VERSION: HeaderName = HeaderName::from_static("tus-resumable");
const VERSIONS: HeaderName = HeaderName::from_static("tus-version");
const EXTENSIONS: HeaderName = HeaderName::from_static("tus-extension");
const SPOKEN: &str = "1.0.0";
/// What parts are to tus.
const PART: &str = "application/offset+octet-stream";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BeginQuery {
    /// Where the file will be; else `filename` of the header `Upload-Metadata`.
    path: Option<String>,
    #[param(value_type = Option<bool>)]
    overwrite: Option<String>,
    permissions: Option<String>,
    /// Of all of it, in hexadecimal: what has another one is not written.
    sha256: Option<String>,
}

/// An upload in parts.
#[derive(Serialize, ToSchema)]
pub(super) struct UploadInfo {
    upload_id: String,
    path: String,
    length: u64,
    /// Bytes that are kept: where to go on.
    offset: u64,
    /// The file is there.
    complete: bool,
    expires_at: Stamp,
}

/// What of tus is spoken here
#[utoipa::path(options, path = "/api/v1/sdk/files/{project_id}/uploads", tag = "files",
    params(("project_id" = String, Path)),
    responses((status = 204, description = "`Tus-Version`, `Tus-Extension`")))]
pub(super) async fn about(_: Caller, Path(_): Path<String>) -> Response {
    let said = [
        (VERSION, HeaderValue::from_static(SPOKEN)),
        (VERSIONS, HeaderValue::from_static(SPOKEN)),
        (
            EXTENSIONS,
            HeaderValue::from_static("creation,expiration,termination"),
        ),
    ];
    (StatusCode::NO_CONTENT, said).into_response()
}

/// Begin an upload in parts
///
/// The header `Upload-Length` says how many bytes there will be. `Location` of the answer takes them.
#[utoipa::path(post, path = "/api/v1/sdk/files/{project_id}/uploads", tag = "files",
    params(("project_id" = String, Path), BeginQuery, ("upload-length" = u64, Header)),
    responses((status = 201, body = UploadInfo)))]
pub(super) async fn begin(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    Params(query): Params<BeginQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(refused) = other_version(&headers) {
        return Ok(refused);
    }
    let workspace = find(&state, &caller, &project_id)?;
    let named = headers.get(METADATA).and_then(file_name);
    let path = required("path", query.path.as_deref().or(named.as_deref()))?;
    let wish = UploadWish {
        path: path.to_owned(),
        length: number(&headers, &LENGTH)?,
        options: WriteOptions {
            mode: permissions(query.permissions.as_deref())?,
            exclusive: !flag("overwrite", query.overwrite.as_deref(), true)?,
        },
        sha256: query.sha256,
    };
    let upload = workspace.begin_upload(&wish).await?;
    let place = format!("/api/v1/sdk/files/{project_id}/uploads/{}", upload.id);
    let mut response = (StatusCode::CREATED, told(&upload)).into_response();
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// How far an upload is
#[utoipa::path(get, path = "/api/v1/sdk/files/{project_id}/uploads/{upload_id}", tag = "files",
    params(("project_id" = String, Path), ("upload_id" = String, Path)),
    responses((status = 200, body = UploadInfo)))]
pub(super) async fn look(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let upload = workspace.upload(&parse(&id)?).await?;
    Ok(told(&upload).into_response())
}

/// Send the next part of an upload
///
/// `Upload-Offset` says where it begins: 409 if that is not where the upload goes on. With the last
/// byte the file is written.
#[utoipa::path(patch, path = "/api/v1/sdk/files/{project_id}/uploads/{upload_id}", tag = "files",
    params(("project_id" = String, Path), ("upload_id" = String, Path), ("upload-offset" = u64, Header)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "kept; `Upload-Offset` says how many bytes in all")))]
pub(super) async fn append(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    if let Some(refused) = other_version(request.headers()) {
        return Ok(refused);
    }
    if !is_part(request.headers()) {
        let message = format!("tus sends parts as {PART}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let workspace = find(&state, &caller, &project_id)?;
    let id = parse(&id)?;
    let offset = number(request.headers(), &OFFSET)?;
    let blame = Blame::default();
    let chunks = incoming(request.into_body(), &blame);
    match workspace.append(&id, offset, chunks).await {
        Ok(upload) => Ok((StatusCode::NO_CONTENT, headers(&upload)).into_response()),
        Err(NotAppended { error, offset }) => {
            let problem = blame.or(error);
            let Some(offset) = offset else {
                return Err(problem);
            };
            let known = [(OFFSET, HeaderValue::from(offset))];
            Ok((known, problem.with("offset", json!(offset))).into_response())
        }
    }
}

/// End an upload that is not wanted any more
#[utoipa::path(delete, path = "/api/v1/sdk/files/{project_id}/uploads/{upload_id}", tag = "files",
    params(("project_id" = String, Path), ("upload_id" = String, Path)),
    responses((status = 204, description = "gone")))]
pub(super) async fn abort(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    workspace.abort_upload(&parse(&id)?).await?;
    let version = [(VERSION, HeaderValue::from_static(SPOKEN))];
    Ok((StatusCode::NO_CONTENT, version).into_response())
}

/// A client of another version of tus is told which there is (tus 1.0, "Tus-Resumable").
fn other_version(headers: &HeaderMap) -> Option<Response> {
    let version = headers.get(VERSION)?;
    if version == SPOKEN {
        return None;
    }
    let versions = [(VERSIONS, HeaderValue::from_static(SPOKEN))];
    let problem = Problem::new(
        StatusCode::PRECONDITION_FAILED,
        format!("tus {SPOKEN} is spoken here"),
    );
    Some((versions, problem).into_response())
}

/// Who does not speak tus may call its bytes what it likes.
fn is_part(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    !headers.contains_key(VERSION) || kind.is_some_and(|kind| kind == PART)
}

fn parse(id: &str) -> Result<UploadId, Problem> {
    id.parse()
        .map_err(|_| Problem::not_found("no such upload, or it has expired"))
}

fn told(upload: &Upload) -> impl axum::response::IntoResponse + use<> {
    let info = UploadInfo {
        upload_id: upload.id.to_string(),
        path: upload.path.clone(),
        length: upload.length,
        offset: upload.offset,
        complete: upload.complete,
        expires_at: Stamp(upload.expires_at),
    };
    (headers(upload), Json(info))
}

fn headers(upload: &Upload) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, HeaderValue::from_static(SPOKEN));
    headers.insert(OFFSET, upload.offset.into());
    headers.insert(LENGTH, upload.length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(date) = HeaderValue::try_from(httpdate(upload.expires_at)) {
        headers.insert(EXPIRES, date);
    }
    headers
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Problem> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Problem::invalid(format!("the header {name} must be a number of bytes")))
}

/// `filename` of tus' metadata: pairs of a key and base64, with commas between.
fn file_name(metadata: &HeaderValue) -> Option<String> {
    let pairs = metadata.to_str().ok()?.split(',');
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once(' '));
    let (_, value) = pairs.find(|(key, _)| *key == "filename")?;
    String::from_utf8(BASE64.decode(value.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tus_clients_say() {
        let name = |text: &'static str| file_name(&HeaderValue::from_static(text));
        assert_eq!(name("filename YS50eHQ="), Some("a.txt".to_owned()));
        assert_eq!(name("type eA==, filename YQ==,empty"), Some("a".to_owned()));
        for none in ["", "filename", "filename ?", "filename /w==", "name YQ=="] {
            assert_eq!(name(none), None, "{none}");
        }
        let mut headers = HeaderMap::new();
        assert!(other_version(&headers).is_none() && is_part(&headers));
        headers.insert(VERSION, HeaderValue::from_static("1.0.0"));
        assert!(other_version(&headers).is_none() && !is_part(&headers));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PART));
        assert!(is_part(&headers));
        headers.insert(VERSION, HeaderValue::from_static("0.2.2"));
        let refused = other_version(&headers).unwrap();
        assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED);
        assert_eq!(refused.headers()[VERSIONS], "1.0.0");
        assert!(number(&headers, &LENGTH).is_err());
        for (text, length) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            headers.insert(LENGTH, HeaderValue::from_static(text));
            assert_eq!(number(&headers, &LENGTH).ok(), length, "{text}");
        }
    }
}
