//! Websockets: what is pumped, what is held for an app that sleeps, and how a conversation ends.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fleet::directory::Directory as _;
use fleet::door::Standing;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::app::{self, full};
use crate::client::{Client, PATIENCE, raw, tls};
use crate::house::{House, Workspace};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn visit(house: &House, workspace: &Workspace, path: &str) -> Socket {
    let stream = tls(house, &["http/1.1"], &workspace.host()).await;
    let url = format!("wss://{}{path}", workspace.host());
    let shaken = tokio_tungstenite::client_async(url, stream);
    let (socket, _) = tokio::time::timeout(PATIENCE, shaken)
        .await
        .unwrap()
        .unwrap();
    socket
}

/// The next message, pongs included.
async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await;
    message
        .expect("in time")
        .expect("not the end")
        .expect("no error")
}

/// With which code the gateway ends the conversation.
async fn end(socket: &mut Socket) -> CloseCode {
    loop {
        if let Message::Close(close) = next(socket).await {
            return close.expect("a code").code;
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect(what);
}

/// A websocket app that tells what it hears, and says what it is told to.
async fn open_app() -> (
    std::net::SocketAddr,
    tokio::sync::mpsc::Receiver<WebSocketStream<TcpStream>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(socket) = tokio_tungstenite::accept_async(tcp).await {
                let _ = sender.send(socket).await;
            }
        }
    });
    (address, receiver)
}

