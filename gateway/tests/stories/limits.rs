//! Bounds on visitors, and the end of the gateway.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::StreamExt as _;
use gateway::{Gateway, GatewayConfig, Limits, Parts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::app::{self, full};
use crate::client::{Client, PATIENCE, raw, request, tls};
use crate::house::{DOMAIN, House};

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let limits = Limits {
        connections_per_client: 3,
        ..Limits::default()
    };
    let house = House::with_limits(limits).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::plain(house.http).await);
    }
    for client in &mut clients {
        assert_eq!(client.get("x.example", "/").await.status, 404);
    }
    let mut fourth = TcpStream::connect(house.http).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, fourth.read_u8());
    assert!(read.await.unwrap().is_err(), "it is closed");
    assert_eq!(house.metrics.connections_refused.get(), 1);

    drop(clients.pop());
    let freed = async {
        while house.metrics.open.get() > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap();
    assert_eq!(
        Client::plain(house.http)
            .await
            .get("x.example", "/")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let house = House::new().await;
    let mut stream = tls(&house, &["h2"], &format!("api.{DOMAIN}")).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    // The gateway may close while we still write.
    let _ = stream.write_all(&ping.repeat(2000)).await;
    let mut answered = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answered));
    let _ = read.await.expect("the gateway ends the connection");
    assert!(
        answered.len() < 400 * ping.len(),
        "{} bytes answered",
        answered.len()
    );
}

#[tokio::test]
#[ignore = "waits out the 15 s header deadline; part of make soak"]
async fn a_head_that_trickles_is_cut_off() {
    let house = House::new().await;
    let mut stream = TcpStream::connect(house.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = String::new();
    let told = tokio::time::timeout(PATIENCE, read.read_to_string(&mut answer)).await;
    told.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    trickle.abort();
}

#[tokio::test]
async fn draining_finishes_requests_and_ends_the_rest() {
    let mut house = House::new().await;
    let go_on = std::sync::Arc::new(Notify::new());
    let wait = go_on.clone();
    let app = app::serve(move |_| {
        let wait = wait.clone();
        async move {
            wait.notified().await;
            http::Response::new(full("finished"))
        }
    })
    .await;
    let echo = app::echo_websocket().await;
    let slow = house.workspace(app.address).await;
    let chat = house.workspace(echo.address).await;
    let stream = tls(&house, &["http/1.1"], &chat.host()).await;
    let url = format!("wss://{}/", chat.host());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let idle = TcpStream::connect(house.http).await.unwrap();

    let mut visits = Vec::new();
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        let request = request(&slow.host(), "/", &[]);
        visits.push(tokio::spawn(async move { client.answer(request).await }));
    }
    let both = async {
        while house.node.in_flight.load(SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap();

    house.stop.send(true).unwrap();
    assert_eq!(raw(idle, b"").await, "", "an idle connection ends at once");
    assert!(
        TcpStream::connect(house.http).await.is_err(),
        "nobody new is let in"
    );
    go_on.notify_one();
    go_on.notify_one();
    for visit in visits {
        assert_eq!(visit.await.unwrap().text, "finished");
    }
    // Nobody waits for the websocket; well below the 10 s that requests would get.
    let gateway = house.gateway.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), gateway).await;
    ended.expect("drained").unwrap();
    let closed = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(
        matches!(&closed, Some(Ok(Message::Close(Some(why)))) if why.code == CloseCode::Away),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let house = House::new().await;
    let other = House::new().await;
    let config = GatewayConfig::new(DOMAIN, house.https, "127.0.0.1:0".parse().unwrap());
    let parts = Parts {
        directory: other.directory.clone(),
        door: other.node.clone(),
        tls: crate::house::certificate().0,
        api_socket: other.api_socket.clone(),
        share_key: std::sync::Arc::new(fleet::share::ShareKey::from_bits(&[0; 32])),
    };
    let error = Gateway::bind(config, parts).await.unwrap_err().to_string();
    assert!(error.contains(&house.https.to_string()), "{error}");
    assert!(error.contains("another process has it"), "{error}");
}
