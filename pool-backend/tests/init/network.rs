//! Ports, forwards, and who may call at all.

use init_protocol::{CONTROL_PORT, RefusalKind};
use pool_backend::init_client::{InitClient, InitError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::world::{PATIENCE, TOKEN, World, own_loopback};

#[tokio::test]
async fn only_who_knows_the_token_is_answered() {
    let world = World::start().await;
    for token in ["", "another", &TOKEN[1..], &format!("{TOKEN} ")] {
        let stranger = InitClient::new(world.address, token);
        let answer = stranger.wait_ready(Instant::now() + PATIENCE).await;
        let refused = matches!(
            &answer,
            Err(InitError::Refused {
                kind: RefusalKind::Stranger,
                ..
            })
        );
        assert!(refused, "{token:?}: {answer:?}");
    }
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[1, 255, 255, 255, 255],
        &[2, 0, 0, 0, 2, b'{', b'}'],
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(read.is_err() || answer.len() < 300, "{}", answer.len());
    }
    world.client.ping().await.unwrap();
}

#[tokio::test]
async fn an_init_that_is_not_there_is_told_at_once_or_waited_for() {
    let nobody = InitClient::new(own_loopback(), TOKEN);
    assert!(matches!(
        nobody.ping().await,
        Err(InitError::Unreachable(_))
    ));
    let soon = Instant::now() + std::time::Duration::from_millis(50);
    assert!(matches!(
        nobody.wait_ready(soon).await,
        Err(InitError::Unreachable(_))
    ));
}

#[tokio::test]
async fn listening_ports_are_found_but_the_control_port() {
    let world = World::start().await;
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let ports = world.client.ports().await.unwrap();
    let loopback_only = |port| {
        let entry = ports.iter().find(|entry| entry.port == port);
        entry.map(|entry| entry.loopback_only)
    };
    assert_eq!(loopback_only(port(&local)), Some(true));
    assert_eq!(loopback_only(port(&open)), Some(false));
    assert_eq!(loopback_only(CONTROL_PORT), None);
}

#[tokio::test]
async fn a_forward_is_the_apps_connection_both_halves() {
    let world = World::start().await;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let app = TcpListener::bind(address).await.unwrap();
        let port = app.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = app.accept().await.unwrap();
            // Speaks first, then answers when the visitor has said all.
            stream.write_all(b"hello ").await.unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
        });
        let mut visitor = world.client.forward(port).await.unwrap();
        let body = vec![7; 3_000_000];
        visitor.write_all(&body).await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = visitor.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(answer.starts_with(b"hello ") && answer[6..] == body);
        serve.await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused() {
    let world = World::start().await;
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (port, wanted) in [
        (free, RefusalKind::NotListening),
        (0, RefusalKind::BadCall),
        (CONTROL_PORT, RefusalKind::BadCall),
    ] {
        match world.client.forward(port).await {
            Err(InitError::Refused { kind, .. }) => assert_eq!(kind, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_app_that_breaks_off_is_not_taken_for_one_that_is_done() {
    let world = World::start().await;
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let mut visitor = world.client.forward(port).await.unwrap();
    let (mut stream, _) = app.accept().await.unwrap();
    stream.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    visitor.read_exact(&mut half).await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    let rest = tokio::time::timeout(PATIENCE, visitor.read_to_end(&mut Vec::new()))
        .await
        .unwrap();
    assert!(rest.is_err(), "{rest:?}");
}
