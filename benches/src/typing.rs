//! How long a key takes from a person's websocket to the shell and back as its echo.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleeks_tests::{World, websocket};
use serde_json::json;
use tungstenite::Message;

use crate::report::Report;
use crate::sample::time;

/// It takes no longer.
const LIMIT: Duration = Duration::from_secs(12);
/// Keys on one line of the shell's.
const LINE: usize = 40;

/// One key at a time, over plain HTTP on the loopback.
pub fn echo(world: &World, report: &mut Report) -> Result<()> {
    let workspace = world.workspace("python")?;
    let api = workspace.api();
    let terminals = format!("/api/v1/sdk/workspaces/{}/terminals", workspace.project);
    let opened = api
        .post(&terminals, &json!({"cols": 200, "rows": 50}))?
        .ok()?;
    let id = opened["terminal_id"].as_str().context("no terminal")?;
    let url = format!("ws://{}{terminals}/{id}/ws", world.ready()?.http);
    let opened = websocket::open_with(world, &url, &[("x-api-key", api.key())])?;
    let mut socket = opened.map_err(|status| anyhow::anyhow!("refused: {status}"))?;
    ensure!(socket.read()?.is_text(), "nothing was said first");
    let mut type_and_see = |keys: &[u8], end: u8| -> Result<()> {
        socket.send(Message::binary(keys.to_vec()))?;
        loop {
            match socket.read()? {
                Message::Binary(bytes) if bytes.contains(&end) => return Ok(()),
                Message::Close(_) => bail!("the terminal closed"),
                _ => {}
            }
        }
    };
    // The shell is there, and has its prompt.
    type_and_see(b"PS1=%; clear; echo '#'\r", b'#')?;
    let keys = time(
        500,
        LIMIT,
        |n| {
            // Ctrl-U takes the line away before it grows long.
            let key: &[u8] = if n % LINE == 0 { b"\x15x" } else { b"x" };
            type_and_see(key, b'x')
        },
        |_| Ok(()),
    )?;
    report.time(world.runtime(), "a key's echo at a terminal", "–", keys);
    Ok(())
}
