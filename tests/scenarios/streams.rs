//! What flows: websockets, events, large bodies.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, Workspace, World, apps, memory, websocket};
use tungstenite::Message;

const MIB: u64 = 1 << 20;
/// How much more memory than before a transfer may take, whatever its size.
const TRANSFER_MEMORY: u64 = 64 * MIB;

/// Text, binary, a large message and the close handshake, over TLS and plain.
pub fn websocket_echoes(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let secure = workspace.preview_url()?.replace("https://", "wss://");
    let plain = format!("ws://{}:{}", workspace.host()?, world.ready()?.http.port());
    for base in [secure, plain] {
        let mut socket = websocket::open(world, &format!("{base}/ws"))?;
        let large: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        for message in [
            Message::text("hello ✓"),
            Message::binary(vec![0, 255, 10, 13]),
            Message::binary(large),
        ] {
            socket.send(message.clone()).with_context(|| base.clone())?;
            let echo = socket.read().with_context(|| base.clone())?;
            ensure!(echo == message, "{base}: another message came back");
        }
        socket.close(None)?;
        let end = loop {
            match socket.read() {
                Ok(_) => {}
                Err(end) => break end,
            }
        };
        ensure!(
            matches!(end, tungstenite::Error::ConnectionClosed),
            "{base} ended with {end}"
        );
    }
    Ok(())
}

/// The second event is sent only after the first was seen: nothing gathers them.
pub fn events_arrive_one_by_one(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let url = workspace.preview_url()?;
    for version in [Version::H1, Version::H2] {
        let mut events = Curl::new(world, version, &format!("{url}/sse"))?.stream()?;
        let soon = Duration::from_secs(15);
        ensure!(events.line(soon)? == "data: first");
        Curl::new(world, version, &format!("{url}/go"))?
            .argument("--data")
            .argument("")
            .send()?;
        ensure!(events.line(soon)?.is_empty());
        ensure!(events.line(soon)? == "data: second");
    }
    Ok(())
}

/// 64 MiB each way.
pub fn bodies_pass_through(runtime: Runtime) -> Result<()> {
    bodies(runtime, 64 * MIB)
}

/// 1 GiB each way.
pub fn a_gib_passes_through(runtime: Runtime) -> Result<()> {
    bodies(runtime, 1024 * MIB)
}

/// Up and down, with a length and chunked, h1 and h2; the platform's memory stays small.
fn bodies(runtime: Runtime, size: u64) -> Result<()> {
    let world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let file = world.scratch()?.join("large");
        let pattern: Vec<u8> = (0..1 << 16).map(|n: u32| (n % 256) as u8).collect();
        let mut writer = File::create(&file)?;
        for _ in 0..size >> 16 {
            writer.write_all(&pattern)?;
        }
        let pid = world.pid()?;
        memory::reset_peak(pid)?;
        let before = memory::resident(pid)?;
        for version in [Version::H1, Version::H2] {
            upload(&world, &workspace, version, &file, size, false)?;
            download(&world, &workspace, version, size, &pattern, "")?;
        }
        upload(&world, &workspace, Version::H1, &file, size, true)?;
        download(
            &world,
            &workspace,
            Version::H1,
            size,
            &pattern,
            "&chunked=1",
        )?;
        let grown = memory::peak(pid)?.saturating_sub(before);
        ensure!(
            grown < TRANSFER_MEMORY,
            "the platform grew by {} MiB",
            grown / MIB
        );
    }
    world.stop()
}

fn upload(
    world: &World,
    workspace: &Workspace,
    version: Version,
    file: &std::path::Path,
    size: u64,
    chunked: bool,
) -> Result<()> {
    let mut curl = Curl::new(
        world,
        version,
        &format!("{}/upload", workspace.preview_url()?),
    )?
    .upload(file)
    .within(Duration::from_secs(300));
    if chunked {
        curl = curl.header("Transfer-Encoding: chunked");
    }
    let seen = curl.send()?.json()?;
    ensure!(
        seen["bytes"] == size && seen["good"] == true,
        "upload over {version:?}: {seen}"
    );
    Ok(())
}

fn download(
    world: &World,
    workspace: &Workspace,
    version: Version,
    size: u64,
    pattern: &[u8],
    more: &str,
) -> Result<()> {
    let url = format!("{}/download?bytes={size}{more}", workspace.preview_url()?);
    let total = Curl::new(world, version, &url)?
        .stream()?
        .bytes(|at, bytes| {
            let start = (at % 256) as usize;
            let same = match pattern.get(start..start + bytes.len()) {
                Some(expected) => expected == bytes,
                None => bytes
                    .iter()
                    .enumerate()
                    .all(|(n, byte)| *byte == ((start + n) % 256) as u8),
            };
            ensure!(same, "wrong bytes near {at}");
            Ok(())
        })?;
    ensure!(total == size, "{total} of {size} bytes over {version:?}");
    Ok(())
}
