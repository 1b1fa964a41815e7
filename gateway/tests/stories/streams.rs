//! Bodies and upgraded connections: they flow, both ways, as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use http_body_util::{BodyExt as _, Channel};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use crate::app;
use crate::client::{Client, PATIENCE, request, tls};
use crate::house::House;

#[tokio::test]
async fn events_arrive_before_the_response_ends() {
    let house = House::new().await;
    let go_on = Arc::new(Notify::new());
    let more = go_on.clone();
    let app = app::serve(move |_| {
        let more = more.clone();
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                for number in 0..3 {
                    let event = format!("data: {number}\n\n");
                    let _ = sender.send(Frame::data(event.into())).await;
                    more.notified().await;
                }
            });
            let mut response = Response::new(body.boxed());
            let kind = "text/event-stream".parse().unwrap();
            response.headers_mut().insert("content-type", kind);
            response
        }
    })
    .await;
    let workspace = house.workspace(app.address).await;
    // Announced by Accept, as EventSource does, and not announced, as a script's fetch.
    for accept in ["text/event-stream", "*/*"] {
        for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
            let sent = client.send(request(&workspace.host(), "/", &[("accept", accept)]));
            let mut body = sent.await.into_body();
            for number in 0..3 {
                let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
                let data = frame.unwrap().unwrap().into_data().unwrap();
                assert_eq!(data, format!("data: {number}\n\n"));
                assert_eq!(
                    house.node.in_flight.load(SeqCst),
                    0,
                    "it may sleep meanwhile"
                );
                assert_eq!(house.node.attached.load(SeqCst), 1);
                go_on.notify_one();
            }
            let rest = tokio::time::timeout(PATIENCE, body.collect()).await;
            assert!(rest.unwrap().unwrap().to_bytes().is_empty());
        }
    }
}

#[tokio::test]
async fn a_websocket_echoes() {
    let house = House::new().await;
    let app = app::echo_websocket().await;
    let workspace = house.workspace(app.address).await;
    let stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let url = format!("wss://{}/socket", workspace.host());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let large = "x".repeat(300_000);
    for text in ["hello", "", &large] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap().into_text().unwrap(),
            text
        );
    }
    assert_eq!(house.node.attached.load(SeqCst), 1);
    assert_eq!(house.node.in_flight.load(SeqCst), 0);
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let gone = async {
        while house.node.attached.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
#[ignore = "waits out pingora's 60 s; part of make soak"]
async fn a_silent_websocket_lives_beyond_a_minute() {
    let house = House::new().await;
    let app = app::echo_websocket().await;
    let workspace = house.workspace(app.address).await;
    let stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let url = format!("wss://{}/socket", workspace.host());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(75)).await;
    socket.send(Message::text("still here")).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer.into_text().unwrap(), "still here");
}

#[tokio::test]
async fn continue_is_the_apps_to_say() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let mut stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
         Connection: close\r\n\r\n",
        workspace.host()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut interim));
    read.await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100");
    let rest = crate::client::raw(stream, b"hello").await;
    assert!(
        rest.contains("HTTP/1.1 200 OK") && rest.contains("hello"),
        "{rest}"
    );
}

#[tokio::test]
async fn a_chunked_upload_arrives_whole() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        workspace.host()
    );
    let answer = crate::client::raw(stream, request.as_bytes()).await;
    assert!(answer.contains("hello world"), "{answer}");
}

#[tokio::test]
async fn a_visitor_who_leaves_ends_the_visit() {
    let house = House::new().await;
    let app = app::serve(|_| std::future::pending()).await;
    let workspace = house.workspace(app.address).await;
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        let request = request(&workspace.host(), "/", &[]);
        let sent = tokio::spawn(async move { client.try_send(request).await.map(drop) });
        until(|| house.node.in_flight.load(SeqCst) == 1).await;
        sent.abort();
        until(|| house.node.in_flight.load(SeqCst) == 0).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}
