//! Sleep and wake again and again: what fails once in ten times must not be taken for a success.

use std::net::Ipv4Addr;

use pool_backend::init_client::OutputLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use crate::inner::{Inside, init};
use crate::rig::{PATIENCE, Rig};
use crate::sleeper::Sleeper;
use crate::world::{self, World};

/// Of each case in CI; some hundred with `FLEEKS_SOAK`, where loaded machines are made by running
/// cases beside each other.
fn cycles() -> usize {
    if std::env::var_os("FLEEKS_SOAK").is_some() {
        250
    } else {
        8
    }
}

/// Counts its lines, so that a lost or doubled moment shows.
const TICKER: &str = "n=0; while true; do n=$((n + 1)); echo tick $n; sleep 0.02; done";

/// Init is asked until the last moment, as an owner who hibernates does, and answers at once.
pub async fn init_answers_after_each_sleep(rig: Rig) {
    let (mut sleeper, inside) = begin(&rig).await;
    let ticker = inside.start(TICKER).await;
    for cycle in 1..=cycles() {
        assert_eq!(inside.sh("echo asleep").await, "asleep\n");
        let images = sleeper.sleep(&rig).await;
        sleeper.wake(&rig, &images).await.unwrap();
        std::fs::remove_dir_all(&images).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let ready = inside.client.wait_ready(deadline).await;
        assert!(ready.is_ok(), "cycle {cycle}: {ready:?}");
    }
    let output = inside.client.output(&ticker, OutputLimits::ALL).await;
    let said = output.unwrap().stdout.to_text();
    for (number, line) in (1..).zip(said.lines().take(1000)) {
        assert_eq!(line, format!("tick {number}"));
    }
    inside.kill(&ticker).await;
    rig.close().await;
}

/// Waits with an epoll, and keeps what connects.
const SERVER: &str = r#"exec node -e '
let asked = 0;
const server = require("http").createServer((_, answer) => answer.end(String(++asked)));
server.keepAliveTimeout = 0;
server.listen(8095, "0.0.0.0");'"#;

/// A visitor's connection, kept open, and how often the server was asked.
async fn ask(address: Ipv4Addr) -> (TcpStream, u64) {
    let asking = async {
        let mut stream = TcpStream::connect((address, 8095)).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            // One write of the server's, and so all of it or nothing.
            if let Some((_, body)) = text.split_once("\r\n\r\n") {
                return (stream, body.parse().unwrap());
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

/// As the node does it: visitors' connections are ended before.
pub async fn servers_answer_after_each_sleep(rig: Rig) {
    let (mut sleeper, inside) = begin(&rig).await;
    let address = sleeper.spec.address;
    inside.start(SERVER).await;
    let listens = "bash -c '</dev/tcp/127.0.0.1/8095' 2>/dev/null";
    inside.wait_for(listens).await;
    let mut visits = 0;
    for _ in 1..=cycles() {
        let mut open = Vec::new();
        for _ in 0..3 {
            visits += 1;
            let (stream, asked) = ask(address).await;
            assert_eq!(asked, visits);
            open.push(stream);
        }
        rig.network.part(address).await.unwrap();
        none_left(&inside).await;
        let images = sleeper.sleep(&rig).await;
        sleeper.wake(&rig, &images).await.unwrap();
        std::fs::remove_dir_all(&images).unwrap();
        for mut stream in open {
            assert!(stream.read(&mut [0]).await.is_err(), "it was ended");
        }
    }
    assert_eq!(ask(address).await.1, visits + 1);
    rig.close().await;
}

pub async fn connections_to_the_outside_are_counted(rig: Rig) {
    let (sleeper, inside) = begin(&rig).await;
    let world = World::new(&rig).await;
    assert_eq!(inside.client.connections().await.unwrap(), 0);
    let line = format!(
        "exec python3 -c 'import socket, time
far = socket.create_connection((\"{}\", {}))
server = socket.create_server((\"127.0.0.1\", 8097))
near = socket.create_connection((\"127.0.0.1\", 8097))
time.sleep(1000)'",
        world.public,
        world::PORT
    );
    let job = inside.start(&line).await;
    let deadline = Instant::now() + PATIENCE;
    while inside.client.connections().await.unwrap() != 1 {
        assert!(Instant::now() < deadline, "it is not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What the container began is not ours to end.
    rig.network.part(sleeper.spec.address).await.unwrap();
    assert_eq!(inside.client.connections().await.unwrap(), 1);
    inside.kill(&job).await;
    none_left(&inside).await;
    rig.close().await;
}

async fn begin(rig: &Rig) -> (Sleeper, Inside) {
    let sleeper = Sleeper::begin(rig, "a", |spec| spec.init = init()).await;
    let inside = Inside::of(&sleeper);
    inside.ready().await;
    (sleeper, inside)
}

async fn none_left(inside: &Inside) {
    let deadline = Instant::now() + PATIENCE;
    while inside.client.connections().await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "connections stay");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
