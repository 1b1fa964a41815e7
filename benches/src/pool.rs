//! Pools: how long many warm containers take to start, what they cost, and whether bursts of
//! claims find one.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::traces::Traces;
use fleeks_tests::{Api, Runtime, World, wait};
use serde_json::{Value, json};

use crate::measure::{cgroups, outer_cgroups, warm_memory};
use crate::options::Options;
use crate::report::{Report, progress};
use crate::sample::percentiles;

/// The longest that a pool may take to fill.
const FILL: Duration = Duration::from_secs(900);
/// Processor time is counted for so long.
const IDLE: Duration = Duration::from_secs(10);
/// Bursts of claims, and the time from one to the next.
const BURSTS: usize = 12;
const BETWEEN: Duration = Duration::from_secs(6);
/// Claims of a burst; each burst takes the next.
const SIZES: [usize; 6] = [24, 10, 38, 16, 40, 30];
const CREATE: &str = "/api/v1/sdk/workspaces";
const TEMPLATE: &str = "python";

/// A large pool, and one that sizes itself.
pub fn all(runtime: Runtime, options: &Options, report: &mut Report) -> Result<()> {
    let count = options.warm.unwrap_or(match runtime {
        Runtime::Runc => 1000,
        // As many as there is room for.
        Runtime::Runsc => 10_000,
    });
    large(runtime, count, report)?;
    sized_by_itself(runtime, report)
}

/// How a pool stands, as far as it is looked at.
struct Standing {
    target: u64,
    ready: u64,
    hits: u64,
    misses: u64,
}

fn standing(api: &Api) -> Result<Standing> {
    let answer = api.get("/api/v1/pools")?.ok()?;
    let pools = answer["pools"].as_array().context("no pools")?;
    let pool = pools.iter().find(|pool| pool["template"] == TEMPLATE);
    let pool = pool.context("no such pool")?;
    let number = |field: &str| -> Result<u64> {
        let number = pool.get(field).and_then(Value::as_u64);
        number.with_context(|| format!("no {field} in {pool}"))
    };
    Ok(Standing {
        target: number("target")?,
        ready: number("ready")?,
        hits: number("hits")?,
        misses: number("misses")?,
    })
}

fn until_full(api: &Api) -> Result<Duration> {
    let began = Instant::now();
    wait::until_true("the pool to fill", FILL, || {
        let now = standing(api)?;
        Ok(now.ready >= now.target)
    })?;
    Ok(began.elapsed())
}

fn large(runtime: Runtime, count: u32, report: &mut Report) -> Result<()> {
    progress(runtime, "a large pool fills");
    let before = available()?;
    let mut world = World::builder(runtime)
        .pool(TEMPLATE, count)
        .pool_memory("75%")
        .open()?;
    let took = until_full(&world.api()?)?;
    let warm = standing(&world.api()?)?.ready;
    ensure!(warm > 0, "nothing is warm");
    let machine = before.saturating_sub(available()?);
    let fill = "warm containers on this machine";
    report.count(runtime, fill, "1,000 runc; as many as fit runsc", warm);
    report.time(
        runtime,
        "a large pool: empty to full",
        "–",
        percentiles(vec![took]),
    );

    progress(runtime, "what it costs");
    let traces = world.traces()?;
    let (platform, containers) = warm_memory(&world, &traces)?;
    report.size(
        runtime,
        "the platform with a large pool (PSS)",
        "–",
        platform,
    );
    let one = "one of a large pool";
    report.size(
        runtime,
        format!("{one}: PSS of its processes"),
        "≈ 1.3 runc, ≈ 14 runsc",
        containers / warm,
    );
    let charged = cgroups(&traces) / warm;
    report.size(
        runtime,
        format!("{one}: its control group, kernel memory included"),
        "–",
        charged,
    );
    report.size(
        runtime,
        format!("{one}: of what the machine has available"),
        "–",
        machine / warm,
    );
    let idle = idle_cpu(&world, &traces)?;
    let what = "CPU of platform and large pool, idle (millionths of a core)";
    report.count(runtime, what, "–", (idle * 1e6) as u64);

    progress(runtime, "bursts on a large pool");
    bursts(&world, "a large pool", report)?;
    until_full(&world.api()?)?;

    progress(runtime, "kill -9, start, stop");
    world.kill()?;
    let began = Instant::now();
    world.start()?;
    let adopted = percentiles(vec![began.elapsed()]);
    report.time(
        runtime,
        "a large pool: kill -9, start to ready",
        "–",
        adopted,
    );
    let kept = standing(&world.api()?)?.ready;
    report.count(runtime, "of them adopted after kill -9", "all", kept);
    let began = Instant::now();
    world.terminate()?;
    let ended = percentiles(vec![began.elapsed()]);
    report.time(runtime, "a large pool: SIGTERM to nothing left", "–", ended);
    Ok(())
}

