//! The platform is killed, stopped, or fails at each step of a workspace's sleep and wake: nothing
//! acknowledged is lost, nobody waits for ever, nothing runs twice, nothing is left behind.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fleeks_tests::metrics::Metrics;
use fleeks_tests::tally::{Tally, Visit, volume};
use fleeks_tests::world::Runtime;
use fleeks_tests::{Reply, Workspace, World, wait};
use serde_json::Value;

/// Longer than any waiter may wait.
const DEADLINE: Duration = Duration::from_secs(40);
/// A minute's reconcile comes every two seconds here.
const TIDY: Duration = Duration::from_secs(60);

/// What is being done when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Start,
    Hibernate,
    /// Somebody comes while it falls asleep.
    Thaw,
    Wake,
}

const POINTS: [(&str, Deed); 21] = [
    ("start.recorded", Deed::Start),
    ("start.launched", Deed::Start),
    ("freeze.shut", Deed::Hibernate),
    ("freeze.paused", Deed::Hibernate),
    ("hibernate.frozen", Deed::Hibernate),
    ("hibernate.held", Deed::Hibernate),
    ("hibernate.drafted", Deed::Hibernate),
    ("hibernate.written", Deed::Hibernate),
    ("hibernate.complete", Deed::Hibernate),
    ("hibernate.closed", Deed::Hibernate),
    ("hibernate.recorded", Deed::Hibernate),
    ("hibernate.removed", Deed::Hibernate),
    ("thaw.begun", Deed::Thaw),
    ("thaw.resumed", Deed::Thaw),
    ("wake.recorded", Deed::Wake),
    ("wake.read", Deed::Wake),
    ("wake.networked", Deed::Wake),
    ("wake.restored", Deed::Wake),
    ("wake.resumed", Deed::Wake),
    ("wake.answered", Deed::Wake),
    ("wake.told", Deed::Wake),
];

/// The steps at which most is at stake, killed and stopped.
pub fn the_worst_moments(runtime: Runtime) -> Result<()> {
    let mut stage = Stage::open(runtime)?;
    stage.killed_at("hibernate.written", Deed::Hibernate)?;
    stage.killed_at("hibernate.recorded", Deed::Hibernate)?;
    stage.killed_at("wake.restored", Deed::Wake)?;
    stage.stopped_at("hibernate.complete", Deed::Hibernate, Duration::ZERO)?;
    stage.stopped_at("wake.restored", Deed::Wake, Duration::ZERO)?;
    stage.close()
}

/// Killed at every step.
pub fn killed_at_every_step(runtime: Runtime) -> Result<()> {
    let mut stage = Stage::open(runtime)?;
    for (point, deed) in POINTS {
        stage.killed_at(point, deed)?;
    }
    stage.close()
}

/// Killed at any moment, also in the middle of what a runtime does.
pub fn killed_at_any_moment(runtime: Runtime) -> Result<()> {
    let mut stage = Stage::open(runtime)?;
    for round in 0..40 {
        let deed = [Deed::Hibernate, Deed::Wake][round % 2];
        let acts = stage.act(deed)?;
        let pause = Duration::from_millis(rand::random_range(0..900));
        let since = Instant::now();
        wait::until_true("its moment", DEADLINE, || Ok(since.elapsed() >= pause))?;
        stage.world.kill()?;
        acts.end()?;
        stage.world.start()?;
        let went_on = stage.goes_on(deed);
        let log = || stage.world.log_tail();
        went_on.with_context(|| format!("round {round}, {deed:?}, {pause:?}:\n{}\n", log()))?;
    }
    stage.close()
}

/// Stopped at every step, and continued after a while.
pub fn stopped_at_every_step(runtime: Runtime) -> Result<()> {
    let mut stage = Stage::open(runtime)?;
    for (point, deed) in POINTS {
        // Longer than a restored init is waited for, where that could be taken for its failure.
        let long = matches!(point, "wake.restored" | "wake.resumed");
        stage.stopped_at(point, deed, Duration::from_secs(if long { 12 } else { 2 }))?;
    }
    stage.close()
}

