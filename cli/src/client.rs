//! How commands talk to a running fleeks: HTTP/1.1, one connection per call; plain to this machine,
//! TLS to any other.
//!
//! Must never happen here: a wait without a bound.

mod connect;
mod events;
mod socket;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fleet::timing;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use self::connect::Place;
pub use self::connect::is_local;
pub use self::events::{Event, Events};
pub use self::socket::Socket;

/// Largest JSON answer that is taken.
const ANSWER_MAX: usize = 64 << 20;

/// What a request carries; streams for files.
pub type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why a call did not succeed. The texts are for people at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address.
    #[error("{url}: {problem}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key.
    #[error("the API key cannot be read from {path}: {problem}")]
    Key {
        /// Where it should be.
        path: String,
        /// What is wrong there.
        problem: String,
    },
    /// Certificates that are to be trusted.
    #[error("the certificates in {path} cannot be used: {problem}")]
    Authorities {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers.
    #[error("{authority} does not answer: {problem}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// What the system said.
        problem: String,
    },
    /// Somebody answers, and nobody who is trusted vouches for them.
    #[error("{authority} has a certificate that is not trusted: {problem}")]
    Untrusted {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        problem: String,
        /// It may be good: who made it is not known here.
        unknown_issuer: bool,
    },
    /// The connection broke or fell silent.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The API refused.
    #[error("{detail} ({status}, request {request_id})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The API's sentence.
        detail: String,
        /// For the log.
        request_id: String,
    },
}

/// A caller with its key.
#[derive(Clone)]
pub struct Client {
    place: Place,
    key: String,
}

impl Client {
    /// For an address like `http://127.0.0.1:8080` or `https://api.example.org`; the latter's
    /// certificate may also be vouched for by `authorities`.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Authorities`].
    pub fn new(
        base_url: &str,
        key: impl Into<String>,
        authorities: &[PathBuf],
    ) -> Result<Self, ClientError> {
        Ok(Self {
            place: Place::new(base_url, authorities)?,
            key: key.into(),
        })
    }

    /// The key that `fleeks up` wrote into its data dir.
    ///
    /// # Errors
    /// [`ClientError::Key`].
    pub fn read_key(data_dir: &Path) -> Result<String, ClientError> {
        let path = data_dir.join("api-key");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(ClientError::Key {
                path: path.display().to_string(),
                problem: error.to_string(),
            }),
        }
    }

    /// One call: JSON out, JSON back. `path` is already encoded; see [`encode`].
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` for every status from 400.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let body = Full::new(bytes)
            .map_err(|never| match never {})
            .boxed_unsync();
        // The server answers, or begins to, long before.
        let answer = self.send(method, path, body);
        let response = tokio::time::timeout(timing::RESPONSE_HEADERS, answer)
            .await
            .map_err(|_| ClientError::Broken("it did not begin".to_owned()))??;
        json(response).await
    }

    /// One call with bytes, which may take as long as they move (the server watches that): the
    /// answer's body is for the caller to read, each part with [`next_part`]. Errors are read
    /// here.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
    ) -> Result<Response<Incoming>, ClientError> {
        self.send_with(method, path, &[], body).await
    }

    /// Events of a stream, after the one with the id `last`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn events(&self, path: &str, last: Option<&str>) -> Result<Events, ClientError> {
        let nothing = Full::new(Bytes::new())
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|last| ("last-event-id", last)));
        let answer = self.send_with(Method::GET, path, &headers, nothing);
        let response = tokio::time::timeout(timing::RESPONSE_HEADERS, answer)
            .await
            .map_err(|_| ClientError::Broken("it did not begin".to_owned()))??;
        Ok(Events::new(response.into_body()))
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: RequestBody,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.place.authority)
            .header("x-api-key", &self.key)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(body)
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let mut sender = self.connect().await?;
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(refused(
                status.as_u16(),
                &collect(response.into_body()).await?,
            ));
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<http1::SendRequest<RequestBody>, ClientError> {
        let stream = self.place.connect().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| ClientError::Unreachable {
                    authority: self.place.authority.clone(),
                    problem: error.to_string(),
                })?;
        // Ends with the answer: the connection is not kept.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// An answer that is one document; `null` if it is empty.
///
/// # Errors
/// `Broken`.
pub async fn json(response: Response<Incoming>) -> Result<Value, ClientError> {
    let bytes = collect(response.into_body()).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|_| ClientError::Broken("it is not JSON".to_owned()))
}

/// The next bytes of an answer; `None` at its end.
///
/// # Errors
/// `Broken`, also after `timing::BODY_SILENCE` without a byte.
pub async fn next_part(body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    loop {
        let frame = tokio::time::timeout(timing::BODY_SILENCE, body.frame())
            .await
            .map_err(|_| ClientError::Broken("nothing came any more".to_owned()))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(ClientError::Broken(error.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, ClientError> {
    let mut all = Vec::new();
    while let Some(part) = next_part(&mut body).await? {
        if all.len() + part.len() > ANSWER_MAX {
            return Err(ClientError::Broken("it is too large".to_owned()));
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    ClientError::Refused {
        status,
        detail: text("detail").unwrap_or_else(|| "refused without a reason".to_owned()),
        request_id: text("request_id").unwrap_or_else(|| "unnamed".to_owned()),
    }
}

/// A text as part of a path or query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers one connection with these bytes; gives back what it was sent.
    async fn answering(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = vec![0; 4096];
            let length = stream.read(&mut got).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&got[..length]).into_owned()
        });
        (
            Client::new(&format!("http://{address}"), "fleeks_sk_x", &[]).unwrap(),
            asked,
        )
    }

    #[tokio::test]
    async fn answers_and_refusals() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        let (client, asked) = answering(ok).await;
        let value = client
            .call(Method::POST, "/x?y=1", Some(&json!({"b": 2})))
            .await
            .unwrap();
        assert_eq!(value, json!({"a": 1}));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /x?y=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-api-key: fleeks_sk_x"));

        let empty = "HTTP/1.1 204 No Content\r\n\r\n";
        let (client, _asked) = answering(empty).await;
        assert_eq!(
            client.call(Method::DELETE, "/x", None).await.unwrap(),
            Value::Null
        );

        let wrong = "HTTP/1.1 404 Not Found\r\nContent-Length: 38\r\n\r\n{\"detail\":\"not here\",\"request_id\":\"r\"}";
        let (client, _asked) = answering(wrong).await;
        let error = client.call(Method::GET, "/x", None).await.unwrap_err();
        assert_eq!(error.to_string(), "not here (404, request r)");

        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{\"a\":1}";
        let (client, _asked) = answering(cut).await;
        let error = client.call(Method::GET, "/x", None).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)));
    }

    #[tokio::test]
    async fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = Client::new(&format!("http://{address}/"), "k", &[]).unwrap();
        let error = client.call(Method::GET, "/", None).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("a b/ü?.-_~"), "a%20b%2F%C3%BC%3F.-_~");
    }
}
