//! Many warm containers: they fill, are claimed in bursts, outlive a kill, and leave nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::metrics::Metrics;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Api, Workspace, World, wait};
use serde_json::{Value, json};

const TEMPLATE: &str = "python";

/// A few, every day.
pub fn a_few(runtime: Runtime) -> Result<()> {
    story(runtime, 8)
}

/// Hundreds (`make soak`).
pub fn hundreds(runtime: Runtime) -> Result<()> {
    match runtime {
        Runtime::Runc => story(runtime, 400),
        Runtime::Runsc => story(runtime, 100),
    }
}

fn story(runtime: Runtime, count: u64) -> Result<()> {
    let mut world = World::builder(runtime).pool(TEMPLATE, count).open()?;
    is_full(&world, count)?;
    let told = Metrics::of(&world)?;
    let ready = format!("fleeks_pool_ready{{template=\"{TEMPLATE}\"}}");
    ensure!(told.get(&ready) == count as f64, "{told:?}");

    // As many at once as half the pool has, but no more than a machine of two cores likes.
    let burst = usize::try_from(count / 2)?.min(20);
    let made = at_once(&world, burst)?;
    for workspace in &made {
        ensure!(workspace.sh("echo here")? == "here");
    }
    let pool = standing(&world.api()?)?;
    ensure!(
        (&pool["hits"], &pool["misses"]) == (&json!(burst), &json!(0)),
        "{pool}"
    );
    is_full(&world, count)?;

    world.kill()?;
    world.start()?;
    let pool = standing(&world.api()?)?;
    ensure!(pool["ready"] == count, "not all were adopted: {pool}");
    // At first there is one more: the node asks a sandbox of its own what languages it has.
    let expected = usize::try_from(count)? + burst;
    wait::until_true(
        "one namespace for each container",
        Duration::from_secs(60),
        || Ok(world.traces()?.netns.len() == expected),
    )?;
    for workspace in &made {
        ensure!(workspace.sh("echo still here")? == "still here");
    }

    let key = world
        .api()?
        .post("/api/v1/keys", &json!({"owner_name": "somebody-else"}))?
        .ok()?;
    let other = world.api_as(key["key"].as_str().context("no key")?);
    other.get("/api/v1/pools")?.refused(&[403])?;
    drop(made);
    world.stop()
}

fn standing(api: &Api) -> Result<Value> {
    let answer = api.get("/api/v1/pools")?.ok()?;
    let pools = answer["pools"].as_array().context("no pools")?;
    let pool = pools.iter().find(|pool| pool["template"] == TEMPLATE);
    pool.cloned().context("no such pool")
}

fn is_full(world: &World, count: u64) -> Result<()> {
    let api = world.api()?;
    wait::until_true("the pool to fill", Duration::from_secs(600), || {
        Ok(standing(&api)?["ready"] == count)
    })
}

fn at_once(world: &World, count: usize) -> Result<Vec<Workspace>> {
    std::thread::scope(|scope| {
        let making: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| world.workspace(TEMPLATE)))
            .collect();
        let made = making.into_iter().map(|one| {
            let ended = one.join();
            ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        });
        made.collect()
    })
}