/// Every step that can fail fails.
pub fn failing_at_every_step(runtime: Runtime) -> Result<()> {
    let mut stage = Stage::open(runtime)?;
    for (point, deed) in POINTS {
        stage.failing_at(point, deed)?;
    }
    stage.close()
}

/// A platform with one workspace that counts.
struct Stage {
    world: World,
    workspace: Option<Workspace>,
    tally: Tally,
    /// The process that is to go on.
    boot: String,
    /// Memory that was lost, and said so.
    volumes: u32,
}

impl Stage {
    fn open(runtime: Runtime) -> Result<Self> {
        let mut world = World::builder(runtime).pool("python", 0).open()?;
        world.set("FLEEKS_RECONCILE_SECONDS", "2");
        let workspace = world.workspace("python")?;
        let mut tally = Tally::begin(&world, &workspace)?;
        let boot = tally.ask(&world)?.boot;
        Ok(Self {
            world,
            workspace: Some(workspace),
            tally,
            boot,
            volumes: 0,
        })
    }

    fn close(mut self) -> Result<()> {
        let lines = self.tally.check_log()?;
        ensure!(lines > 10, "only {lines} lines");
        ensure!(self.volumes == 0, "memory was lost {} times", self.volumes);
        drop(self.workspace.take());
        self.world.stop()
    }

    fn workspace(&self) -> Result<&Workspace> {
        self.workspace.as_ref().context("no workspace")
    }

    fn killed_at(&mut self, point: &str, deed: Deed) -> Result<()> {
        self.with(point, "kill", deed, |stage| {
            let acts = stage.act(deed)?;
            stage.world.died(DEADLINE)?;
            acts.end()?;
            stage.world.start()?;
            stage.goes_on(deed)
        })
    }

    fn stopped_at(&mut self, point: &str, deed: Deed, long: Duration) -> Result<()> {
        self.with(point, "stop", deed, |stage| {
            let acts = stage.act(deed)?;
            stage.world.is_stopped(DEADLINE)?;
            let since = Instant::now();
            let late = stage.tally.send(&stage.world)?;
            wait::until_true("the stop to last", DEADLINE, || Ok(since.elapsed() >= long))?;
            stage.world.go_on()?;
            let answered = acts.end()?;
            ensure!(answered, "somebody was not answered");
            let answer = late.answer()?;
            // Its app is to be started again.
            let expected = if deed == Deed::Start { 502 } else { 200 };
            ensure!(
                answer.status == expected || stage.lost_memory()?,
                "who came while it stood still: {answer:?}"
            );
            stage.goes_on(deed)
        })
    }

    fn failing_at(&mut self, point: &str, deed: Deed) -> Result<()> {
        self.with(point, "error", deed, |stage| {
            stage.act(deed)?.end()?;
            let before = stage.volumes;
            stage.goes_on(deed)?;
            // It ran already when its record could not be written.
            if point == "wake.restored" {
                stage.volumes = before;
            }
            Ok(())
        })
    }

    /// Restarts the platform with the fail point, unless it has just come back from one.
    fn with(
        &mut self,
        point: &str,
        action: &str,
        deed: Deed,
        story: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let name = format!("{point}={action}");
        let told = |error: anyhow::Error, world: &World| {
            error.context(format!(
                "{name}; the end of the log:\n{}\n",
                world.log_tail()
            ))
        };
        let mut points = name.clone();
        if deed == Deed::Thaw {
            points = format!("{name} hibernate.held=wait:{}", self.go()?.display());
        }
        self.world.kill()?;
        self.world.set("FLEEKS_FAIL_POINTS", &points);
        self.world.start()?;
        self.world.set("FLEEKS_FAIL_POINTS", "");
        story(self).map_err(|error| told(error, &self.world))
    }

    /// The file for which the hibernation waits.
    fn go(&self) -> Result<PathBuf> {
        Ok(volume(&self.world, self.workspace()?)?.join("go"))
    }

