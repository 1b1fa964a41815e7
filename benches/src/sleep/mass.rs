//! A workspace whose process has so much in memory, and remembers who it is.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::{Workspace, World, raw};
use serde_json::Value;

pub const MIB: u64 = 1 << 20;
const APP: &str = include_str!("../../apps/mass.py");
const PORT: u16 = 5000;

pub struct Mass {
    pub workspace: Workspace,
    /// Of its preview.
    pub host: String,
    id: String,
    known: Mutex<Known>,
}

/// What the process said of itself last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    pid: u64,
    secret: String,
    count: u64,
    memory: String,
}

impl Mass {
    /// Starts it and waits until it listens.
    pub fn start(world: &World, mib: u64) -> Result<Self> {
        let workspace = world.workspace("python")?;
        workspace.write("mass.py", APP)?;
        workspace.background(&format!("exec python3 -S -E mass.py {mib} {PORT}"))?;
        workspace.wait_for_port(PORT)?;
        let (host, id) = (workspace.host()?, snapshot_name(world, &workspace)?);
        let mass = Self {
            workspace,
            host,
            id,
            known: Mutex::default(),
        };
        let first = mass.say(world, "/check")?;
        let resident = first.resident;
        // What the interpreter alone takes may be more than the smallest size.
        let least = mib.saturating_sub(2) * MIB;
        ensure!(resident >= least, "only {resident} bytes are resident");
        *mass.known() = first.known;
        Ok(mass)
    }

    /// A lifecycle call of its owner.
    pub fn order(&self, verb: &str) -> Result<()> {
        let container = &self.workspace.container;
        let path = format!("/api/v1/sdk/containers/{container}/{verb}");
        let answer = self.workspace.api().call("POST", &path, &[])?;
        let answer = answer.ok().with_context(|| verb.to_owned())?;
        ensure!(answer["woken"] != "volume", "its memory is lost: {answer}");
        Ok(())
    }

    /// A visitor's request on a new TLS connection; the same process must answer it.
    pub fn visit(&self, world: &World) -> Result<()> {
        let heard = self.say(world, "/")?.known;
        let mut known = self.known();
        let expected = Known {
            count: known.count + 1,
            memory: String::new(),
            ..known.clone()
        };
        ensure!(heard == expected, "it is {heard:?}, and was {known:?}");
        known.count = heard.count;
        Ok(())
    }

    /// All of its memory must be what it was.
    pub fn check(&self, world: &World) -> Result<()> {
        let heard = self.say(world, "/check")?.known;
        let mut known = self.known();
        known.count += 1;
        ensure!(heard == *known, "it is {heard:?}, and was {known:?}");
        Ok(())
    }

    /// The same, after visits that nobody counted.
    pub fn check_lenient(&self, world: &World) -> Result<()> {
        let heard = self.say(world, "/check")?.known;
        let mut known = self.known();
        ensure!(
            heard.count > known.count,
            "it is {heard:?}, and was {known:?}"
        );
        known.count = heard.count;
        ensure!(heard == *known, "it is {heard:?}, and was {known:?}");
        Ok(())
    }

    /// Which of its containers runs, or ran last.
    pub fn generation(&self) -> Result<u64> {
        let path = format!(
            "/api/v1/sdk/containers/{}/lifecycle",
            self.workspace.container
        );
        let told = self.workspace.api().get(&path)?.ok()?;
        told["generation"].as_u64().context("no generation")
    }

    /// What a visitor gets.
    pub fn ask(&self, world: &World, path: &str) -> Result<String> {
        let host = &self.host;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw::talk(&mut raw::connect_tls(world, host)?, request.as_bytes())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whoever died while it held this has nothing half-changed in it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, world: &World, path: &str) -> Result<Said> {
        let answer = self.ask(world, path)?;
        ensure!(raw::status(&answer) == Some(200), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        Said::parse(body).with_context(|| format!("it said {body:?}"))
    }

    /// What its snapshots take on disk now.
    pub fn snapshot_bytes(&self, world: &World) -> u64 {
        bytes_below(&world.data_dir().join("snapshots").join(&self.id))
    }
}

struct Said {
    known: Known,
    resident: u64,
}

impl Said {
    fn parse(body: &str) -> Option<Self> {
        let mut words = body.split(' ');
        let pid = words.next()?.parse().ok()?;
        let secret = words.next()?.to_owned();
        let count = words.next()?.parse().ok()?;
        let memory = words.next().unwrap_or_default().to_owned();
        let resident = words.next().map_or(Some(0), |word| word.parse().ok())?;
        let known = Known {
            pid,
            secret,
            count,
            memory,
        };
        Some(Self { known, resident })
    }
}

/// The id that the API does not tell: of the record that names its container.
fn snapshot_name(world: &World, workspace: &Workspace) -> Result<String> {
    for entry in fs::read_dir(world.data_dir().join("volumes"))? {
        let entry = entry?;
        let Ok(text) = fs::read(entry.path().join("workspace.json")) else {
            continue;
        };
        let record: Value = serde_json::from_slice(&text)?;
        if record.to_string().contains(&workspace.container) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no record names {}", workspace.container)
}

/// Blocks that files take, holes not counted.
pub fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
