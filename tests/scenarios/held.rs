//! Connections over sleep: what a visitor with an open websocket or event stream notices of it.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::metrics::Metrics;
use fleeks_tests::websocket::Line;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, apps, memory, wait, websocket};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message, WebSocket};

const SOON: Duration = Duration::from_secs(40);

type Socket = WebSocket<Line>;

fn visit(world: &World, workspace: &Workspace, path: &str) -> Result<Socket> {
    let base = workspace.preview_url()?.replace("https://", "wss://");
    websocket::open(world, &format!("{base}{path}"))
}

fn container(workspace: &Workspace, what: &str) -> String {
    format!("/api/v1/sdk/containers/{}/{what}", workspace.container)
}

fn hibernate(workspace: &Workspace) -> Result<()> {
    let call = container(workspace, "hibernate");
    workspace.api().call("POST", &call, &[])?.ok()?;
    Ok(())
}

fn lifecycle(workspace: &Workspace) -> Result<Value> {
    workspace
        .api()
        .get(&container(workspace, "lifecycle"))?
        .ok()
}

fn state(workspace: &Workspace) -> Result<String> {
    let said = lifecycle(workspace)?;
    Ok(said["lifecycle_state"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

fn echoes(socket: &mut Socket, message: &Message) -> Result<()> {
    socket.send(message.clone())?;
    let echo = socket.read()?;
    ensure!(echo == *message, "{message:.60?} came back as {echo:.60?}");
    Ok(())
}

/// The code of the close that comes next.
fn farewell(socket: &mut Socket) -> Result<CloseCode> {
    loop {
        match socket.read()? {
            Message::Close(Some(close)) => return Ok(close.code),
            Message::Close(None) => bail!("a close without a code"),
            _ => {}
        }
    }
}

/// Several websockets, straight and through init, TLS and plain, stay open over two hibernations:
/// pings are answered meanwhile, nothing is lost, doubled or out of order.
pub fn websockets_outlive_hibernation(world: &World) -> Result<()> {
    for host in ["0.0.0.0", "127.0.0.1"] {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, host, 5000)?;
        let plain = format!(
            "ws://{}:{}/ws",
            workspace.host()?,
            world.ready()?.http.port()
        );
        let mut sockets = vec![websocket::open(world, &plain)?];
        for _ in 0..3 {
            sockets.push(visit(world, &workspace, "/ws")?);
        }
        for socket in &mut sockets {
            echoes(socket, &Message::text("before"))?;
        }
        for night in 0..2 {
            hibernate(&workspace)?;
            for socket in &mut sockets {
                let ping = Bytes::from_static(b"anybody?");
                socket.send(Message::Ping(ping.clone()))?;
                ensure!(
                    socket.read()? == Message::Pong(ping),
                    "{host}, night {night}"
                );
            }
            ensure!(state(&workspace)? == "hibernated", "a ping woke it");
            talk(&mut sockets).with_context(|| format!("{host}, night {night}"))?;
            ensure!(lifecycle(&workspace)?["woken"] == "memory");
        }
        for socket in &mut sockets {
            socket.close(None)?;
            while socket.read().is_ok() {}
        }
    }
    Ok(())
}

/// All at once, then each more than is held, then one message in pieces.
fn talk(sockets: &mut [Socket]) -> Result<()> {
    for socket in &mut *sockets {
        for number in 0..100 {
            socket.write(Message::text(number.to_string()))?;
        }
        socket.flush()?;
    }
    for socket in &mut *sockets {
        for number in 0..100 {
            let heard = socket.read()?;
            ensure!(
                heard == Message::text(number.to_string()),
                "{heard:?} instead of {number}"
            );
        }
    }
    for socket in sockets {
        let large: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        echoes(socket, &Message::binary(large))?;
    }
    Ok(())
}

/// What a visitor says to a sleeper that cannot keep its connections ends them with 1012;
/// connecting again leads to the woken workspace.
pub fn lost_connections_are_said(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let mut socket = visit(world, &workspace, "/ws")?;
    echoes(&mut socket, &Message::text("before"))?;
    hibernate(&workspace)?;
    socket.send(Message::Ping(Bytes::new()))?;
    ensure!(matches!(socket.read()?, Message::Pong(_)));
    ensure!(state(&workspace)? == "hibernated", "a ping woke it");
    socket.send(Message::text("anybody?"))?;
    ensure!(farewell(&mut socket)? == CloseCode::Restart);
    let mut socket = visit(world, &workspace, "/ws")?;
    echoes(&mut socket, &Message::text("again"))?;
    ensure!(lifecycle(&workspace)?["woken"] == "memory");
    Ok(())
}

/// A restart ends the old connections with 1012.
pub fn a_restart_is_said(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let mut socket = visit(world, &workspace, "/ws")?;
    echoes(&mut socket, &Message::text("before"))?;
    workspace.restart()?;
    ensure!(farewell(&mut socket)? == CloseCode::Restart);
    Ok(())
}

/// Visitors with open websockets do not keep it awake, nor do their pings; one word thaws it.
/// Then SIGTERM says 1001.
pub fn an_idle_one_freezes_and_thaws_at_a_word(runtime: Runtime) -> Result<()> {
    let mut world = World::builder(runtime)
        .pool("python", 1)
        .freeze_after(2)
        .open()?;
    let mut socket = {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let mut socket = visit(&world, &workspace, "/ws")?;
        echoes(&mut socket, &Message::text("before"))?;
        wait::until_true("it to be frozen", Duration::from_secs(120), || {
            Ok(state(&workspace)? == "frozen")
        })?;
        socket.send(Message::Ping(Bytes::new()))?;
        ensure!(matches!(socket.read()?, Message::Pong(_)));
        ensure!(state(&workspace)? == "frozen", "a ping thawed it");
        echoes(&mut socket, &Message::text("good morning"))?;
        // The workspace outlives this block, as its visitors do.
        std::mem::forget(workspace);
        socket
    };
    world.terminate()?;
    ensure!(farewell(&mut socket)? == CloseCode::Away);
    Ok(())
}

/// An event stream is held as well, and goes on after the wake.
pub fn events_outlive_hibernation(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let url = workspace.preview_url()?;
    for version in [Version::H1, Version::H2] {
        let mut events = Curl::new(world, version, &format!("{url}/sse"))?
            .header("Accept: text/event-stream")
            .stream()?;
        ensure!(events.line(SOON)? == "data: first");
        hibernate(&workspace)?;
        Curl::new(world, version, &format!("{url}/go"))?
            .argument("--data")
            .argument("")
            .send()?;
        ensure!(lifecycle(&workspace)?["woken"] == "memory");
        ensure!(events.line(SOON)?.is_empty());
        ensure!(events.line(SOON)? == "data: second");
    }
    // One whose container is gone for good ends, so that the browser connects again.
    let mut events = Curl::new(world, Version::H2, &format!("{url}/sse"))?
        .header("Accept: text/event-stream")
        .stream()?;
    ensure!(events.line(SOON)? == "data: first");
    workspace.restart()?;
    wait::until_true("the stream to end", SOON, || {
        Ok(events.line(Duration::from_secs(1)).is_err_and(|error| {
            error.downcast_ref() == Some(&std::sync::mpsc::RecvTimeoutError::Disconnected)
        }))
    })
}

/// 500 requests over TLS at one that sleeps: one restore, all served.
pub fn five_hundred_wake_one_sleeper_once(runtime: Runtime) -> Result<()> {
    let world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let url = workspace.preview_url()?;
        let pid = Curl::new(&world, Version::H2, &url)?.send()?.json()?["pid"].clone();
        hibernate(&workspace)?;
        let before = Metrics::of(&world)?;
        let answers = Curl::new(&world, Version::H2, &format!("{url}/?visitor=[1-500]"))?
            .argument("--parallel")
            .argument("--parallel-immediate")
            .argument("--parallel-max")
            .argument("300")
            .within(Duration::from_secs(120))
            .text()?;
        let answers: Vec<Value> = serde_json::Deserializer::from_str(&answers)
            .into_iter()
            .collect::<Result<_, _>>()
            .context("what 500 visitors got")?;
        ensure!(answers.len() == 500, "{} answers", answers.len());
        let mut paths: Vec<&str> = answers
            .iter()
            .filter(|answer| answer["pid"] == pid)
            .filter_map(|answer| answer["path"].as_str())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        ensure!(paths.len() == 500, "{} of the app that slept", paths.len());
        let after = Metrics::of(&world)?;
        let woken = |metrics: &Metrics| metrics.sum("fleeks_wakes_total");
        ensure!(woken(&after) - woken(&before) == 1.0, "{after:?}");
    }
    world.stop()
}

/// What a websocket costs that is held while its workspace sleeps.
pub fn held_websockets_are_small(runtime: Runtime) -> Result<()> {
    /// As the design has it, for an idle TLS connection or websocket.
    const MOST: u64 = 60 << 10;
    const COUNT: usize = 800;
    let world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let mut some: Vec<Socket> = Vec::new();
        let mut before = 0;
        for number in 0..COUNT + 40 {
            if number == 40 {
                // What is taken once, by the first of them and by a hibernation, is not theirs.
                hibernate(&workspace)?;
                before = memory::anonymous(world.pid()?)?;
                for socket in &mut some {
                    echoes(socket, &Message::text("good morning"))?;
                }
            }
            let mut socket = visit(&world, &workspace, "/ws")?;
            echoes(&mut socket, &Message::text("before"))?;
            some.push(socket);
        }
        let each = || -> Result<u64> {
            let now = memory::anonymous(world.pid()?)?;
            Ok(now.saturating_sub(before) / COUNT as u64)
        };
        let tell = |when| -> Result<()> {
            let each = each()? >> 10;
            writeln!(std::io::stderr(), "a websocket, {when}: {each} KiB").context("tell")
        };
        tell("open")?;
        hibernate(&workspace)?;
        // What the hibernation itself took is given back a little later.
        let settled = wait::until_true("held websockets to be small", SOON, || Ok(each()? <= MOST));
        tell("held")?;
        settled?;
        for socket in &mut some {
            echoes(socket, &Message::binary(vec![1; 20_000]))?;
        }
        tell("after a message of 20 kB")?;
    }
    world.stop()
}