fn sized_by_itself(runtime: Runtime, report: &mut Report) -> Result<()> {
    progress(runtime, "bursts on a pool that sizes itself");
    let world = World::builder(runtime).pool(TEMPLATE, "2..64").open()?;
    until_full(&world.api()?)?;
    bursts(&world, "a pool of 2..64", report)?;
    let target = standing(&world.api()?)?.target;
    report.count(
        runtime,
        "a pool of 2..64: its size after the bursts",
        "≤ 64",
        target,
    );
    world.stop()
}

/// Claims as they come from many agents at once. The first burst is of a size that a pool which
/// sizes itself has not seen yet: what follows is told apart.
fn bursts(world: &World, of: &str, report: &mut Report) -> Result<()> {
    let (runtime, api) = (world.runtime(), world.api()?);
    let before = standing(&api)?;
    let (mut timings, mut learnt, mut claims) = (Vec::new(), before.misses, 0);
    let mut next = Instant::now();
    for burst in 0..BURSTS {
        wait::until_true("the next burst", BETWEEN * 2, || Ok(Instant::now() >= next))?;
        next = Instant::now() + BETWEEN;
        let size = SIZES[burst % SIZES.len()];
        let names: Vec<String> = (0..size).map(|n| format!("b{burst}-{n}")).collect();
        timings.extend(at_once(&names, |name| {
            let body = json!({"project_id": name, "template": TEMPLATE});
            world.api()?.post(CREATE, &body)?.ok().map(drop)
        })?);
        claims += size;
        if burst == SIZES.len() - 1 {
            learnt = standing(&api)?.misses;
        }
        for some in names.chunks(4) {
            at_once(some, |name| {
                world
                    .api()?
                    .delete(&format!("{CREATE}/{name}"))?
                    .ok()
                    .map(drop)
            })?;
        }
    }
    let after = standing(&api)?;
    ensure!(
        after.hits + after.misses - before.hits - before.misses == claims as u64,
        "claims are lost"
    );
    let later: usize = (SIZES.len()..BURSTS)
        .map(|burst| SIZES[burst % SIZES.len()])
        .sum();
    let percent = |missed: u64, of: usize| 100 - (missed * 100).div_ceil(of as u64);
    let what = format!("{of}: create, in bursts of 10 to 40 at once (API call)");
    report.time(runtime, what, "≤ 20", percentiles(timings));
    let rate = percent(after.misses - before.misses, claims);
    report.count(
        runtime,
        format!("{of}: hits in bursts, % (all)"),
        "≥ 99",
        rate,
    );
    let rate = percent(after.misses - learnt, later);
    report.count(
        runtime,
        format!("{of}: hits in bursts, % (after the sixth)"),
        "≥ 99",
        rate,
    );
    Ok(())
}

/// Does it for all of them at the same time, and says how long each took.
fn at_once(names: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> Result<Vec<Duration>> {
    let timed = |name: &String| {
        let began = Instant::now();
        work(name)?;
        Ok(began.elapsed())
    };
    let timed = &timed;
    std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || timed(name)))
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        });
        ended.collect()
    })
}

/// Cores in use while nobody wants anything.
fn idle_cpu(world: &World, traces: &Traces) -> Result<f64> {
    let platform = world.pid()?;
    let outer = outer_cgroups(traces);
    let ticks = f64::from(100); // USER_HZ, on every Linux of today.
    let used = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{platform}/stat"))?;
        let (_, rest) = stat.rsplit_once(')').context("a stat without a name")?;
        let fields: Vec<u64> = rest
            .split(' ')
            .filter_map(|field| field.parse().ok())
            .collect();
        // utime and stime, the 14th and 15th of all; state is no number.
        let own: u64 = fields
            .get(10)
            .zip(fields.get(11))
            .map_or(0, |(user, kernel)| user + kernel);
        Ok(own as f64 / ticks + containers_cpu(&outer))
    };
    let (began, before) = (Instant::now(), used()?);
    wait::until_true("time to pass", IDLE * 2, || Ok(began.elapsed() >= IDLE))?;
    Ok((used()? - before) / began.elapsed().as_secs_f64())
}

/// Seconds of processor time of all containers.
fn containers_cpu(outer: &[PathBuf]) -> f64 {
    outer
        .iter()
        .map(|path| {
            if let Ok(text) = fs::read_to_string(path.join("cpuacct.usage")) {
                return text.trim().parse::<f64>().unwrap_or(0.0) / 1e9;
            }
            let text = fs::read_to_string(path.join("cpu.stat")).unwrap_or_default();
            let micros = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "));
            micros
                .and_then(|micros| micros.trim().parse::<f64>().ok())
                .unwrap_or(0.0)
                / 1e6
        })
        .sum()
}

/// Bytes that the machine has available.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| {
        rest.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    Ok(kib.context("no MemAvailable")? * 1024)
}
