//! Apps in workspaces and their previews: verified TLS over h1 and h2, and the plain twin.

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::{Answer, Version};
use fleeks_tests::{Curl, Workspace, World, apps};

/// Bound to 0.0.0.0.
pub fn python_on_all_addresses(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    answers_everywhere(world, &workspace, "python", 5000)
}

/// Bound to 127.0.0.1 only: reached through init.
pub fn python_on_localhost(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "127.0.0.1", 8000)?;
    answers_everywhere(world, &workspace, "python", 8000)
}

/// The same in Node.
pub fn node_on_all_addresses(world: &World) -> Result<()> {
    let workspace = world.workspace("node")?;
    apps::serve_node(&workspace, "0.0.0.0", 3000)?;
    answers_everywhere(world, &workspace, "node", 3000)
}

/// The same in Node.
pub fn node_on_localhost(world: &World) -> Result<()> {
    let workspace = world.workspace("node")?;
    apps::serve_node(&workspace, "127.0.0.1", 3000)?;
    answers_everywhere(world, &workspace, "node", 3000)
}

fn answers_everywhere(world: &World, workspace: &Workspace, app: &str, port: u16) -> Result<()> {
    let url = workspace.preview_url()?;
    let labelled = url.replace("https://", &format!("https://{port}--"));
    let twin = format!(
        "http://{}:{}",
        workspace.host()?,
        world.ready()?.http.port()
    );
    for (version, base) in [
        (Version::H1, &url),
        (Version::H2, &url),
        (Version::H1, &labelled),
        (Version::H2, &labelled),
        (Version::H1, &twin),
    ] {
        let answer = Curl::new(world, version, &format!("{base}/deep/path?q=%20a&b"))?
            .argument("--data")
            .argument("grüße")
            .send()?;
        let spoken = if version == Version::H2 { "2" } else { "1.1" };
        ensure!(
            answer.version == spoken,
            "{base} over HTTP {}",
            answer.version
        );
        let seen = answer.json().with_context(|| base.clone())?;
        ensure!(
            seen["app"] == app && seen["method"] == "POST",
            "{base}: {seen}"
        );
        ensure!(seen["path"] == "/deep/path?q=%20a&b", "{base}: {seen}");
        let host = base.split("//").nth(1).unwrap_or_default();
        ensure!(seen["headers"]["host"] == host, "{base}: {seen}");
    }
    Ok(())
}

/// The article's polyglot workspace: an analysis in Python and an API in Node, one URL, and each
/// port by its label.
pub fn one_url_many_services(world: &World) -> Result<()> {
    let workspace = world.workspace("default")?;
    apps::serve_python(&workspace, "127.0.0.1", 8765)?;
    apps::serve_node(&workspace, "0.0.0.0", 3000)?;
    let url = workspace.preview_url()?;
    let app_at = |url: &str| -> Result<String> {
        let seen = Curl::new(world, Version::H2, url)?.send()?.json()?;
        Ok(seen["app"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(
        app_at(&url)? == "node",
        "the well-known dev port is the main one"
    );
    ensure!(app_at(&url.replace("//", "//8765--"))? == "python");
    ensure!(app_at(&url.replace("//", "//3000--"))? == "node");
    Ok(())
}

/// Two workspaces, one port: each URL leads to its own.
pub fn same_port_apart(world: &World) -> Result<()> {
    let (one, two) = (world.workspace("python")?, world.workspace("python")?);
    for (workspace, name) in [(&one, "one"), (&two, "two")] {
        workspace.write("app.py", apps::PYTHON)?;
        workspace.background(&format!("python app.py 0.0.0.0 5000 {name}"))?;
        workspace.wait_for_port(5000)?;
    }
    for (workspace, name) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let seen = Curl::new(world, Version::H2, &workspace.preview_url()?)?
            .send()?
            .json()?;
        ensure!(seen["app"] == name, "{name}: {seen}");
    }
    ensure!(one.host()? != two.host()?);
    Ok(())
}

/// The app sees the visitor's Host and Origin as they are, and of `X-Forwarded-*` only ours.
pub fn headers_are_true(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let url = workspace.preview_url()?;
    for version in [Version::H1, Version::H2] {
        let seen = Curl::new(world, version, &url)?
            .header("Origin: https://elsewhere.example")
            .header("Authorization: Bearer the-apps-own")
            .header("X-Forwarded-For: 203.0.113.9")
            .header("X-Forwarded-Proto: gopher")
            .header("X-Forwarded-Host: evil.example")
            .header("Forwarded: for=203.0.113.9")
            .header("X_Forwarded_For: 203.0.113.9")
            .header("Cookie: theme=dark")
            .send()?
            .json()?;
        let headers = &seen["headers"];
        ensure!(
            headers["host"] == url.trim_start_matches("https://"),
            "{seen}"
        );
        ensure!(headers["origin"] == "https://elsewhere.example", "{seen}");
        ensure!(headers["authorization"] == "Bearer the-apps-own", "{seen}");
        ensure!(headers["x-forwarded-for"] == "127.0.0.1", "{seen}");
        ensure!(headers["x-forwarded-proto"] == "https", "{seen}");
        ensure!(headers["cookie"] == "theme=dark", "{seen}");
        let text = seen.to_string();
        ensure!(
            !text.contains("203.0.113.9")
                && !text.contains("gopher")
                && !text.contains("evil.example"),
            "{seen}"
        );
    }
    Ok(())
}

/// A port on which nothing listens is a 502 that names those that do: a page for browsers, JSON
/// for machines.
pub fn nothing_listens(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let ask = |url: &str, accept: &str| -> Result<Answer> {
        Curl::new(world, Version::H2, url)?
            .header(&format!("Accept: {accept}"))
            .send()
    };
    let url = workspace.preview_url()?;
    let quiet = ask(&url, "application/json")?;
    ensure!(quiet.status == 502, "{quiet:?}");
    apps::serve_python(&workspace, "0.0.0.0", 5000)?;
    let other = url.replace("//", "//3000--");
    let machine = ask(&other, "application/json")?;
    ensure!(
        machine.status == 502
            && machine
                .header("content-type")
                .starts_with("application/json"),
        "{machine:?}"
    );
    ensure!(
        machine.text().contains("5000") && machine.text().contains("3000"),
        "{}",
        machine.text()
    );
    let browser = ask(&other, "text/html,application/xhtml+xml,*/*;q=0.8")?;
    ensure!(
        browser.status == 502 && browser.header("content-type").starts_with("text/html"),
        "{browser:?}"
    );
    ensure!(
        browser.text().contains("5000") && browser.text().contains("0.0.0.0"),
        "{}",
        browser.text()
    );
    ensure!(
        ask(&url, "*/*")?.status == 200,
        "the main port is the one that listens"
    );
    Ok(())
}
