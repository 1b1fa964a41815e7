//! Interactive terminals over their websocket: what people see who sit at one, together, through
//! lost connections and through sleep; and what strangers get.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleeks_tests::websocket::{self, Line};
use fleeks_tests::world::Runtime;
use fleeks_tests::{Workspace, World, python, wait};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::owners::new_owner;

const LIMIT: Duration = Duration::from_secs(60);

/// A viewer, with all that it was shown.
struct Viewer {
    socket: WebSocket<Line>,
    /// Number of the first byte seen.
    began: u64,
    seen: Vec<u8>,
    /// Text messages, the first included.
    told: Vec<Value>,
    /// Once it is over.
    closed: Option<u16>,
}

fn path(workspace: &Workspace, rest: &str) -> String {
    format!(
        "/api/v1/sdk/workspaces/{}/terminals{rest}",
        workspace.project
    )
}

fn url(world: &World, workspace: &Workspace, terminal: &str, query: &str) -> Result<String> {
    let http = world.ready()?.http;
    let path = path(workspace, &format!("/{terminal}/ws{query}"));
    Ok(format!("ws://{http}{path}"))
}

fn open(workspace: &Workspace, body: &Value) -> Result<String> {
    let opened = workspace.api().post(&path(workspace, ""), body)?;
    ensure!(opened.status == 201, "{}", opened.text());
    let opened = opened.json()?;
    ensure!(opened["status"] == "running", "{opened}");
    let id = opened["terminal_id"].as_str().context("no id")?;
    ensure!(id.starts_with("tty_"), "{opened}");
    Ok(id.to_owned())
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

impl Viewer {
    fn come(world: &World, workspace: &Workspace, terminal: &str, query: &str) -> Result<Self> {
        let url = url(world, workspace, terminal, query)?;
        let key = workspace.api().key().to_owned();
        match websocket::open_with(world, &url, &[("x-api-key", &key)])? {
            Ok(socket) => Self::ready(socket),
            Err(status) => bail!("refused: {status}"),
        }
    }

    fn ready(socket: WebSocket<Line>) -> Result<Self> {
        let mut viewer = Self {
            socket,
            began: 0,
            seen: Vec::new(),
            told: Vec::new(),
            closed: None,
        };
        viewer.hear()?;
        let first = viewer.told.first().context("nothing was told first")?;
        ensure!(first["type"] == "ready", "{first}");
        viewer.began = first["offset"].as_u64().context("no offset")?;
        Ok(viewer)
    }

    fn hear(&mut self) -> Result<()> {
        match self.socket.read()? {
            Message::Binary(bytes) => self.seen.extend_from_slice(&bytes),
            Message::Text(text) => self.told.push(serde_json::from_str(&text)?),
            Message::Close(frame) => {
                self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn types(&mut self, text: &str) -> Result<()> {
        Ok(self
            .socket
            .send(Message::binary(text.as_bytes().to_vec()))?)
    }

    fn resize(&mut self, cols: u16, rows: u16) -> Result<()> {
        let size = json!({"type": "resize", "cols": cols, "rows": rows});
        Ok(self.socket.send(Message::text(size.to_string()))?)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn sees(&mut self, text: &str) -> Result<()> {
        let mut from = 0;
        while !has(&self.seen[from..], text) {
            from = self.seen.len().saturating_sub(text.len());
            let end = String::from_utf8_lossy(&self.seen[from.saturating_sub(500)..]).into_owned();
            ensure!(self.closed.is_none(), "closed before {text:?}: {end}");
            self.hear()
                .with_context(|| format!("waiting for {text:?}: {end}"))?;
        }
        Ok(())
    }

    fn is_told(&mut self, kind: &str) -> Result<Value> {
        loop {
            if let Some(told) = self.told.iter().find(|told| told["type"] == kind) {
                return Ok(told.clone());
            }
            ensure!(self.closed.is_none(), "closed before {kind}");
            self.hear()?;
        }
    }

    /// The code with which it was closed.
    fn farewell(&mut self) -> Result<u16> {
        loop {
            if let Some(code) = self.closed {
                return Ok(code);
            }
            self.hear()?;
        }
    }

    fn gaps(&self) -> u64 {
        let gaps = self.told.iter().filter(|told| told["type"] == "gap");
        gaps.filter_map(|gap| gap["bytes"].as_u64()).sum()
    }
}

/// Two sit at one terminal, see each other's keys, and its size; its exit code reaches both.
pub fn several_sit_at_one(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let wish = json!({"cols": 100, "rows": 30, "environment": {"WHO": "ada"}});
    let id = open(&workspace, &wish)?;
    let mut first = Viewer::come(world, &workspace, &id, "")?;
    let mut second = Viewer::come(world, &workspace, &id, "")?;
    ensure!(first.told[0]["cols"] == 100 && first.told[0]["rows"] == 30);
    first.types("echo $WHO-$((6*7)) at $(stty size)\r")?;
    for viewer in [&mut first, &mut second] {
        viewer.sees("ada-42 at 30 100")?;
    }
    // A thousand sizes, the last of which counts.
    for side in 1..=1000 {
        second.resize(side, 1001 - side.min(990))?;
    }
    first.types("trap : WINCH\r")?;
    wait::until_true("the last size counts", LIMIT, || {
        let info = workspace
            .api()
            .get(&path(&workspace, &format!("/{id}")))?
            .ok()?;
        Ok(info["cols"] == 1000 && info["rows"] == 11)
    })?;
    first.types("echo size-$(stty size)\r")?;
    second.sees("size-11 1000")?;
    let listed = workspace.api().get(&path(&workspace, ""))?.ok()?;
    ensure!(listed["total_count"] == 1, "{listed}");
    first.types("exit 5\r")?;
    for viewer in [&mut first, &mut second] {
        ensure!(viewer.is_told("exit")?["exit_code"] == 5);
        ensure!(viewer.farewell()? == 1000);
    }
    // Who comes too late sees what was, and the end.
    let mut late = Viewer::come(world, &workspace, &id, "")?;
    late.sees("ada-42")?;
    ensure!(late.is_told("exit")?["exit_code"] == 5);
    let gone = workspace
        .api()
        .delete(&path(&workspace, &format!("/{id}")))?
        .ok()?;
    ensure!(
        gone["status"] == "exited" && gone["exit_code"] == 5,
        "{gone}"
    );
    let path = path(&workspace, &format!("/{id}"));
    workspace.api().get(&path)?.refused(&[404])?;
    workspace.api().delete(&path)?.refused(&[404])?;
    Ok(())
}

/// A shell is what it was after a night: its variables, its directory, its job, its viewers.
pub fn a_shell_outlives_hibernation(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let id = open(&workspace, &json!({}))?;
    let mut viewer = Viewer::come(world, &workspace, &id, "")?;
    let mut other = Viewer::come(world, &workspace, &id, "")?;
    viewer.types("A=kept; mkdir -p deep; cd deep; sleep 1000 &\r")?;
    viewer.types("echo pid-$$-$A\r")?;
    viewer.sees("-kept")?;
    let shell = viewer
        .text()
        .rsplit_once("pid-")
        .context("no pid")?
        .1
        .to_owned();
    let shell = shell.split('-').next().context("no pid")?.to_owned();
    for night in 0..2 {
        workspace.hibernate()?.ok()?;
        for viewer in [&mut viewer, &mut other] {
            viewer.is_told("asleep")?;
        }
        // Who only looks, or turns a window, wakes nobody.
        other.resize(90 + night, 20)?;
        other.socket.send(Message::Ping(Vec::new().into()))?;
        let state = workspace.lifecycle()?;
        ensure!(state["lifecycle_state"] == "hibernated", "{state}");
        // Keys do, and none is lost, doubled or out of order.
        for letter in format!("echo night-{night}-$A-$$-${{PWD##*/}}-$(jobs -r | wc -l)\r").chars()
        {
            viewer.types(&letter.to_string())?;
        }
        let line = format!("night-{night}-kept-{shell}-deep-1");
        for viewer in [&mut viewer, &mut other] {
            ensure!(viewer.is_told("awake")?["woken"] == "memory");
            viewer.sees(&line)?;
            ensure!(viewer.gaps() == 0);
            viewer.told.clear();
        }
    }
    viewer.types("echo size-$(stty size)\r")?;
    viewer.sees("size-20 91")?;
    // Its processes' end is its end.
    workspace.restart()?;
    for viewer in [&mut viewer, &mut other] {
        ensure!(viewer.is_told("exit")?["exit_code"] == -1);
        ensure!(viewer.farewell()? == 4410);
    }
    ensure!(workspace.api().get(&path(&workspace, ""))?.ok()?["total_count"] == 0);
    Ok(())
}

/// A connection that is lost loses nothing that is still kept; what is lost is said.
pub fn reconnecting_goes_on(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let id = open(&workspace, &json!({"command": "cat"}))?;
    let mut whole = Viewer::come(world, &workspace, &id, "")?;
    let mut at = 0;
    let mut pieces = Vec::new();
    for round in 0..5 {
        let mut viewer = Viewer::come(world, &workspace, &id, &format!("?offset={at}"))?;
        ensure!(viewer.began == at, "{} instead of {at}", viewer.began);
        viewer.types(&format!("round {round}\r"))?;
        viewer.sees(&format!("round {round}"))?;
        at += viewer.seen.len() as u64;
        pieces.extend_from_slice(&viewer.seen);
        whole.types(&format!("between {round}\r"))?;
        whole.sees(&format!("between {round}"))?;
    }
    let mut last = Viewer::come(world, &workspace, &id, &format!("?offset={at}"))?;
    last.types("done\r")?;
    last.sees("done\r\ndone")?;
    whole.sees("done\r\ndone")?;
    pieces.extend_from_slice(&last.seen);
    ensure!(pieces == whole.seen, "pieces do not make the whole");

    let id = open(&workspace, &json!({"command": "seq 1 200000"}))?;
    wait::until_true("it has ended", LIMIT, || {
        let info = workspace
            .api()
            .get(&path(&workspace, &format!("/{id}")))?
            .ok()?;
        Ok(info["status"] == "exited")
    })?;
    let mut late = Viewer::come(world, &workspace, &id, "?offset=7")?;
    late.is_told("exit")?;
    ensure!(late.seen.len() == 256 * 1024, "{}", late.seen.len());
    ensure!(late.began == 1_488_895 - 256 * 1024, "{}", late.began);
    let ready = &late.told[0];
    ensure!(late.text().ends_with("\r\n200000\r\n"), "{ready}");
    Ok(())
}

/// Who does not read keeps neither the program nor the others waiting, nor fills memory.
pub fn a_slow_reader_holds_nobody_up(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let lines = "seq 1 1000000; echo yes > done; cat";
    let id = open(&workspace, &json!({"command": lines}))?;
    let mut slow = Viewer::come(world, &workspace, &id, "")?;
    let mut quick = Viewer::come(world, &workspace, &id, "")?;
    quick.sees("\n1000000\r")?;
    workspace.wait_for_file("done")?;
    slow.sees("\n1000000\r\n")?;
    // What was said before it came, what it saw, and what it is told that it missed.
    let all = slow.began + slow.seen.len() as u64 + slow.gaps();
    ensure!(all == 7_888_896, "{all} bytes");
    slow.types("and still alive\r")?;
    slow.sees("and still alive")?;
    Ok(())
}

/// No key, another's key, a page of elsewhere, and messages that are none.
pub fn strangers_get_nothing(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let id = open(&workspace, &json!({}))?;
    let key = workspace.api().key().to_owned();
    let at = url(world, &workspace, &id, "")?;
    let open_with = |fields: &[(&'static str, &str)]| websocket::open_with(world, &at, fields);

    // A key in the first message, as pages send it.
    let host = format!("http://{}", world.ready()?.http);
    let mut page =
        open_with(&[("origin", &host)])?.map_err(|status| anyhow::anyhow!("{status}"))?;
    page.send(Message::text(
        json!({"type": "auth", "key": key}).to_string(),
    ))?;
    let mut page = Viewer::ready(page)?;
    page.types("echo page-$((1+1))\r")?;
    page.sees("page-2")?;
    // Each of these is shown the door, with a code that says why.
    let auth = |key: &str| Message::text(json!({"type": "auth", "key": key}).to_string());
    for (first, code) in [
        (auth("fleeks_sk_wrong"), 4401),
        (
            Message::text(json!({"type": "resize", "cols": 1, "rows": 1}).to_string()),
            4401,
        ),
        (Message::binary(b"ls\r".to_vec()), 4401),
        (Message::text("x".repeat(100_000)), 1009),
    ] {
        let socket = open_with(&[])?.map_err(|status| anyhow::anyhow!("{status}"))?;
        ensure!(door(socket, first.clone())? == code, "{first:.60?}");
    }
    let late = open_with(&[])?.map_err(|status| anyhow::anyhow!("{status}"))?;
    ensure!(
        door(late, Message::Ping(Vec::new().into()))? == 4401,
        "it may wait for ever"
    );
    for (refused, fields) in [
        (401, vec![("x-api-key", "fleeks_sk_wrong")]),
        (401, vec![("cookie", key.as_str()), ("x-api-key", "")]),
        (
            403,
            vec![
                ("x-api-key", key.as_str()),
                ("origin", "http://evil.example"),
            ],
        ),
        (403, vec![("x-api-key", key.as_str()), ("origin", "null")]),
    ] {
        let got = open_with(&fields)?.err();
        ensure!(
            got == Some(refused),
            "{got:?} instead of {refused}: {fields:?}"
        );
    }
    // Another owner's is not there.
    let (_, other) = new_owner(world, "peeping")?;
    ensure!(open_with(&[("x-api-key", other.key())])?.err() == Some(404));
    let socket = open_with(&[])?.map_err(|status| anyhow::anyhow!("{status}"))?;
    ensure!(door(socket, auth(other.key()))? == 4404);
    for rest in ["", "/tty_aaaaaaaaaaaaaaaa", "/..%2f..", &format!("/{id}")] {
        other.get(&path(&workspace, rest))?.refused(&[404])?;
    }
    other
        .delete(&path(&workspace, &format!("/{id}")))?
        .refused(&[404])?;
    // And words that nobody knows.
    for (word, code) in [
        ("{", 1003),
        ("[]", 1003),
        ("{\"type\":\"resize\",\"cols\":-1,\"rows\":2}", 1003),
        ("{\"type\":\"sudo\"}", 1003),
    ] {
        let mut viewer = Viewer::come(world, &workspace, &id, "")?;
        viewer.socket.send(Message::text(word))?;
        ensure!(viewer.farewell()? == code, "{word}");
    }
    for body in [
        json!({"cols": 0}),
        json!({"rows": 5000}),
        json!({"environment": {"A=B": "c"}}),
        json!({"command": "a\u{0}b"}),
        json!({"cols": "wide"}),
    ] {
        workspace
            .api()
            .post(&path(&workspace, ""), &body)?
            .refused(&[422])?;
    }
    page.types("echo still-$((1+1))\r")?;
    page.sees("still-2")?;
    Ok(())
}

/// The code with which somebody is shown the door who begins like this.
fn door(mut socket: WebSocket<Line>, first: Message) -> Result<u16> {
    // What is too long may be cut off while it is sent.
    let _ = socket.send(first);
    loop {
        match socket.read()? {
            Message::Close(Some(frame)) => return Ok(frame.code.into()),
            Message::Close(None) => bail!("a close without a code"),
            _ => {}
        }
    }
}

/// `fleeks shell` in a terminal of its own: what a person sees who sits there.
pub fn a_person_sits_at_one(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let fleeks = fleeks_tests::world::binary()?;
    let fleeks = fleeks.to_str().context("a strange path")?;
    let runtime = match world.runtime() {
        Runtime::Runc => "runc",
        Runtime::Runsc => "runsc",
    };
    let arguments = [fleeks, &workspace.project, &workspace.container, runtime];
    let told = python::run(world, "shell.py", &arguments, LIMIT)?;
    ensure!(told["ok"] == true, "{told}");
    Ok(())
}
