//! Templates: from create to a preview that answers and follows changes, with dependencies that
//! were installed once for all; versions; what this machine cannot run.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::templates::{self, STARTERS};
use fleeks_tests::workspace::text;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, World};
use serde_json::json;

/// The standard library's server.
pub fn python(world: &World) -> Result<()> {
    comes_alive(world, "python")
}

/// The same in Node.
pub fn node(world: &World) -> Result<()> {
    comes_alive(world, "node")
}

/// Files as they are.
pub fn static_files(world: &World) -> Result<()> {
    comes_alive(world, "static")
}

/// From pip, into the template's layer; the reloader notices a change.
pub fn flask(world: &World) -> Result<()> {
    comes_alive(world, "flask")?;
    let workspace = world.workspace("flask")?;
    let place = workspace.sh("python -c 'import flask; print(flask.__file__)'")?;
    ensure!(place.starts_with("/opt/fleeks/layer/python/"), "{place}");
    // The user's own come first, and a virtual environment sees neither.
    workspace.sh("mkdir -p $(python -m site --user-site) && echo own=1 > $(python -m site --user-site)/flask.py")?;
    ensure!(workspace.sh("python -c 'import flask; print(flask.own)'")? == "1");
    workspace.sh("python -m venv --without-pip v && ! v/bin/python -c 'import flask'")?;
    Ok(())
}

/// From npm, at `/node_modules`; JSX in a plain `.js` file; the volume stays empty of them.
pub fn react(world: &World) -> Result<()> {
    comes_alive(world, "react")?;
    let workspace = world.workspace("react")?;
    ensure!(workspace.sh("ls -d node_modules 2>/dev/null || echo none")? == "none");
    ensure!(workspace.job("touch /node_modules/x")?.exit_code != Some(0));
    let built = workspace.job("npm run build && grep -c 'Hello from React' dist/assets/*.js")?;
    ensure!(built.exit_code == Some(0), "{built:?}");
    // The user's own come first.
    workspace.sh("mkdir -p node_modules/react && echo 'module.exports = {own: 1}' > node_modules/react/index.js")?;
    ensure!(workspace.sh("node -p 'require(\"react\").own'")? == "1");
    Ok(())
}

/// All templates, one after the other.
pub fn every_one(world: &World) -> Result<()> {
    for starter in &STARTERS {
        comes_alive(world, starter.template)?;
    }
    Ok(())
}

fn comes_alive(world: &World, template: &str) -> Result<()> {
    templates::install(world, template)?;
    let starter = templates::of(template)?;
    let workspace = world.workspace(template)?;
    starter.run(world, &workspace)?;
    starter.answers(world, &workspace, starter.says)?;
    starter.reloads(world, &workspace).context("hot reload")
}

/// Versions are said as found, a pin that is there is honoured, another is refused with what there
/// is.
pub fn versions_are_true(world: &World) -> Result<()> {
    let workspace = world.workspace("default")?;
    let python = workspace.sh("python3 --version")?.replace("Python ", "");
    let pinned = |pins: serde_json::Value| {
        let project = format!("pins-{:08x}", rand::random::<u32>());
        let body = json!({"project_id": project, "template": "python", "pinned_versions": pins});
        world.api()?.post("/api/v1/sdk/workspaces", &body)
    };
    let major = python.rsplit_once('.').context("a version")?.0;
    for pin in [python.as_str(), major, "3", ">=3.5", "*"] {
        let made = pinned(json!({ "python": pin }))?.ok()?;
        ensure!(
            made["language_versions"]["python"] == python.as_str(),
            "{pin}: {made}"
        );
        world
            .api()?
            .delete(&format!(
                "/api/v1/sdk/workspaces/{}",
                text(&made, "project_id")?
            ))?
            .ok()?;
    }
    for wrong in [
        json!({"python": "2.7"}),
        json!({"cobol": "85"}),
        json!({"python": "three"}),
    ] {
        let refused = pinned(wrong.clone())?;
        ensure!(
            refused.status == 422,
            "{wrong}: {} {}",
            refused.status,
            refused.text()
        );
        ensure!(
            refused.text().contains("pinned_versions"),
            "{}",
            refused.text()
        );
    }
    let told = pinned(json!({"python": "2.7"}))?.text();
    ensure!(told.contains(&python), "{told}");
    Ok(())
}

