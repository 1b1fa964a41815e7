//! The one shape of an error on the wire, and the one map from the engine's kinds to statuses.
//!
//! A handler's error travels as an extension of a bodiless response; [`Problem::finish`] writes
//! it out, with the request id, for every error whoever made it.
//!
//! Must never happen here: a cause, a host path or a stack trace in `detail`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use pool_backend::{Error, ErrorKind};
use serde_json::{Map, Value};

/// Longest `detail`: a parser's complaint may quote what it was given.
const DETAIL_MAX: usize = 1000;

/// An error as the client will see it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u32>,
    fields: Map<String, Value>,
    /// In place of the text, where clients want an object.
    shape: Option<Value>,
}

impl Problem {
    /// An error with its text, which must be safe to show.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        let retry = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        Self {
            status,
            detail,
            retry_after: retry.then_some(1),
            fields: Map::new(),
            shape: None,
        }
    }

    /// 422: understood, and wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 500 without more words; log the cause where it is known.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// A field beside `detail`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// `detail` as an object, for the few clients that want one.
    #[must_use]
    pub fn detailed(mut self, detail: Value) -> Self {
        self.shape = Some(detail);
        self
    }

    /// Seconds after which the same call may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its text.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Gives an error response its JSON body, whoever made it; others pass unchanged.
    pub fn finish(mut response: Response, request_id: &str) -> Response {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        let problem = match response.extensions_mut().remove::<Self>() {
            Some(problem) => problem,
            None if is_json(&response) => return response,
            None => Self::new(status, plain_text(status)),
        };
        let (mut parts, _) = response.into_parts();
        let mut fields = problem.fields;
        let detail = problem.shape.unwrap_or(Value::String(problem.detail));
        fields.insert("detail".to_owned(), detail);
        fields.insert("request_id".to_owned(), Value::from(request_id));
        let body = Value::Object(fields).to_string();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = problem.retry_after {
            parts.headers.insert(header::RETRY_AFTER, seconds.into());
        }
        Response::from_parts(parts, Body::from(body))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Internal => {
                tracing::error!(message = %error.message, cause = ?error.cause, "internal error");
            }
            _ => {
                tracing::debug!(kind = ?error.kind, message = %error.message, cause = ?error.cause, "refused");
            }
        }
        Self::new(status_of(error.kind), error.message)
    }
}

fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid | ErrorKind::WrongFileType => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn plain_text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "nothing is at this path",
        StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method; see Allow",
        StatusCode::INTERNAL_SERVER_ERROR => "internal error",
        other => other.canonical_reason().unwrap_or("error"),
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn every_kind_has_its_status_and_a_detail() {
        let table = [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Invalid, 422),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::WrongFileType, 422),
            (ErrorKind::TooLarge, 413),
            (ErrorKind::TooMany, 429),
            (ErrorKind::TimedOut, 408),
            (ErrorKind::NoSpace, 507),
            (ErrorKind::NotReady, 503),
            (ErrorKind::Internal, 500),
        ];
        for (kind, status) in table {
            let error = Error::caused(kind, "the text", std::io::Error::other("/srv/secret"));
            let response = Problem::from(error).into_response();
            let response = Problem::finish(response, "req-1");
            assert_eq!(response.status().as_u16(), status);
            let retry = response.headers().get(header::RETRY_AFTER).cloned();
            assert_eq!(retry.is_some(), kind.retryable(), "{kind:?}");
            assert!(retry.is_none_or(|value| value.to_str().unwrap().parse::<u32>().is_ok()));
            let body = body(response).await;
            assert_eq!(
                body,
                serde_json::json!({"detail": "the text", "request_id": "req-1"})
            );
        }
    }

    #[tokio::test]
    async fn foreign_errors_are_shaped_and_keep_their_headers() {
        let mut response = (StatusCode::METHOD_NOT_ALLOWED, "plain").into_response();
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        let response = Problem::finish(response, "r");
        assert_eq!(response.headers()[header::ALLOW], "GET");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert!(body(response).await["detail"].is_string());
    }

    #[test]
    fn a_long_detail_is_cut_on_a_letter() {
        let problem = Problem::invalid("ü".repeat(100_000));
        assert_eq!(problem.detail().chars().count(), DETAIL_MAX + 1);
    }
}
