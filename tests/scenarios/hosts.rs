//! Requests that no browser sends: strange hosts, broken framing.

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::{Curl, World, apps, raw};

/// Unknown hosts are a 404, malformed ones a 400, foreign ones over TLS a 421; none reaches an
/// app or the API.
pub fn strange_hosts_are_refused(world: &World) -> Result<()> {
    let ready = world.ready()?;
    let domain = &ready.domain;
    let long_label = "a".repeat(64);
    let table: &[(&str, &[u16], &[u16])] = &[
        // Host, statuses over TLS, statuses over plain HTTP.
        (&format!("workspace-aaaaaaaaaa.{domain}"), &[404], &[404]),
        (&format!("WORKSPACE-AAAAAAAAAA.{domain}"), &[404], &[404]),
        (&format!("nothing.{domain}"), &[404], &[404]),
        (&format!("3000--.{domain}"), &[404, 400], &[404, 400]),
        (
            &format!("0--workspace-aaaaaaaaaa.{domain}"),
            &[404, 400],
            &[404, 400],
        ),
        (
            &format!("99999--workspace-aaaaaaaaaa.{domain}"),
            &[404, 400],
            &[404, 400],
        ),
        (
            &format!("64999--workspace-aaaaaaaaaa.{domain}"),
            &[404, 400],
            &[404, 400],
        ),
        (&format!("a.b.c.{domain}"), &[421, 404], &[404]),
        ("example.com", &[421], &[404]),
        ("fleeks.localhost.evil.example", &[421], &[404]),
        ("", &[400], &[400]),
        (&format!("api.{domain}."), &[400], &[400]),
        (&format!("api.{domain}/x"), &[400], &[400]),
        (&format!("user@api.{domain}"), &[400], &[400]),
        (&format!("api.{domain}:99999"), &[400], &[400]),
        (&format!("api.{domain}:"), &[400], &[400]),
        (&format!("api .{domain}"), &[400], &[400]),
        (&format!("a_b.{domain}"), &[400], &[400]),
        (&format!("{long_label}.{domain}"), &[400], &[400]),
        (&"a.".repeat(200), &[400], &[400]),
        ("grün.example", &[400], &[400]),
    ];
    for (host, over_tls, plain) in table {
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::talk(
            &mut raw::connect_tls(world, &format!("api.{domain}"))?,
            request.as_bytes(),
        )?;
        ensure!(
            raw::status(&answer).is_some_and(|status| over_tls.contains(&status)),
            "{host:?} over TLS: {answer}"
        );
        let answer = raw::talk(&mut raw::connect(ready.http)?, request.as_bytes())?;
        ensure!(
            raw::status(&answer).is_some_and(|status| plain.contains(&status)),
            "{host:?} over HTTP: {answer}"
        );
    }
    Ok(())
}

/// Requests that two parsers could read differently are refused before an app sees them.
pub fn broken_requests_are_refused(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let host = workspace.host()?;
    let many_fields: String = (0..200)
        .map(|n| format!("X-Field-{n}: value\r\n"))
        .collect();
    let large = "x".repeat(80_000);
    let table: &[(&str, String, &[u16])] = &[
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        (
            "two Hosts",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
            &[400],
        ),
        (
            "length and chunked",
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            &[400],
        ),
        (
            "two lengths",
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
            ),
            &[400],
        ),
        (
            "gzip, chunked",
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
            &[400, 501],
        ),
        (
            "negative length",
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n"),
            &[400],
        ),
        (
            "bare LF",
            format!("GET / HTTP/1.1\nHost: {host}\n\n"),
            &[400],
        ),
        (
            "TRACE",
            format!("TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[405],
        ),
        (
            "CONNECT",
            format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n"),
            &[400, 405],
        ),
        (
            "200 fields",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many_fields}\r\n"),
            &[431],
        ),
        (
            "80 kB of fields",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Large: {large}\r\n\r\n"),
            &[431],
        ),
        (
            "a smuggled name",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nX Space: 1\r\n\r\n"),
            &[400],
        ),
        (
            "no HTTP at all",
            "\u{16}\u{3}\u{1}hello\r\n\r\n".to_owned(),
            &[400],
        ),
    ];
    for (what, request, statuses) in table {
        let answer = raw::talk(&mut raw::connect_tls(world, &host)?, request.as_bytes())
            .with_context(|| (*what).to_owned())?;
        let fine = raw::status(&answer).is_some_and(|status| statuses.contains(&status));
        ensure!(
            fine,
            "{what}: {}",
            answer.chars().take(500).collect::<String>()
        );
    }
    let answer = Curl::new(world, Version::H1, &workspace.preview_url()?)?.send()?;
    ensure!(answer.status == 200, "the app suffered: {answer:?}");
    Ok(())
}

/// A host that the certificate does not cover is misdirected on a connection for one that it
/// does. A sibling host of ours may share a connection (browsers do that in h2), and then it gets
/// its own app or a 421, never the app of the host that SNI named.
pub fn sni_and_host_must_agree(world: &World) -> Result<()> {
    let (one, two) = (world.workspace("python")?, world.workspace("python")?);
    for (workspace, name) in [(&one, "one"), (&two, "two")] {
        workspace.write("app.py", apps::PYTHON)?;
        workspace.background(&format!("python app.py 0.0.0.0 5000 {name}"))?;
        workspace.wait_for_port(5000)?;
    }
    let url = one.preview_url()?;
    for version in [Version::H1, Version::H2] {
        let foreign = Curl::new(world, version, &url)?
            .header("Host: example.com")
            .send()?;
        ensure!(foreign.status == 421, "{version:?}: {foreign:?}");
        let sibling = Curl::new(world, version, &url)?
            .header(&format!("Host: {}", two.host()?))
            .send()?;
        match sibling.status {
            421 => {}
            _ => ensure!(sibling.json()?["app"] == "two", "{version:?}: {sibling:?}"),
        }
    }
    Ok(())
}