    /// Begins what the fail point is about.
    fn act(&mut self, deed: Deed) -> Result<Acts> {
        let mut acts = Acts::default();
        match deed {
            Deed::Hibernate => acts.call(self.workspace()?, "hibernate"),
            Deed::Wake => {
                self.workspace()?.hibernate()?.ok()?;
                self.tally.check_log()?;
                acts.visits.push(self.tally.send(&self.world)?);
                acts.visits.push(self.tally.send(&self.world)?);
            }
            Deed::Start => acts.call(self.workspace()?, "restart"),
            Deed::Thaw => {
                let go = self.go()?;
                let reached = go.with_extension("reached");
                acts.call(self.workspace()?, "hibernate");
                wait::until_true("the hibernation", DEADLINE, || Ok(reached.exists()))?;
                acts.visits.push(self.tally.send(&self.world)?);
                // What comes before the checkpoint that follows is heard after it at the latest.
                let inside = "fleeks_gateway_requests_in_flight";
                let waits = || Ok(Metrics::of(&self.world)?.get(inside) >= 2.0);
                wait::until_true("a visitor", DEADLINE, waits)?;
                fs::write(&go, "")?;
                fs::remove_file(&reached)?;
            }
        }
        Ok(acts)
    }

    fn lifecycle(&self) -> Result<Value> {
        self.workspace()?.lifecycle()
    }

    /// Whether it was started from its volume because its snapshot was of no use, and says so.
    fn lost_memory(&self) -> Result<bool> {
        Ok(self.lifecycle()?["woken"] == "volume")
    }

    /// The workspace serves again, soon, with the memory that it had, and there is nothing else.
    fn goes_on(&mut self, deed: Deed) -> Result<()> {
        let _ = fs::remove_file(self.go()?);
        let answer = wait::until("an answer", DEADLINE, || {
            let answer = self.tally.send(&self.world)?.answer()?;
            ensure!(answer.status != 503, "{answer:?}");
            Ok(Some(answer))
        })?;
        let restarted = deed == Deed::Start;
        if answer.status == 502 {
            let lost = self.lost_memory()?;
            ensure!(restarted || lost, "memory was lost: {}", self.lifecycle()?);
            self.volumes += u32::from(!restarted);
            Tally::start(self.workspace()?)?;
            self.boot = self.tally.ask(&self.world)?.boot;
        } else {
            let said = self.tally.take(&answer)?;
            ensure!(
                said.boot == self.boot,
                "another process answers: {}",
                self.lifecycle()?
            );
        }
        self.is_tidy()?;
        self.tally.check_log()?;
        Ok(())
    }

    /// One container, and no snapshot of what runs.
    fn is_tidy(&self) -> Result<()> {
        let id = volume(&self.world, self.workspace()?)?;
        let id = id.file_name().context("a name")?;
        let snapshots = self.world.data_dir().join("snapshots").join(id);
        wait::until("only one container to be left", TIDY, || {
            let traces = self.world.traces()?;
            let kept = fs::read_dir(&snapshots).into_iter().flatten().flatten();
            let useful = kept
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.ends_with(".damaged"));
            let useful: Vec<String> = useful.collect();
            let counts = (traces.netns.len(), traces.links.len(), traces.containers());
            if counts != (1, 1, 1) || traces.sleep_commands() > 0 || !useful.is_empty() {
                bail!("snapshots {useful:?}, and\n{traces}");
            }
            Ok(Some(()))
        })
    }
}

/// What goes on while it happens.
#[derive(Default)]
struct Acts {
    call: Option<std::thread::JoinHandle<Result<Reply>>>,
    visits: Vec<Visit>,
}

impl Acts {
    fn call(&mut self, workspace: &Workspace, what: &str) {
        let (api, container) = (workspace.api().clone(), workspace.container.clone());
        let path = format!("/api/v1/sdk/containers/{container}/{what}");
        let call = move || api.call("POST", &path, &[]);
        self.call = Some(std::thread::spawn(call));
    }

    /// Everybody has an answer, or none because the platform died. Whether all have one.
    fn end(self) -> Result<bool> {
        let since = Instant::now();
        let mut answered = true;
        if let Some(call) = self.call {
            answered &= call.join().is_ok_and(|reply| reply.is_ok());
        }
        for visit in self.visits {
            answered &= visit.answer().is_ok();
        }
        ensure!(since.elapsed() < DEADLINE, "somebody waited too long");
        Ok(answered)
    }
}
