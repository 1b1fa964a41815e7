//! What runs in the cycled workspaces, and whether it is what it was.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleeks_tests::{Runtime, Workspace, World, raw, wait};
use serde::Deserialize;
use serde_json::Value;

/// Timers go on within this.
const PATIENCE: Duration = Duration::from_secs(15);
const TOLD: &str = include_str!("../../apps/told.py");

/// A program that remembers something.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    template: &'static str,
    file: &'static str,
    source: &'static str,
    command: &'static str,
}

macro_rules! python {
    ($name:literal, $file:literal, $arguments:literal) => {
        Kind {
            name: $name,
            template: "python",
            file: $file,
            source: include_str!(concat!("../../apps/", $file)),
            command: concat!("exec python3 ", $file, $arguments),
        }
    };
}

const NODE: Kind = Kind {
    name: "Node server with timers",
    template: "node",
    file: "timers.js",
    source: include_str!("../../apps/timers.js"),
    command: "exec node timers.js",
};

/// Those that `runtime` is cycled with.
pub fn kinds(runtime: Runtime) -> [Kind; 6] {
    let held = match runtime {
        Runtime::Runc => python!("server with a held connection", "held.py", " kept"),
        Runtime::Runsc => python!("server with a held connection", "held.py", " closed"),
    };
    [
        python!("counter with open files", "counter.py", ""),
        NODE,
        python!("open SQLite transaction", "rows.py", ""),
        python!("child processes", "family.py", ""),
        held,
        python!("50 MiB process", "heavy.py", ""),
    ]
}

/// One workspace with a workload in it.
pub struct Subject {
    pub kind: Kind,
    pub workspace: Workspace,
    host: String,
    last: Told,
}

/// What a workload tells, see `apps/told.py`.
#[derive(Debug, Clone, Default, Deserialize)]
struct Told {
    count: u32,
    chain: u32,
    counts: BTreeMap<String, u32>,
    same: BTreeMap<String, Value>,
    grows: BTreeMap<String, u64>,
}

impl Subject {
    /// Starts it; it has made its first step then.
    pub fn start(world: &World, kind: Kind) -> Result<Self> {
        let workspace = world.workspace(kind.template)?;
        workspace.write("told.py", TOLD)?;
        workspace.write(kind.file, kind.source)?;
        workspace.background(kind.command)?;
        workspace.wait_for_port(5000)?;
        let host = workspace.host()?;
        let mut subject = Self {
            kind,
            workspace,
            host,
            last: Told::default(),
        };
        let first = subject.ask(world)?;
        subject.last.same = first.same.clone();
        subject.accept(first)?;
        Ok(subject)
    }

    /// One step; everything must be what follows from the step before.
    pub fn step(&mut self, world: &World) -> Result<()> {
        let told = self.ask(world)?;
        self.accept(told)
    }

    /// Steps until what grows by itself has grown.
    pub fn lives(&mut self, world: &World) -> Result<()> {
        let before = self.last.grows.clone();
        wait::until_true("what grows by itself", PATIENCE, || {
            self.step(world)?;
            let grown = |(name, value): (&String, &u64)| self.last.grows.get(name) > Some(value);
            Ok(before.iter().all(grown))
        })
    }

    fn accept(&mut self, told: Told) -> Result<()> {
        let last = &self.last;
        let count = last.count.wrapping_add(1);
        let chain = last.chain.wrapping_mul(1_664_525);
        let chain = chain.wrapping_add(count).wrapping_add(1_013_904_223);
        let differs = |what: &str| format!("{what}: it told {told:?} after {last:?}");
        ensure!(
            (told.count, told.chain) == (count, chain),
            differs("memory")
        );
        let strays = told.counts.values().any(|found| *found != count);
        ensure!(!strays, differs("counts"));
        ensure!(told.same == last.same, differs("what never changes"));
        for (name, value) in &last.grows {
            ensure!(told.grows.get(name) >= Some(value), differs(name));
        }
        self.last = told;
        Ok(())
    }

    /// As a visitor, on a new TLS connection.
    fn ask(&self, world: &World) -> Result<Told> {
        let host = &self.host;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::talk(&mut raw::connect_tls(world, host)?, request.as_bytes())?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            bail!("no whole answer: {answer:?}");
        };
        ensure!(raw::status(&answer) == Some(200), "{head}\n{body}");
        let told: Told = serde_json::from_str(body).with_context(|| format!("{body:?}"))?;
        ensure!(!told.same.is_empty(), "it tells nothing: {body}");
        Ok(told)
    }
}
