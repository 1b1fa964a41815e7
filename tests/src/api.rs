//! The API as a plain JSON client sees it: every status is an answer, nothing is retried.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Longer than any answer may take (the SDK gives up at 30 s).
const LIMIT: Duration = Duration::from_secs(40);
/// No answer of the API to a hostile call is larger.
const MOST: u64 = 64 << 20;

/// A client with one key and one keep-alive connection pool.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: String,
    /// Value of Retry-After.
    pub retry_after: String,
    /// The body.
    pub body: Vec<u8>,
    /// From the call to the last byte.
    pub took: Duration,
}

impl Api {
    /// A client of the platform at `base`, e.g. `http://127.0.0.1:8080`.
    pub fn new(base: &str, key: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(LIMIT))
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            base: base.to_owned(),
            key: key.map(str::to_owned),
        }
    }

    /// The same platform without any key.
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The key in use.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.call("GET", path, &[])
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<Reply> {
        self.call("DELETE", path, &[])
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call("POST", path, body.to_string().as_bytes())
    }

    /// PUT of JSON.
    pub fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call("PUT", path, body.to_string().as_bytes())
    }

    /// Any call with any body; like the SDK it says `application/json` whatever it sends.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply> {
        self.call_with(method, path, &[], body)
    }

    /// [`Api::call`] with more headers.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        let start = Instant::now();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("X-API-Key", key);
        }
        let request = request
            .body(body)
            .with_context(|| format!("{method} {path} is no request"))?;
        let mut response = self
            .agent
            .run(request)
            .with_context(|| format!("{method} {path}"))?;
        let header = |name: &str| {
            let value = response.headers().get(name);
            let value = value.and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (content_type, retry_after) = (header("content-type"), header("retry-after"));
        let body = response.body_mut().with_config().limit(MOST).read_to_vec();
        let body = body.with_context(|| format!("body of {method} {path}"))?;
        Ok(Reply {
            status: response.status().as_u16(),
            content_type,
            retry_after,
            body,
            took: start.elapsed(),
        })
    }
}

impl Reply {
    /// The JSON of an answer that must have succeeded.
    pub fn ok(&self) -> Result<Value> {
        ensure!(
            (200..300).contains(&self.status),
            "status {}: {}",
            self.status,
            self.text()
        );
        self.json()
    }

    /// The body as JSON; null when there is none.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The body as text, shortened for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(600)
            .collect()
    }

    /// Checks that this is a refusal in the API's shape: one of `statuses`, JSON, a `detail`, and
    /// nothing of the machine's inside in it.
    pub fn refused(&self, statuses: &[u16]) -> Result<&Self> {
        ensure!(
            statuses.contains(&self.status),
            "status {} instead of one of {statuses:?}: {}",
            self.status,
            self.text()
        );
        ensure!(
            self.content_type.starts_with("application/json"),
            "a refusal of type {:?}: {}",
            self.content_type,
            self.text()
        );
        let body = self.json()?;
        ensure!(
            body.get("detail").is_some_and(|detail| !detail.is_null()),
            "a refusal without detail: {body}"
        );
        let text = body.to_string();
        for inside in ["fleeks-worlds", "/proc/", "panicked", "src/", "os error"] {
            ensure!(
                !text.contains(inside),
                "a refusal that shows {inside:?}: {body}"
            );
        }
        Ok(self)
    }
}
