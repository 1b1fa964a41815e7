//! An app that counts, and whether its numbers are right: none lost, none twice, no process that
//! writes after its successor did.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::curl::{Answer, Curl, Version};
use crate::workspace::Workspace;
use crate::world::World;

/// See `tests/apps/tally.py`.
const APP: &str = include_str!("../apps/tally.py");
const PORT: u16 = 5000;

/// The app in one workspace.
pub struct Tally {
    url: String,
    log: PathBuf,
    seen: HashSet<(String, u64)>,
}

/// What the app answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which process.
    pub boot: String,
    /// Of the request.
    pub number: u64,
}

/// A request that is being answered.
pub struct Visit(JoinHandle<Result<Answer>>);

impl Tally {
    /// Writes the app into a workspace and starts it.
    pub fn begin(world: &World, workspace: &Workspace) -> Result<Self> {
        workspace.write("tally.py", APP)?;
        let tally = Self {
            url: workspace.preview_url()?,
            log: volume(world, workspace)?.join("data/tally.log"),
            seen: HashSet::new(),
        };
        Self::start(workspace)?;
        Ok(tally)
    }

    /// Starts the app anew, where its process is gone.
    pub fn start(workspace: &Workspace) -> Result<()> {
        workspace.background(&format!("exec python tally.py {PORT}"))?;
        workspace.wait_for_port(PORT)
    }

    /// Sends a request, and does not wait for the answer.
    pub fn send(&self, world: &World) -> Result<Visit> {
        let curl = Curl::new(world, Version::H1, &self.url)?;
        Ok(Visit(std::thread::spawn(move || curl.send())))
    }

    /// Takes an answer's number, which must be nobody else's.
    pub fn take(&mut self, answer: &Answer) -> Result<Said> {
        let body = answer.json()?;
        let said = Said {
            boot: body["boot"].as_str().context("no boot")?.to_owned(),
            number: body["number"].as_u64().context("no number")?,
        };
        let new = self.seen.insert((said.boot.clone(), said.number));
        ensure!(new, "{said:?} was answered twice");
        Ok(said)
    }

    /// A request, which must be answered with 200.
    pub fn ask(&mut self, world: &World) -> Result<Said> {
        let answer = self.send(world)?.answer()?;
        self.take(&answer)
    }

    /// Checks all that was written down: each process's numbers one after the other, and nothing
    /// of a process after its successor's first. How many lines there are.
    pub fn check_log(&self) -> Result<usize> {
        let text = fs::read_to_string(&self.log).context("read the log")?;
        let mut ended = HashSet::new();
        let mut last: Option<(&str, u64)> = None;
        for (line, words) in text.lines().enumerate() {
            let (boot, number) = words
                .split_once(' ')
                .and_then(|(boot, number)| Some((boot, number.parse::<u64>().ok()?)))
                .with_context(|| format!("line {line} is {words:?}"))?;
            let expected = match last {
                Some((before, number)) if before == boot => number + 1,
                Some((before, _)) => {
                    ended.insert(before);
                    1
                }
                None => 1,
            };
            ensure!(
                !ended.contains(boot),
                "line {line}: {boot} writes after its successor"
            );
            ensure!(
                number == expected,
                "line {line}: {boot} writes {number} instead of {expected}: memory and volume do \
                 not belong together"
            );
            last = Some((boot, number));
        }
        Ok(text.lines().count())
    }
}

impl Visit {
    /// Whether the answer is there.
    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the answer; curl's own limit bounds that.
    pub fn answer(self) -> Result<Answer> {
        self.0.join().map_err(|_| anyhow!("curl's thread died"))?
    }
}

/// Where a workspace's things are on this machine.
pub fn volume(world: &World, workspace: &Workspace) -> Result<PathBuf> {
    for entry in fs::read_dir(world.data_dir().join("volumes"))? {
        let path = entry?.path();
        let record = fs::read_to_string(path.join("workspace.json")).unwrap_or_default();
        if record.contains(&workspace.container) {
            return Ok(path);
        }
    }
    Err(anyhow!("{} has no volume", workspace.project))
}
