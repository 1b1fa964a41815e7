//! What clients send, read with suspicion: bodies as bytes (the SDK calls everything JSON, empty
//! bodies and uploads included), queries as text, numbers within their ranges.
//!
//! Must never happen here: more than [`JSON_LIMIT`] in memory, or an error without a sentence.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::{Bytes, BytesMut};
use fleet::id::{ContainerId, JobId, ProjectId};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

/// Largest JSON body; larger files go through `upload` or `raw`.
pub(crate) const JSON_LIMIT: usize = 16 << 20;

/// A JSON object in the body, whatever its Content-Type; an empty body is an empty object.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = read_bounded(request.into_body(), JSON_LIMIT).await?;
        parse(&bytes).map(Self)
    }
}

/// A query string. Give `T` fields of `Option<String>` and read them with the functions below.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::invalid(error.body_text())),
        }
    }
}

async fn read_bounded(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a JSON body may have at most {limit} bytes; send large files with upload"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| cut_off())?;
        if all.len() + chunk.len() > limit {
            return Err(too_large());
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// The client stopped in the middle of a body.
pub(crate) fn cut_off() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "the body ended before it was complete",
    )
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bad = |text: &str| Problem::new(StatusCode::BAD_REQUEST, text);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("the body is not UTF-8"))?;
    let text = match text.trim_ascii() {
        "" => "{}",
        text => text,
    };
    // Serde would take an array for a struct.
    if !text.starts_with('{') {
        return Err(bad("the body must be a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::invalid(error.to_string()),
        _ => bad(&format!("the body is not valid JSON: {error}")),
    })
}

/// A whole number of a query.
pub(crate) fn number(
    name: &str,
    text: Option<&str>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, Problem> {
    let Some(text) = text else { return Ok(default) };
    let value = text.parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| out_of_range(name, &range))
}

/// A number of a body; the range in words if it is outside.
pub(crate) fn within(name: &str, value: i64, range: RangeInclusive<u64>) -> Result<u64, Problem> {
    let value = u64::try_from(value)
        .ok()
        .filter(|value| range.contains(value));
    value.ok_or_else(|| out_of_range(name, &range))
}

fn out_of_range(name: &str, range: &RangeInclusive<u64>) -> Problem {
    Problem::invalid(format!(
        "{name} must be a whole number from {} to {}",
        range.start(),
        range.end()
    ))
}

/// A switch of a query or form.
pub(crate) fn flag(name: &str, text: Option<&str>, default: bool) -> Result<bool, Problem> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(default),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some("false" | "0" | "no" | "off") => Ok(false),
        Some(_) => Err(Problem::invalid(format!("{name} must be true or false"))),
    }
}

/// A required text of a query.
pub(crate) fn required<'a>(name: &str, text: Option<&'a str>) -> Result<&'a str, Problem> {
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| Problem::invalid(format!("{name} is missing")))
}

/// A project id in a body or query.
pub(crate) fn project(text: &str) -> Result<ProjectId, Problem> {
    text.parse()
        .map_err(|error: fleet::id::InvalidId| Problem::invalid(error.to_string()))
}

/// A project id in a path: one that cannot exist is one that does not exist.
pub(crate) fn project_in_path(text: &str) -> Result<ProjectId, Problem> {
    in_path(text, "no such workspace")
}

/// See [`project_in_path`].
pub(crate) fn container_in_path(text: &str) -> Result<ContainerId, Problem> {
    in_path(text, "no such container")
}

/// See [`project_in_path`].
pub(crate) fn job_in_path(text: &str) -> Result<JobId, Problem> {
    in_path(text, "no such job")
}

fn in_path<T: FromStr<Err: Display>>(text: &str, absent: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error| Problem::not_found(format!("{absent}: {error}")))
}

/// Octal permission bits.
pub(crate) fn permissions(text: Option<&str>) -> Result<Option<u32>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = Some(digits)
        .filter(|digits| digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o777);
    match mode {
        Some(mode) => Ok(Some(mode)),
        None => Err(Problem::invalid(
            "permissions must be octal, 0 to 0777, like \"0644\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code)]
    struct Sample {
        name: Option<String>,
        count: Option<u32>,
    }

    fn status(body: &[u8]) -> u16 {
        parse::<Sample>(body).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn bodies() {
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let deep_closed = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let table: &[(&[u8], u16)] = &[
            (b"", 200),
            (b"  \r\n", 200),
            (b"{}", 200),
            (b" {\"name\":\"a\",\"other\":1}", 200),
            (b"{\"name\":null}", 200),
            (b"{\"name\":1}", 422),
            (b"{\"count\":-1}", 422),
            (b"{\"count\":1e99}", 422),
            (b"{\"count\":99999999999999999999999}", 422),
            (b"[]", 400),
            (b"null", 400),
            (b"\"x\"", 400),
            (b"{", 400),
            (b"{\"name\":\"\xff\"}", 400),
            (b"{\"name\":\"a\"} x", 400),
            (b"name=a", 400),
            (deep.as_bytes(), 400),
            // What nobody asks for is skipped without recursion.
            (deep_closed.as_bytes(), 200),
        ];
        for (body, expected) in table {
            let head = String::from_utf8_lossy(&body[..body.len().min(40)]);
            assert_eq!(status(body), *expected, "{head}");
        }
    }

    #[tokio::test]
    async fn a_declared_length_beyond_the_limit_is_refused_unread() {
        let body = Body::from(vec![b' '; 1001]);
        let problem = read_bounded(body, 1000).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 300]))
        });
        let problem = read_bounded(Body::from_stream(endless), 1000)
            .await
            .unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn numbers_flags_and_permissions() {
        assert_eq!(number("page", None, 7, 1..=9).unwrap(), 7);
        assert_eq!(number("page", Some("9"), 7, 1..=9).unwrap(), 9);
        for wrong in [
            "0",
            "-1",
            "10",
            "1e3",
            "",
            "99999999999999999999",
            "٣",
            "1.0",
        ] {
            let problem = number("page", Some(wrong), 7, 1..=9).unwrap_err();
            assert_eq!(problem.detail(), "page must be a whole number from 1 to 9");
        }
        assert!(within("timeout_seconds", i64::MIN, 1..=3600).is_err());
        assert!(flag("x", Some("True"), false).unwrap());
        assert!(!flag("x", Some("0"), true).unwrap());
        assert!(flag("x", Some("maybe"), true).is_err());
        assert_eq!(permissions(Some("0644")).unwrap(), Some(0o644));
        assert_eq!(permissions(Some("755")).unwrap(), Some(0o755));
        for wrong in ["", "4755", "-644", "+644", "rw", "0888", "77777777777777"] {
            assert!(permissions(Some(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = status(&bytes);
        }
    }
}