/// What an operator adds is there with its files; what this machine lacks is listed with the
/// reason, and creating it is the caller's error, not the platform's.
pub fn an_operators_own(runtime: Runtime) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let put = |path: &str, content: &str| -> Result<()> {
        let path = directory.path().join("templates").join(path);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        Ok(fs::write(path, content)?)
    };
    put(
        "greeter/template.toml",
        "description = 'ours'\nlanguages = ['python']\nrun = 'python3 serve.py'\n\
         [dependencies]\nfrom = ['name.txt']\ninstall = ['mkdir $LAYER/bin && cp name.txt $LAYER/bin/']\n",
    )?;
    put("greeter/files/name.txt", "world")?;
    let empty = directory.path().join("empty");
    fs::create_dir(&empty)?;
    put(
        "elsewhere/template.toml",
        &format!(
            "description = 'x'\nlanguages = ['go']\nrootfs = '{}'\n",
            empty.display()
        ),
    )?;
    put(
        "broken/template.toml",
        "description = 'x'\ninstall_failed = 1\n",
    )?;
    put(
        "worse/template.toml",
        "description = 'x'\nrun = 'x'\nmain_ports = [0]\nlanguages = ['cobol']\nimage = 'A B'\n",
    )?;
    let checked = World::template_check(&directory.path().join("templates"), &["--json"])?;
    ensure!(checked.status.code() == Some(1), "{}", checked.stderr);
    let document: serde_json::Value = serde_json::from_slice(&checked.stdout)?;
    let worse = document["templates"].as_array().and_then(|all| all.last());
    let lines = worse
        .and_then(|worse| worse["problems"].as_array())
        .map(|problems| {
            let lines = problems
                .iter()
                .filter_map(|problem| problem["line"].as_u64());
            lines.collect::<Vec<_>>()
        });
    ensure!(
        document["ok"] == false && lines == Some(vec![5, 4, 3]),
        "{document}"
    );
    let checked = World::template_check(&directory.path().join("templates"), &[])?;
    ensure!(!checked.status.success(), "a broken template passes");
    let said = String::from_utf8_lossy(&checked.stdout);
    ensure!(
        said.contains("broken/template.toml:2") && said.contains("ok      greeter"),
        "{said}"
    );
    ensure!(
        said.contains("worse/template.toml:3") && said.contains("template.toml:5"),
        "{said}"
    );
    for name in ["broken", "worse"] {
        fs::remove_dir_all(directory.path().join("templates").join(name))?;
    }

    let world = World::builder(runtime)
        .pool("default", 1)
        .templates(&directory.path().join("templates"))
        .open()?;
    let workspace = world.workspace("greeter")?;
    ensure!(workspace.sh("cat /opt/fleeks/layer/bin/name.txt name.txt")? == "worldworld");
    let info = templates::info(&world, "elsewhere")?;
    ensure!(info["available"] == false, "{info}");
    ensure!(text(&info, "unavailable_reason")?.contains("go"), "{info}");
    ensure!(text(&info, "fix")?.contains("golang-go"), "{info}");
    let body = json!({"project_id": "no", "template": "elsewhere"});
    let refused = world.api()?.post("/api/v1/sdk/workspaces", &body)?;
    ensure!(
        refused.status == 422 && refused.text().contains("golang-go"),
        "{}",
        refused.text()
    );
    drop(workspace);
    world.stop()
}

/// One workspace, several languages at once, each at its port's own address.
pub fn several_languages(world: &World) -> Result<()> {
    let workspace = world.workspace("default")?;
    let languages = workspace.info["languages"].to_string();
    ensure!(
        languages.contains("python") && languages.contains("nodejs"),
        "{languages}"
    );
    let parts = [
        ("python", "main.py", "python main.py", 8000),
        ("node", "server.js", "node server.js", 3000),
        ("static", "index.html", "python -m http.server 8080", 8080),
    ];
    for (template, file, command, port) in parts {
        let content = world.workspace(template)?.read(file)?;
        workspace.write(file, &content)?;
        workspace.background(command)?;
        workspace.wait_for_port(port)?;
    }
    let url = workspace.preview_url()?;
    for (template, .., port) in parts {
        let own = url.replace("//", &format!("//{port}--"));
        let answer = Curl::new(world, Version::H2, &own)?.send()?;
        let says = templates::of(template)?.says;
        ensure!(
            answer.status == 200 && answer.text().contains(says),
            "{own}: {answer:?}"
        );
    }
    Ok(())
}
