//! Large bodies through the gateway with little memory. A process of its own, as it watches the
//! memory of the whole process.

#![expect(
    dead_code,
    reason = "shares its helpers with the stories, and needs few of them"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

#[path = "../stories/app.rs"]
mod app;
#[path = "../stories/client.rs"]
mod client;
#[path = "../stories/house.rs"]
mod house;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Channel};
use hyper::body::{Frame, Incoming};

use crate::app::Body;
use crate::client::Client;
use crate::house::House;

const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 1024;
/// For a body of 64 MiB: what the client, the app, two TLS ends and the allocator take besides.
const MAY_GROW: usize = 24 * 1024 * 1024;

#[tokio::test]
async fn sixty_four_mebibytes_each_way_in_little_memory() {
    let house = House::new().await;
    let app = app::serve(|request| async move {
        let received = swallow(request.into_body()).await;
        let mut response = Response::new(pour());
        let received = received.to_string().parse().unwrap();
        response.headers_mut().insert("x-received", received);
        response
    })
    .await;
    let workspace = house.workspace(app.address).await;
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        let before = resident();
        let request = Request::post("/").header("host", workspace.host());
        let response = client.send(request.body(pour()).unwrap()).await;
        assert_eq!(response.status(), 200);
        let received = response.headers()["x-received"].to_str().unwrap();
        assert_eq!(received, (CHUNK * CHUNKS).to_string());
        assert_eq!(swallow(response.into_body()).await, CHUNK * CHUNKS);
        let grown = resident().saturating_sub(before);
        assert!(grown < MAY_GROW, "{} KiB more", grown / 1024);
    }
}

/// A body of unknown length, made as it is sent.
fn pour() -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for number in 0..CHUNKS {
            let chunk = vec![u8::try_from(number % 251).unwrap(); CHUNK];
            if sender.send(Frame::data(chunk.into())).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

/// Counts and drops a body.
async fn swallow(mut body: Incoming) -> usize {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    bytes
}

/// Resident memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
