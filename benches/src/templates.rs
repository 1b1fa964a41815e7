//! Each template from the call that claims a workspace to the first 200 of its own app through TLS:
//! from a warm container, with its dependencies installed before.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fleeks_tests::templates::{self, STARTERS, Starter};
use fleeks_tests::{Runtime, World, wait};

use crate::article::until_200;
use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::time;

const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(120);
const WARM: Duration = Duration::from_secs(120);

/// Those that were asked for, or all that this machine can run.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let asked = |starter: &&Starter| {
        let names = &options.template;
        names.is_empty() || names.iter().any(|name| name == starter.template)
    };
    for starter in STARTERS.iter().filter(asked) {
        let name = starter.template;
        let world = World::builder(runtime).pool(name, 1).open()?;
        let info = templates::info(&world, name)?;
        if info["available"] == true {
            progress(runtime, name);
            one(&world, starter, report).with_context(|| name.to_owned())?;
        } else {
            progress(
                runtime,
                &format!("{name} cannot be used here: {}", info["fix"]),
            );
        }
        world.stop()?;
    }
    Ok(())
}

fn one(world: &World, starter: &Starter, report: &mut Report) -> Result<()> {
    let name = starter.template;
    templates::install(world, name)?;
    let warm = || {
        wait::until_true("a warm container", WARM, || {
            let answer = world.api()?.get("/api/v1/pools")?.ok()?;
            let pools = answer["pools"].as_array().context("no pools")?;
            let pool = pools.iter().find(|pool| pool["template"] == name);
            Ok(pool.is_some_and(|pool| pool["ready"].as_u64() > Some(0)))
        })
    };
    warm()?;
    let mut last = None;
    let taken = time(
        ROUNDS,
        LIMIT,
        |_| {
            let workspace = world.workspace(name)?;
            starter.run(world, &workspace)?;
            until_200(world, &workspace.host()?)?;
            last = Some(workspace);
            Ok(())
        },
        |_| warm(),
    )?;
    drop(last);
    let what = format!("{name}: claim to first 200 of its app through TLS");
    report.time(world.runtime(), what, "–", taken);
    Ok(())
}
