//! How stories are told: names, runtimes, the shared platforms and their end.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use fleeks_tests::world::{Runtime, World};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::watch::Watch;

const ALL: [Runtime; 2] = [Runtime::Runc, Runtime::Runsc];

/// One story, before it is told on each runtime.
pub struct Story {
    name: &'static str,
    plot: Plot,
    /// The runtimes on which it is told every day; on others, and nowhere if empty, when soaking.
    everyday: &'static [Runtime],
    /// The runtimes that do what it tells of.
    on: &'static [Runtime],
}

#[derive(Clone, Copy)]
enum Plot {
    /// On the platform that all calm stories of a runtime share.
    Calm(fn(&World) -> Result<()>),
    /// On platforms of its own.
    Own(fn(Runtime) -> Result<()>),
}

/// A story that leaves the platform as it was.
pub fn calm(name: &'static str, story: fn(&World) -> Result<()>) -> Story {
    Story {
        name,
        plot: Plot::Calm(story),
        everyday: &ALL,
        on: &ALL,
    }
}

/// A story that kills or measures its platform.
pub fn own(name: &'static str, story: fn(Runtime) -> Result<()>) -> Story {
    Story {
        name,
        plot: Plot::Own(story),
        everyday: &ALL,
        on: &ALL,
    }
}

impl Story {
    /// Too long for every day.
    pub fn soak(mut self) -> Self {
        self.everyday = &[];
        self
    }

    /// What only these do.
    pub fn only(mut self, runtimes: &'static [Runtime]) -> Self {
        self.on = runtimes;
        self
    }

    /// Enough on these every day.
    pub fn everyday(mut self, runtimes: &'static [Runtime]) -> Self {
        self.everyday = runtimes;
        self
    }
}

/// Tells them all, then ends the shared platforms as an operator would.
pub fn tell(arguments: &Arguments, stories: Vec<Story>) -> ExitCode {
    let mut trials = Vec::new();
    let mut stages = Vec::new();
    let watch = Watch::start();
    for runtime in runtimes() {
        let stage = Arc::new(Stage {
            runtime,
            world: Mutex::new(None),
        });
        stages.push(stage.clone());
        for story in stories.iter().filter(|story| story.on.contains(&runtime)) {
            let name = format!("{}::{}", runtime.name(), story.name);
            let (plot, stage) = (story.plot, stage.clone());
            let (watch, told_as) = (watch.clone(), name.clone());
            let trial = Trial::test(name, move || {
                let running = watch.begin(told_as);
                stage.tell(plot).map_err(|error| {
                    let why = told(&error);
                    running.failed(&why);
                    Failed::from(why)
                })
            });
            trials.push(trial.with_ignored_flag(!story.everyday.contains(&runtime)));
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    watch.conclude();
    let mut clean = true;
    for stage in stages {
        if let Err(error) = stage.close() {
            clean = false;
            let _ = writeln!(
                std::io::stderr(),
                "the {} platform did not end well: {}",
                stage.runtime.name(),
                told(&error)
            );
        }
    }
    match clean {
        true => conclusion.exit_code(),
        false => ExitCode::FAILURE,
    }
}

/// An error and its causes, outermost first, without the backtrace.
fn told(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join("\n  because: ")
}

fn runtimes() -> Vec<Runtime> {
    let wanted = std::env::var("FLEEKS_RUNTIMES").unwrap_or_default();
    ALL.into_iter()
        .filter(|runtime| wanted.is_empty() || wanted.split(',').any(|name| name == runtime.name()))
        .collect()
}

/// A runtime's shared platform: opened by the first story that needs it.
struct Stage {
    runtime: Runtime,
    world: Mutex<Option<Result<Arc<World>, String>>>,
}

impl Stage {
    fn tell(&self, plot: Plot) -> Result<()> {
        match plot {
            Plot::Own(story) => story(self.runtime),
            Plot::Calm(story) => {
                let world = self.world()?;
                story(&world).map_err(|error| {
                    error.context(format!("the platform's log ends:\n{}\n", world.log_tail()))
                })
            }
        }
    }

    fn world(&self) -> Result<Arc<World>> {
        let mut slot = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = slot.get_or_insert_with(|| {
            World::open(self.runtime)
                .map(Arc::new)
                .map_err(|error| told(&error))
        });
        opened
            .clone()
            .map_err(|error| anyhow!("the shared platform did not open: {error}"))
    }

    fn close(&self) -> Result<()> {
        let taken = self
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match taken {
            Some(Ok(world)) => match Arc::try_unwrap(world) {
                Ok(world) => world.stop(),
                Err(_) => Err(anyhow!("a story still holds the platform")),
            },
            _ => Ok(()),
        }
    }
}