/// A visitor who leaves while it sleeps does not wake it; the app hears of it afterwards.
pub fn who_leaves_a_sleeper_is_announced(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    // Port 5000, established.
    let open = || workspace.sh("grep -c ':1388 .* 01 ' /proc/net/tcp || true");
    let mut polite = visit(world, &workspace, "/ws")?;
    let rude = visit(world, &workspace, "/ws")?;
    ensure!(open()? == "2", "{}", open()?);
    hibernate(&workspace)?;
    polite.close(None)?;
    while polite.read().is_ok() {}
    drop(rude);
    ensure!(state(&workspace)? == "hibernated", "a goodbye woke it");
    wait::until_true("the app to hear of it", SOON, || Ok(open()? == "0"))
}

/// Anything else that was upgraded to is held byte by byte.
pub fn plain_upgrades_are_held(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    workspace.write("tunnel.py", TUNNEL)?;
    workspace.background("python tunnel.py")?;
    workspace.wait_for_port(5000)?;
    let host = workspace.host()?;
    let mut stream = fleeks_tests::raw::connect_tls(world, &host)?;
    let port = world.ready()?.https.port();
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    for _ in 0..2 {
        hibernate(&workspace)?;
        let said: Vec<u8> = (0..100_000u32).map(|n| (n % 253) as u8).collect();
        stream.write_all(&said)?;
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard)?;
        ensure!(heard == said, "other bytes came back");
    }
    Ok(())
}

