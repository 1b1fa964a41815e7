//! What the article and the SDK's README promise, said with the SDK itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::workspace::text;
use fleeks_tests::{Curl, Workspace, World, python};

/// `for iteration in range(50)`: create, write, execute, read.
pub fn fifty_iterations(world: &World) -> Result<()> {
    let told = python::run(
        world,
        "fifty_iterations.py",
        &["50"],
        Duration::from_secs(120),
    )?;
    ensure!(told["iterations"] == 50, "{told}");
    Ok(())
}

/// The quick example, with a web app in place of `print('Hello')`: the URL that it prints answers
/// through verified TLS, and its twin without TLS.
pub fn quick_example(world: &World) -> Result<()> {
    let project = format!("demo-{:08x}", rand::random::<u32>());
    let told = python::run(
        world,
        "quick_example.py",
        &[&project],
        Duration::from_secs(60),
    )?;
    let workspace = Workspace::create(world.api()?, &project, "python")?;
    let url = text(&told, "preview_url")?;
    ensure!(url.starts_with("https://workspace-"), "{url}");
    workspace.wait_for_port(5000)?;
    for version in [Version::H1, Version::H2] {
        let answer = Curl::new(world, version, &url)?.send()?;
        ensure!(
            answer.status == 200 && answer.text().contains("Hello from a sandbox"),
            "{answer:?}"
        );
    }
    let twin = format!(
        "http://{}:{}/",
        workspace.host()?,
        world.ready()?.http.port()
    );
    let answer = Curl::new(world, Version::H1, &twin)?.send()?;
    ensure!(
        answer.status == 200 && answer.text().contains("Hello from a sandbox"),
        "{answer:?}"
    );
    Ok(())
}

/// Python and Node in one workspace, each with a preview of its own; asleep and awake.
pub fn a_polyglot_workspace(world: &World) -> Result<()> {
    let project = format!("polyglot-{:08x}", rand::random::<u32>());
    let told = python::run(world, "polyglot.py", &[&project], Duration::from_secs(120))?;
    let workspace = Workspace::create(world.api()?, &project, "python")?;
    let url = text(&told, "url")?;
    let answers = || -> Result<()> {
        for (port, says) in [
            (3000, r#"{"language":"node","#),
            (8000, r#"{"language": "python","#),
        ] {
            let own = url.replace("//", &format!("//{port}--"));
            let answer = Curl::new(world, Version::H2, &own)?.send()?;
            ensure!(
                answer.status == 200 && answer.text().starts_with(says),
                "{own}: {answer:?}"
            );
            ensure!(answer.text().contains(r#""median""#), "{answer:?}");
        }
        Ok(())
    };
    answers()?;
    let slept = workspace.hibernate()?;
    ensure!(slept.status == 200, "{}", slept.text());
    answers()
}

/// The article's 'Benchmark It Yourself', as it stands there.
pub fn it_can_be_benchmarked(world: &World) -> Result<()> {
    let told = python::run(world, "run_benchmark.py", &["1"], Duration::from_secs(120))?;
    let timings = told["milliseconds"].as_array().map(Vec::len);
    ensure!(timings == Some(10), "{told}");
    Ok(())
}

/// `memory.json` goes on where the last container left it.
pub fn an_agent_remembers(world: &World) -> Result<()> {
    let project = format!("learning-{:08x}", rand::random::<u32>());
    let told = python::run(
        world,
        "learning_agent.py",
        &[&project, "10"],
        Duration::from_secs(120),
    )?;
    ensure!(told["iteration"] == 20 && told["patterns"] == 20, "{told}");
    Ok(())
}

/// Every call of workspaces, files, terminal and containers that the SDK has, typed.
pub fn the_sdk_gets_what_it_expects(world: &World) -> Result<()> {
    let project = format!("Sdk_{:08x}.v1", rand::random::<u32>());
    python::run(world, "contract.py", &[&project], Duration::from_secs(120))?;
    Ok(())
}

/// Every method of every class that the package has.
pub fn the_whole_sdk_is_walked(world: &World) -> Result<()> {
    let project = format!("walk-{:08x}", rand::random::<u32>());
    let told = python::run(world, "walk.py", &[&project], Duration::from_secs(180))?;
    ensure!(told["walked"].as_u64() > Some(150), "{told}");
    Ok(())
}

/// What an agent learned goes on across hibernation and restarts, under one name and one id.
pub fn an_agent_improves(world: &World) -> Result<()> {
    improves(world, 9)
}

/// The article's fifty.
pub fn an_agent_improves_fifty_times(world: &World) -> Result<()> {
    improves(world, 50)
}

fn improves(world: &World, iterations: u32) -> Result<()> {
    let project = format!("improving-{:08x}", rand::random::<u32>());
    let told = python::run(
        world,
        "improving_agent.py",
        &[&project, &iterations.to_string()],
        Duration::from_secs(60 + 10 * u64::from(iterations)),
    )?;
    ensure!(told["iteration"] == iterations, "{told}");
    ensure!(
        told["slept"].as_u64() > Some(0) && told["restarted"].as_u64() > Some(0),
        "{told}"
    );
    Ok(())
}

/// A monitor that heals what it has seen before at once, asleep or not.
pub fn a_monitor_heals(world: &World) -> Result<()> {
    let project = format!("monitor-{:08x}", rand::random::<u32>());
    python::run(
        world,
        "self_healing.py",
        &[&project],
        Duration::from_secs(180),
    )?;
    Ok(())
}

/// Fifty clients at once.
pub fn a_crowd_is_served(world: &World) -> Result<()> {
    let project = format!("crowd-{:08x}", rand::random::<u32>());
    let told = python::run(
        world,
        "crowd.py",
        &[&project, "50", "2"],
        Duration::from_secs(240),
    )?;
    ensure!(told["clients"] == 50, "{told}");
    Ok(())
}

/// Every POST, twice at once.
pub fn posts_may_come_twice(world: &World) -> Result<()> {
    let project = format!("twice-{:08x}", rand::random::<u32>());
    python::run(world, "twice.py", &[&project], Duration::from_secs(180))?;
    Ok(())
}

/// The examples of the API's pages, as they stand there.
pub fn the_documentation_runs(world: &World) -> Result<()> {
    let pages = fleeks_tests::world::repository().join("docs/api");
    let pages = pages.to_string_lossy().into_owned();
    let ran = python::run(world, "run_docs.py", &[&pages], Duration::from_secs(240))?;
    for page in [
        "workspaces.md",
        "files.md",
        "terminal.md",
        "previews.md",
        "sharing.md",
    ] {
        ensure!(
            ran[page].as_u64() > Some(0),
            "no example of {page} ran: {ran}"
        );
    }
    Ok(())
}