#[tokio::test]
async fn a_conversation_is_held_over_sleep() {
    let house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    let mut app = apps.recv().await.unwrap();
    visitor.send(Message::text("before")).await.unwrap();
    assert_eq!(app.next().await.unwrap().unwrap(), Message::text("before"));
    app.send(Message::text("yes")).await.unwrap();
    assert_eq!(next(&mut visitor).await, Message::text("yes"));

    house.node.sleeps(&house, &workspace).await;
    // Pings are answered for the app, and are no reason to wake it.
    let ping = Message::Ping(Bytes::from_static(b"anybody?"));
    visitor.send(ping).await.unwrap();
    let pong = Message::Pong(Bytes::from_static(b"anybody?"));
    assert_eq!(next(&mut visitor).await, pong);
    assert_eq!(house.node.woken.load(SeqCst), 0);

    // Data is. Whatever comes while it wakes comes after it.
    house.node.wakes.forget_permits(1000);
    for number in 0..50 {
        visitor
            .send(Message::text(number.to_string()))
            .await
            .unwrap();
    }
    let large = Message::binary(vec![7; 300_000]);
    let (mut writer, mut reader) = visitor.split();
    let sending = tokio::spawn(async move {
        writer.send(large).await.unwrap();
        writer.send(Message::text("last")).await.unwrap();
        writer
    });
    let row = house.directory.row(&workspace.id).await.unwrap().unwrap();
    until("it wakes", || {
        let state = futures_util::FutureExt::now_or_never(house.directory.row(&workspace.id));
        state.unwrap().unwrap().unwrap().generation > row.generation
    })
    .await;
    house.node.wakes.add_permits(1);
    for number in 0..50 {
        let heard = tokio::time::timeout(PATIENCE, app.next()).await.unwrap();
        assert_eq!(heard.unwrap().unwrap(), Message::text(number.to_string()));
    }
    assert_eq!(
        app.next().await.unwrap().unwrap(),
        Message::binary(vec![7; 300_000])
    );
    assert_eq!(app.next().await.unwrap().unwrap(), Message::text("last"));
    let _writer = sending.await.unwrap();
    app.send(Message::text("good morning")).await.unwrap();
    assert_eq!(
        reader.next().await.unwrap().unwrap(),
        Message::text("good morning")
    );
    assert_eq!(house.node.woken.load(SeqCst), 1);
    assert_eq!(house.node.connects.load(SeqCst), 1, "over one connection");
    until("nobody is kept inside", || {
        house.node.in_flight.load(SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn what_was_lost_is_said_and_connecting_again_wakes() {
    let house = House::new().await;
    let app = app::echo_websocket().await;
    let workspace = house.workspace(app.address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    house.node.sleeps(&house, &workspace).await;
    house.node.change(&workspace, |room| {
        room.standing.send_replace(Standing::Lost);
        room.standing = tokio::sync::watch::Sender::new(Standing::Live);
    });
    assert_eq!(end(&mut visitor).await, CloseCode::Restart);
    let mut visitor = visit(&house, &workspace, "/").await;
    assert_eq!(house.node.woken.load(SeqCst), 1);
    visitor.send(Message::text("again")).await.unwrap();
    assert_eq!(next(&mut visitor).await, Message::text("again"));
}

#[tokio::test]
async fn a_message_that_may_not_wake_is_not_swallowed() {
    let house = House::new().await;
    let app = app::echo_websocket().await;
    let workspace = house.workspace(app.address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    house.node.sleeps(&house, &workspace).await;
    house
        .directory
        .set_auto_wake(&workspace.id, false)
        .await
        .unwrap();
    visitor.send(Message::text("hello?")).await.unwrap();
    assert_eq!(end(&mut visitor).await, CloseCode::Again);
    assert_eq!(house.node.woken.load(SeqCst), 0);
}

#[tokio::test]
async fn a_visitor_who_leaves_a_sleeper_does_not_wake_it_and_is_announced_later() {
    let house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut polite = visit(&house, &workspace, "/").await;
    let mut at_polite = apps.recv().await.unwrap();
    let rude = visit(&house, &workspace, "/").await;
    let mut at_rude = apps.recv().await.unwrap();
    house.node.sleeps(&house, &workspace).await;
    polite.close(None).await.unwrap();
    while let Some(Ok(_)) = polite.next().await {}
    drop(rude);
    assert_eq!(house.node.woken.load(SeqCst), 0);
    assert_eq!(house.node.attached.load(SeqCst), 2, "the app thinks so");
    let mut client = Client::h1(&house).await;
    client.get(&workspace.host(), "/").await;
    let heard = tokio::time::timeout(PATIENCE, at_polite.next())
        .await
        .unwrap();
    assert!(matches!(heard, Some(Ok(Message::Close(_)))), "{heard:?}");
    let heard = tokio::time::timeout(PATIENCE, at_rude.next())
        .await
        .unwrap();
    assert!(matches!(heard, Some(Err(_))), "{heard:?}");
    drop((at_polite, at_rude));
    until("both have left", || house.node.attached.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn a_message_just_before_sleep_is_answered() {
    let house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    let _app = apps.recv().await.unwrap();
    let used = house.node.rooms.lock().unwrap()[&workspace.id].used.clone();
    visitor.send(Message::text("are you there?")).await.unwrap();
    until("the app got it", || used.load(SeqCst) == 1).await;
    house.node.sleeps(&house, &workspace).await;
    until("it is woken", || house.node.woken.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn heartbeats_are_no_use() {
    let house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut visitor = visit(&house, &workspace, "/socket.io/?EIO=4&transport=websocket").await;
    let mut app = apps.recv().await.unwrap();
    let (used, answered) = {
        let rooms = house.node.rooms.lock().unwrap();
        let room = &rooms[&workspace.id];
        (room.used.clone(), room.answered.clone())
    };
    app.send(Message::text(
        "0{\"sid\":\"x\",\"pingInterval\":1000,\"pingTimeout\":20000}",
    ))
    .await
    .unwrap();
    next(&mut visitor).await;
    app.send(Message::text("2")).await.unwrap();
    next(&mut visitor).await;
    visitor.send(Message::text("3")).await.unwrap();
    assert_eq!(app.next().await.unwrap().unwrap(), Message::text("3"));
    assert_eq!((used.load(SeqCst), answered.load(SeqCst)), (0, 1));
    // Asleep, we ask in the app's place, and keep the answer.
    house.node.sleeps(&house, &workspace).await;
    for _ in 0..2 {
        assert_eq!(next(&mut visitor).await, Message::text("2"));
        visitor.send(Message::text("3")).await.unwrap();
    }
    assert_eq!(house.node.woken.load(SeqCst), 0);
    visitor.send(Message::text("42[\"chat\"]")).await.unwrap();
    assert_eq!(
        app.next().await.unwrap().unwrap(),
        Message::text("42[\"chat\"]")
    );
    assert_eq!((house.node.woken.load(SeqCst), used.load(SeqCst)), (1, 1));
}

#[tokio::test]
async fn draining_says_goodbye_to_both_ends() {
    let mut house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    let mut app = apps.recv().await.unwrap();
    house.stop.send(true).unwrap();
    assert_eq!(end(&mut visitor).await, CloseCode::Away);
    while let Some(Ok(_)) = visitor.next().await {}
    let heard = app.next().await.unwrap().unwrap();
    assert!(
        matches!(&heard, Message::Close(Some(close)) if close.code == CloseCode::Away),
        "{heard:?}"
    );
    let gateway = house.gateway.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), gateway).await;
    ended.expect("drained").unwrap();
}

#[tokio::test]
async fn an_app_that_does_not_agree_is_heard_out() {
    let house = House::new().await;
    let app = app::serve(|request| async move {
        let origin = request.headers().get("origin").cloned();
        let mut response = Response::new(full("who are you?"));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        if let Some(origin) = origin {
            response.headers_mut().insert("x-origin", origin);
        }
        let cookie = "a=1; Domain=fleeks.localhost".parse().unwrap();
        response.headers_mut().insert("set-cookie", cookie);
        response
    })
    .await;
    let workspace = house.workspace(app.address).await;
    let stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Origin: https://elsewhere.example\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n",
        workspace.host()
    );
    let answer = raw(stream, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.ends_with("who are you?"), "{answer}");
    assert!(answer.contains("https://elsewhere.example"), "{answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
    until("nobody is inside", || {
        house.node.in_flight.load(SeqCst) == 0
    })
    .await;
    assert_eq!(house.node.attached.load(SeqCst), 0);

    // And where there is nobody to ask.
    let stream = tls(&house, &["http/1.1"], "nothing.fleeks.localhost").await;
    let head = head.replace(&workspace.host(), "nothing.fleeks.localhost");
    let answer = raw(stream, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("\"not_found\""), "{answer}");
}

#[tokio::test]
async fn whatever_else_is_upgraded_to_passes_byte_by_byte() {
    let house = House::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let workspace = house.workspace(listener.local_addr().unwrap()).await;
    let app = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat/1\r\nConnection: Upgrade\r\n\r\n";
        tcp.write_all(agreed.as_bytes()).await.unwrap();
        let mut said = [0; 300];
        tcp.read_exact(&mut said).await.unwrap();
        tcp.write_all(&said).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let mut stream = tls(&house, &["http/1.1"], &workspace.host()).await;
    let head = format!(
        "GET /x?y HTTP/1.1\r\nHost: {}\r\nUpgrade: chat/1\r\nConnection: Upgrade\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        workspace.host()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Bytes that would be bad frames, some of them sent before the answer.
    let bytes: Vec<u8> = (0..300u32).map(|byte| (byte * 37 % 256) as u8).collect();
    stream.write_all(&bytes).await.unwrap();
    let answer = raw(stream, b"").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let passed = String::from_utf8_lossy(&bytes).into_owned();
    assert!(answer.ends_with(&passed), "{answer}");
    let head = app.await.unwrap();
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("x-forwarded-for: 127.0.0.1\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn an_app_that_ends_ends_the_conversation() {
    let house = House::new().await;
    let (address, mut apps) = open_app().await;
    let workspace = house.workspace(address).await;
    let mut visitor = visit(&house, &workspace, "/").await;
    let mut app = apps.recv().await.unwrap();
    app.send(Message::text("bye")).await.unwrap();
    app.close(None).await.unwrap();
    assert_eq!(next(&mut visitor).await, Message::text("bye"));
    assert!(matches!(next(&mut visitor).await, Message::Close(None)));
    let mut visitor = visit(&house, &workspace, "/").await;
    drop(apps.recv().await.unwrap());
    let gone = tokio::time::timeout(PATIENCE, visitor.next())
        .await
        .unwrap();
    assert!(
        matches!(gone, Some(Err(Error::Protocol(_)))),
        "an end without a word: {gone:?}"
    );
}

#[tokio::test]
async fn the_api_speaks_websocket_too() {
    let mut house = House::new().await;
    let listener = tokio::net::UnixListener::bind(&house.api_socket).unwrap();
    let api = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    });
    let host = format!("api.{}", crate::house::DOMAIN);
    let stream = tls(&house, &["http/1.1"], &host).await;
    let url = format!("wss://{host}/api/v1/anything");
    let (mut client, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut api = api.await.unwrap();
    for said in [Message::text("ls\n"), Message::binary(vec![3; 100_000])] {
        client.send(said.clone()).await.unwrap();
        assert_eq!(api.next().await.unwrap().unwrap(), said);
        api.send(said.clone()).await.unwrap();
        assert_eq!(next(&mut client).await, said);
    }
    house.stop.send(true).unwrap();
    assert_eq!(end(&mut client).await, CloseCode::Away);
    let told = api.next().await.unwrap().unwrap();
    assert!(
        matches!(&told, Message::Close(Some(close)) if close.code == CloseCode::Away),
        "{told:?}"
    );
    while let Some(Ok(_)) = client.next().await {}
    drop((client, api));
    let gateway = house.gateway.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), gateway).await;
    ended.expect("drained").unwrap();
}
