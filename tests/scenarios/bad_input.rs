//! Calls of the API that make no sense: each a clear 4xx in little time.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::workspace::encoded;
use fleeks_tests::{World, memory, raw};
use serde_json::{Value, json};

/// A refusal takes no longer than this, however large what was sent.
const QUICK: Duration = Duration::from_secs(5);

/// Project ids that could be paths, hosts, or words of the API.
pub fn project_ids(world: &World) -> Result<()> {
    let api = world.api()?;
    let long = "a".repeat(200);
    for id in [
        "",
        "..",
        ".",
        ".hidden",
        "a/b",
        "../../etc",
        "a\\b",
        "grün",
        "a b",
        "a\0b",
        "a\nb",
        "project",
        "a%2fb",
        "<script>",
        &long,
    ] {
        let made = api.post(
            "/api/v1/sdk/workspaces",
            &json!({"project_id": id, "template": "python"}),
        )?;
        made.refused(&[400, 422])
            .with_context(|| format!("create {id:?}"))?;
        if id.is_empty() || id == "." || id == ".." {
            continue;
        }
        let whole = encoded(id).replace('/', "%2F");
        for path in [
            format!("/api/v1/sdk/workspaces/{whole}"),
            format!("/api/v1/sdk/files/{whole}/content?path=a"),
        ] {
            api.get(&path)?
                .refused(&[400, 404, 422])
                .with_context(|| path.clone())?;
        }
    }
    for body in [
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
        json!({"project_id": 7}),
        json!({"project_id": null}),
        json!({"project_id": {"a": 1}}),
    ] {
        api.post("/api/v1/sdk/workspaces", &body)?
            .refused(&[400, 422])
            .with_context(|| body.to_string())?;
    }
    let unknown = json!({"project_id": "fine", "template": "no-such-template"});
    api.post("/api/v1/sdk/workspaces", &unknown)?
        .refused(&[400, 404, 422])?;
    Ok(())
}

/// Numbers out of range are refused or clamped.
pub fn page_numbers(world: &World) -> Result<()> {
    let api = world.api()?;
    for (page, size) in [
        ("-1", "20"),
        ("0", "20"),
        ("1", "-5"),
        ("1", "0"),
        ("1", "1000000000"),
        ("99999999999999999999999", "20"),
        ("1e9", "20"),
        ("abc", "20"),
        ("", ""),
        ("4294967296", "4294967296"),
        ("18446744073709551615", "100"),
    ] {
        let path = format!("/api/v1/sdk/workspaces?page={page}&page_size={size}");
        let reply = api.get(&path)?;
        match reply.status {
            200 => ensure!(
                reply.json()?["workspaces"].is_array(),
                "{path}: {}",
                reply.text()
            ),
            _ => drop(reply.refused(&[400, 422]).with_context(|| path.clone())?),
        }
        ensure!(reply.took < QUICK, "{path} took {:?}", reply.took);
    }
    for timeout in [
        json!(0),
        json!(-1),
        json!(1e300),
        json!(999_999_999),
        json!("30"),
        json!(null),
    ] {
        let workspace = json!({"project_id": "nothing-here", "command": "true", "working_dir": "/workspace", "timeout_seconds": timeout});
        api.post("/api/v1/sdk/terminal/execute", &workspace)?
            .refused(&[400, 404, 422])?;
    }
    Ok(())
}

