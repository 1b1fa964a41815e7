//! What is refused before an app or the API hears of it.

use std::sync::atomic::Ordering::SeqCst;

use http::{Method, Request, StatusCode};
use tokio::net::TcpStream;

use crate::app::{self, full};
use crate::client::{Client, raw, request, tls};
use crate::house::{DOMAIN, House};

#[tokio::test]
async fn bad_heads_never_reach_the_app() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let host = workspace.host();
    let many = "a: b\r\n".repeat(100);
    let large = format!("a: {}\r\n", "x".repeat(70_000));
    let cases = [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        (400, format!("GET / HTTP/1.1\r\nHost: {host}.\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\nHost: u@{host}\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\nHost: {host}/\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\nHost: {host}:0\r\n\r\n")),
        (
            400,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
        ),
        (
            400,
            format!("GET https://api.{DOMAIN}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        ),
        (400, format!("GET / HTTP/1.1\nHost: {host}\n\n")),
        (
            400,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n x: y\r\n\r\n"),
        ),
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"
            ),
        ),
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            400,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\r\n"),
        ),
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx"
            ),
        ),
        (405, format!("TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        (
            405,
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"),
        ),
        (
            417,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nExpect: miracles\r\n\r\n"),
        ),
        (
            421,
            "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (
            421,
            format!("GET / HTTP/1.1\r\nHost: a.{host}\r\nConnection: close\r\n\r\n"),
        ),
        (
            421,
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (431, format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n")),
        (
            431,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n{large}\r\n"),
        ),
        (505, format!("GET / HTTP/3.0\r\nHost: {host}\r\n\r\n")),
    ];
    for (status, head) in cases {
        let answer = raw(tls(&house, &["http/1.1"], &host).await, head.as_bytes()).await;
        let line = format!("HTTP/1.1 {status} ");
        let short = &head[..head.len().min(200)];
        assert!(answer.starts_with(&line), "{short:?} -> {answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{short:?} -> {answer}"
        );
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(
            body["detail"].is_string() && body["request_id"].is_string(),
            "{answer}"
        );
    }
    assert_eq!(app.connections.load(SeqCst), 0);
    assert_eq!(house.node.in_flight.load(SeqCst), 0);
}

#[tokio::test]
async fn bad_h2_requests_are_refused_and_the_connection_goes_on() {
    let house = House::new().await;
    let app = app::says("hi").await;
    let workspace = house.workspace(app.address).await;
    let host = workspace.host();
    let mut client = Client::h2(&house).await;

    let with_method = |method| {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", &host);
        request.body(full("")).unwrap()
    };
    assert_eq!(client.answer(with_method(Method::TRACE)).await.status, 405);

    let mut many = request(&host, "/", &[]);
    for number in 0..101 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        many.headers_mut().insert(name, "1".parse().unwrap());
    }
    assert_eq!(client.answer(many).await.status, 431);

    // Browsers coalesce connections across hosts that a certificate covers; one that it does not
    // cover is refused on its stream, and the others go on.
    for other in ["example.com", &format!("a.{host}"), "127.0.0.1"] {
        assert_eq!(
            client.get(other, "/").await.status,
            StatusCode::MISDIRECTED_REQUEST
        );
    }
    let Client::H2(sender) = &mut client else {
        unreachable!()
    };
    let insecure = Request::get(format!("http://{host}/"))
        .body(full(""))
        .unwrap();
    assert_eq!(sender.send_request(insecure).await.unwrap().status(), 400);

    assert_eq!(app.connections.load(SeqCst), 0);
    assert_eq!(client.get(&host, "/").await.text, "hi");
}

#[tokio::test]
async fn unknown_hosts_get_a_clear_404() {
    let house = House::new().await;
    let app = app::says("hi").await;
    let workspace = house.workspace(app.address).await;
    let mut client = Client::h1(&house).await;
    for host in [
        format!("www.{DOMAIN}"),
        format!("workspace-aaaaaaaaaa.{DOMAIN}"),
        format!("embed.{DOMAIN}"),
        format!("64999--{}", workspace.host()),
        format!("0--{}", workspace.host()),
        DOMAIN.to_owned(),
    ] {
        let answer = client.get(&host, "/").await;
        assert_eq!(answer.status, 404, "{host}");
        assert_eq!(answer.header("content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(body["request_id"], answer.header("x-request-id"));

        let navigation = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
        let answer = client.answer(request(&host, "/", &navigation)).await;
        assert!(
            answer.text.starts_with("<!doctype html>"),
            "{}",
            answer.text
        );
        let script = [("accept", "text/html"), ("sec-fetch-mode", "cors")];
        let answer = client.answer(request(&host, "/", &script)).await;
        assert!(answer.text.starts_with('{'), "{}", answer.text);
    }
    // All on one connection: a refusal does not end it.
    assert_eq!(client.get(&workspace.host(), "/").await.text, "hi");
}

#[tokio::test]
async fn an_app_that_is_not_http_or_gone_is_a_502() {
    let house = House::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, b"SSH-2.0-x\r\n\r\n").await;
        }
    });
    let workspace = house.workspace(address).await;
    let mut client = Client::h2(&house).await;
    let answer = client.get(&workspace.host(), "/").await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    assert_eq!(house.node.in_flight.load(SeqCst), 0);
}

#[tokio::test]
async fn the_api_is_reached_with_its_request_id() {
    let house = House::new().await;
    app::serve_api(&house.api_socket, app::mirrored);
    let mut tls = Client::h2(&house).await;
    let mut plain = Client::plain(house.http).await;
    let api = format!("api.{DOMAIN}");
    let fields = [
        ("x-request-id", "mine-12345"),
        ("x-forwarded-for", "6.6.6.6"),
    ];
    let answer = tls.answer(request(&api, "/health", &fields)).await;
    assert_eq!(
        answer.mirrored("x-request-id"),
        ["mine-12345"],
        "{}",
        answer.text
    );
    assert_eq!(answer.mirrored("x-forwarded-for"), ["127.0.0.1"]);
    let answer = tls
        .answer(request(&api, "/", &[("x-request-id", "no \u{e9}")]))
        .await;
    assert_ne!(answer.mirrored("x-request-id"), ["no \u{e9}"]);
    for host in ["127.0.0.1:8080", "localhost", "[::1]:8080", &api] {
        let answer = plain.get(host, "/health").await;
        assert_eq!(answer.status, 200, "{host} {}", answer.text);
        assert_eq!(answer.mirrored("x-forwarded-proto"), ["http"]);
    }
}

#[tokio::test]
async fn an_api_that_is_down_is_a_503_for_machines() {
    let house = House::new().await;
    let mut client = Client::plain(house.http).await;
    let answer = client.get("127.0.0.1", "/health").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "1");
    let mut client = Client::plain(house.http).await;
    assert_eq!(client.get("example.com", "/").await.status, 404);
    let answer = raw(TcpStream::connect(house.http).await.unwrap(), b"\0\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