/// Agrees to any upgrade, then echoes.
const TUNNEL: &str = r#"
import socket, threading
server = socket.create_server(("0.0.0.0", 5000))
def serve(client):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
    while data := client.recv(65536):
        client.sendall(data)
while True:
    client, _ = server.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
"#;

/// `auto_wake: false`: a page that says so, and no wake by what was open either.
pub fn what_may_not_be_woken_sleeps_on(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let mut socket = visit(world, &workspace, "/ws")?;
    echoes(&mut socket, &Message::text("before"))?;
    let settings = json!({"auto_wake": false});
    workspace
        .api()
        .put(&container(&workspace, "lifecycle"), &settings)?
        .ok()?;
    hibernate(&workspace)?;
    let page = Curl::new(world, Version::H2, &workspace.preview_url()?)?
        .header("Accept: text/html")
        .header("Sec-Fetch-Mode: navigate")
        .send()?;
    ensure!(
        page.status == 503 && page.header("x-fleeks-error") == "asleep",
        "{page:?}"
    );
    ensure!(page.text().contains("asleep"), "{}", page.text());
    socket.send(Message::text("anybody?"))?;
    ensure!(farewell(&mut socket)? == CloseCode::Again);
    ensure!(state(&workspace)? == "hibernated");
    Ok(())
}
