//! The server over its socket, with a small router in the API's place: no container is needed to
//! see who gets in and what errors look like.

use super::*;
use agent_api::websocket::{Leaving, Socket};
use agent_api::{Caller, JsonBody, Problem};
use axum::extract::Request;
use axum::routing::{get, post};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WebsocketError, Message, protocol::CloseFrame};

struct Fixture {
    dir: TempDir,
    keys: Arc<KeyStore>,
    ready: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Says back what it hears; goodbye when the server goes.
async fn echo(mut socket: Socket, mut leaving: Leaving) {
    loop {
        tokio::select! {
            () = leaving.begun() => {
                let away = CloseFrame { code: CloseCode::Away, reason: "away".into() };
                let _ = socket.close(Some(away)).await;
                return;
            }
            said = socket.next() => match said {
                Some(Ok(said @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(said).await.is_err() { return; }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

fn small_api(sockets: Websockets) -> Router {
    let panics = || async {
        let empty: Vec<u8> = Vec::new();
        // What a bug looks like.
        String::from(char::from(empty[empty.len()]))
    };
    Router::new()
        .route(
            "/api/v1/whoami",
            get(|caller: Caller| async move { caller.owner_name.to_string() }),
        )
        .route(
            "/api/v1/body",
            post(|JsonBody(body): JsonBody<Value>| async move { axum::Json(body) }),
        )
        .route("/api/v1/bug", get(panics))
        .route(
            "/api/v1/echo",
            get(|_: Caller, request: Request| async move { sockets.upgrade(request, echo) }),
        )
        .route(
            "/api/v1/deny",
            get(|| async { Problem::new(StatusCode::TOO_MANY_REQUESTS, "slowly") }),
        )
}

impl Fixture {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let records = RecordStore::open(dir.path()).unwrap();
        let keys = KeyStore::open(records, dir.path().to_owned())
            .await
            .unwrap();
        let keys = Arc::new(keys);
        let (ready, is_ready) = watch::channel(true);
        let (managed, _) = keys::routes(Arc::clone(&keys), None).split_for_parts();
        let (leave, leaving) = watch::channel(false);
        let sockets = Websockets::new(leaving);
        let api = small_api(sockets.clone()).merge(managed);
        let router = app::app(api, Arc::clone(&keys), is_ready, console::tests::console());
        let listener = socket::bind(&dir.path().join("run/api.sock")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(listener, router, shutdown, leave, sockets));
        Self {
            dir,
            keys,
            ready,
            stop: Some(stop),
            server,
        }
    }

    fn key(&self) -> String {
        std::fs::read_to_string(self.keys.key_file())
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Sends a request as it is, reads the answer to its end.
    async fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let socket = self.dir.path().join("run/api.sock");
        let (mut read, mut write) = UnixStream::connect(socket).await.unwrap().into_split();
        let head = format!("{head}\r\nHost: api\r\nConnection: close\r\n\r\n");
        let send = async {
            write.write_all(head.as_bytes()).await.unwrap();
            // The server may close first; what it answered is what counts.
            let _ = write.write_all(body).await;
        };
        let mut bytes = Vec::new();
        let (_, got) = tokio::join!(send, read.read_to_end(&mut bytes));
        got.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let key = self.key();
        self.raw(&format!("GET {path} HTTP/1.1\r\nX-API-Key: {key}"), b"")
            .await
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let (key, length) = (self.key(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nAuthorization: bearer {key}\r\nContent-Length: {length}"
        );
        self.raw(&head, body).await
    }
}

#[tokio::test]
async fn keys_are_asked_for() {
    let api = Fixture::start().await;
    let other = api.keys.list()[0].0.owner.clone();
    let gone = api
        .keys
        .create(&other, Some("gone"), keys::Terms::default());
    let revoked = gone.await.unwrap();
    api.keys.revoke(&revoked.record.id).await.unwrap();
    let revoked = format!("X-API-Key: {}", revoked.secret);
    let table = [
        ("X-Nothing: 1", "required"),
        ("X-API-Key: fleeks_sk_wrong", "invalid"),
        ("Authorization: Bearer fleeks_sk_wrong", "invalid"),
        ("Authorization: Basic Zm9v", "required"),
        ("Authorization: Bearer", "required"),
        ("Cookie: api_key=x", "required"),
        (revoked.as_str(), "revoked"),
    ];
    for path in [
        "/api/v1/whoami",
        "/api/v1/unknown",
        "/api/v1/keys",
        "/elsewhere",
    ] {
        for (header, word) in table {
            let answer = api
                .raw(&format!("GET {path} HTTP/1.1\r\n{header}"), b"")
                .await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(
                answer.body["detail"].as_str().unwrap().contains(word),
                "{header}"
            );
            assert!(answer.header("www-authenticate").is_some());
        }
    }
    assert_eq!(api.get("/api/v1/whoami").await.body, "default");
    assert_eq!(api.send("GET", "/api/v1/whoami", b"").await.body, "default");
}

#[tokio::test]
async fn every_error_is_json_with_a_request_id() {
    let api = Fixture::start().await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let table: &[(&str, &str, &[u8], u16)] = &[
        ("GET", "/api/v1/unknown", b"", 404),
        ("GET", "/api/v1/keys/a/b", b"", 404),
        ("DELETE", "/api/v1/whoami", b"", 405),
        ("POST", "/api/v1/body", b"{", 400),
        ("POST", "/api/v1/body", b"{\"a\":\"\xff\"}", 400),
        ("POST", "/api/v1/body", deep.as_bytes(), 400),
        ("GET", "/api/v1/bug", b"", 500),
        ("GET", "/api/v1/deny", b"", 429),
        ("DELETE", "/api/v1/keys/..", b"", 404),
        ("POST", "/api/v1/keys", b"{\"owner_name\":\"\"}", 422),
        ("POST", "/api/v1/keys", b"{\"owner_name\":7}", 422),
    ];
    for (method, path, body, status) in table {
        let answer = api.send(method, path, body).await;
        assert_eq!(answer.status, *status, "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert!(answer.body["detail"].is_string(), "{path}");
        assert_eq!(
            answer.body["request_id"].as_str(),
            answer.header("x-request-id"),
            "{path}"
        );
        assert_eq!(answer.header("retry-after").is_some(), *status == 429);
        assert_eq!(answer.header("allow").is_some(), *status == 405);
    }
    let named = api
        .raw("GET /api/v1/x HTTP/1.1\r\nX-Request-Id: abc-1", b"")
        .await;
    assert_eq!(named.body["request_id"], "abc-1");
    assert_eq!(named.header("x-request-id"), Some("abc-1"));
}

#[tokio::test]
async fn both_slash_forms_are_one_path() {
    let api = Fixture::start().await;
    assert_eq!(api.get("/api/v1/whoami/").await.body, "default");
    let answer = api.send("POST", "/api/v1/body/", b"{\"a\":1}").await;
    assert_eq!((answer.status, answer.body), (200, json!({"a": 1})));
    assert_eq!(api.send("POST", "/api/v1/body", b"").await.body, json!({}));
    assert_eq!(api.raw("GET /health/ HTTP/1.1", b"").await.status, 200);
}

#[tokio::test]
async fn large_bodies_are_refused_and_the_answer_arrives() {
    let api = Fixture::start().await;
    let large = vec![b' '; 100_000_000];
    let answer = api.send("POST", "/api/v1/body", &large).await;
    assert_eq!(answer.status, 413);
    // An upload without a key, too.
    let head = format!(
        "POST /api/v1/body HTTP/1.1\r\nContent-Length: {}",
        large.len()
    );
    assert_eq!(api.raw(&head, &large).await.status, 401);
}

#[tokio::test]
async fn health_tells_when_requests_will_succeed() {
    let api = Fixture::start().await;
    api.ready.send(false).unwrap();
    let health = api.raw("GET /health HTTP/1.1", b"").await;
    assert_eq!(
        (health.status, &health.body["status"]),
        (503, &json!("starting"))
    );
    let early = api.get("/api/v1/whoami").await;
    assert_eq!(early.status, 503);
    assert!(early.header("retry-after").is_some() && early.body["detail"].is_string());
    api.ready.send(true).unwrap();
    let health = api.raw("GET /health HTTP/1.1", b"").await;
    assert_eq!((health.status, &health.body["status"]), (200, &json!("ok")));
}

#[tokio::test]
async fn keys_over_http() {
    let api = Fixture::start().await;
    let made = api
        .send("POST", "/api/v1/keys", b"{\"owner_name\":\"ada\"}")
        .await;
    assert_eq!(made.status, 201);
    let (secret, id) = (
        made.body["key"].as_str().unwrap(),
        made.body["key_id"].as_str().unwrap(),
    );
    let ada = format!("HTTP/1.1\r\nX-API-Key: {secret}");
    assert_eq!(
        api.raw(&format!("GET /api/v1/whoami {ada}"), b"")
            .await
            .body,
        "ada"
    );
    assert_eq!(
        api.raw(&format!("GET /api/v1/keys {ada}"), b"")
            .await
            .status,
        403
    );
    assert_eq!(
        api.raw(&format!("DELETE /api/v1/keys/{id} {ada}"), b"")
            .await
            .status,
        403
    );
    let listed = api.get("/api/v1/keys").await.body;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("fleeks_sk_"));
    assert_eq!(
        api.send("DELETE", &format!("/api/v1/keys/{id}"), b"")
            .await
            .status,
        200
    );
    assert_eq!(
        api.raw(&format!("GET /api/v1/whoami {ada}"), b"")
            .await
            .status,
        401
    );
    let own = api.keys.list()[0].0.id.to_string();
    assert_eq!(
        api.send("DELETE", &format!("/api/v1/keys/{own}"), b"")
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn websockets_are_served_and_told_when_the_server_goes() {
    let mut api = Fixture::start().await;
    let path = api.dir.path().join("run/api.sock");
    let open = async |key: &str| {
        let stream = UnixStream::connect(&path).await.unwrap();
        let request = http::Request::get("ws://api/api/v1/echo")
            .header("host", "api")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("x-api-key", key)
            .body(())
            .unwrap();
        tokio_tungstenite::client_async(request, stream).await
    };
    let refused = open("fleeks_sk_wrong").await.unwrap_err();
    assert!(
        matches!(&refused, WebsocketError::Http(answer) if answer.status() == 401),
        "{refused:?}"
    );
    let plain = api.get("/api/v1/echo").await;
    assert_eq!(
        (plain.status, plain.header("upgrade")),
        (426, Some("websocket"))
    );

    let (mut socket, _) = open(&api.key()).await.unwrap();
    for said in [Message::text("hello"), Message::binary(vec![0; 50_000])] {
        socket.send(said.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), said);
    }
    // Longer than a message may be: the socket ends, the server does not.
    let (mut large, _) = open(&api.key()).await.unwrap();
    let _ = large.send(Message::binary(vec![0; 1 << 20])).await;
    while let Some(Ok(_)) = large.next().await {}

    api.stop.take().unwrap().send(()).unwrap();
    let goodbye = socket.next().await.unwrap().unwrap();
    assert!(
        matches!(&goodbye, Message::Close(Some(frame)) if frame.code == CloseCode::Away),
        "{goodbye:?}"
    );
    while let Some(Ok(_)) = socket.next().await {}
    tokio::time::timeout(timing::DRAIN, api.server)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn shutdown_ends_and_the_socket_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut api = Fixture::start().await;
    let path = api.dir.path().join("run/api.sock");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // An idle connection must not hold up the end.
    let _idle = UnixStream::connect(&path).await.unwrap();
    api.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(timing::DRAIN, api.server)
        .await
        .unwrap()
        .unwrap();
    // The next process takes over a socket that was left behind.
    assert!(path.exists());
    socket::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(socket::bind(&path).is_err());
}