/// 100 MB of JSON, JSON that is none, JSON that is deep, bytes that are no UTF-8.
pub fn bodies(world: &World) -> Result<()> {
    let api = world.api()?;
    let pid = world.pid()?;
    memory::reset_peak(pid)?;
    let before = memory::resident(pid)?;
    large_json(world, false)?;
    large_json(world, true)?;
    let grown = memory::peak(pid)?.saturating_sub(before);
    ensure!(grown < 150 << 20, "100 MB of JSON took {} MiB", grown >> 20);

    let create = "/api/v1/sdk/workspaces";
    let deep = format!(
        "{{\"project_id\":{}1{}}}",
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let broken: [&[u8]; 7] = [
        b"{",
        b"\xff\xfe",
        b"{\"project_id\": \"\xff\"}",
        b"{\"project_id\": \"\\ud800\"}",
        b"nul",
        deep.as_bytes(),
        b"{\"project_id\":\"a\",}",
    ];
    for body in broken {
        let reply = api.call("POST", create, body)?;
        reply
            .refused(&[400, 413, 422])
            .with_context(|| String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned())?;
        ensure!(reply.took < QUICK);
    }
    let workspace = world.workspace("python")?;
    for query in [
        "path=%ff%fe",
        "path=%00",
        "path=a%00b",
        "path=%",
        "",
        "path=",
        "encoding=utf-8",
    ] {
        let reply = api.get(&workspace.files(&format!("/content?{query}")))?;
        reply
            .refused(&[400, 404, 422])
            .with_context(|| query.to_owned())?;
    }
    let odd = json!({"path": "a.txt", "content": "x", "encoding": "klingon"});
    api.post(&workspace.files(""), &odd)?.refused(&[400, 422])?;
    Ok(())
}

/// By length it is refused before it was sent; chunked, when it has grown too large.
fn large_json(world: &World, chunked: bool) -> Result<()> {
    let ready = world.ready()?;
    let key = world.api()?.key().to_owned();
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", 100 << 20)
    };
    let head = format!(
        "POST /api/v1/sdk/workspaces HTTP/1.1\r\nHost: {}\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n",
        ready.http
    );
    let start = Instant::now();
    let mut stream = raw::connect(ready.http)?;
    stream.write_all(head.as_bytes())?;
    let block = vec![b' '; 1 << 20];
    for _ in 0..100 {
        let sent = match chunked {
            true => stream
                .write_all(b"100000\r\n")
                .and_then(|()| stream.write_all(&block))
                .and_then(|()| stream.write_all(b"\r\n")),
            false => stream.write_all(&block),
        };
        // The door may close at any point of it.
        if sent.is_err() {
            break;
        }
    }
    let answer = raw::talk(&mut stream, if chunked { b"0\r\n\r\n" } else { b"" });
    let took = start.elapsed();
    ensure!(took < QUICK * 2, "100 MB of JSON kept it busy for {took:?}");
    // A reset may overtake the answer on its way to a sender that does not stop.
    if let Ok(answer) = answer {
        ensure!(
            raw::status(&answer) == Some(413),
            "chunked {chunked}: {answer}"
        );
    }
    let polite = world.scratch()?.join("large.json");
    File::create(&polite)?.set_len(100 << 20)?;
    let url = format!("http://{}/api/v1/sdk/workspaces", ready.http);
    let mut curl = fleeks_tests::Curl::new(world, fleeks_tests::curl::Version::H1, &url)?;
    curl = curl
        .header(&format!("X-API-Key: {key}"))
        .argument("--request")
        .argument("POST")
        .upload(&polite);
    if chunked {
        curl = curl.header("Transfer-Encoding: chunked");
    }
    let answer = curl.send()?;
    ensure!(answer.status == 413, "{answer:?}");
    let body: Value = serde_json::from_slice(&answer.body)?;
    ensure!(body["detail"].is_string(), "{body}");
    Ok(())
}

/// What does not exist says so, in JSON, without a redirect.
pub fn unknown_paths(world: &World) -> Result<()> {
    let api = world.api()?;
    for path in [
        "/api/v1/sdk/nothing",
        "/api/v2/x",
        "/api/v1/sdk/workspaces/no-such-one",
        "/api/v1/sdk/workspaces/no-such-one/preview-url",
        "/api/v1/sdk/containers/cnt_aaaaaaaaaaaaaaaa/info",
        "/api/v1/sdk/containers/what/info",
        "/api/v1/sdk/files/no-such-one?path=/",
        "/api/v1/sdk/terminal/jobs/job_aaaaaaaaaaaaaaaa?project_id=no-such-one",
    ] {
        api.get(path)?
            .refused(&[404])
            .with_context(|| path.to_owned())?;
    }
    api.call("PATCH", "/api/v1/sdk/workspaces", b"{}")?
        .refused(&[405, 404])?;
    for path in ["/api/v1/sdk/workspaces", "/api/v1/sdk/workspaces/"] {
        ensure!(api.get(path)?.status == 200, "{path} must not redirect");
    }
    Ok(())
}
