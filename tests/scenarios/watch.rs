//! The time that stories take: said while one is long, added up at the end, and bounded.
//!
//! A story that hangs must not take the others' results with it, nor stay without a name.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From here on a story is said to be long, and again after each such time.
const LONG: Duration = Duration::from_secs(60);

/// No story of every day takes as long on two cores; one that does hangs.
const HANGS: Duration = Duration::from_secs(360);

/// So many of the longest are shown at the end.
const SHOWN: usize = 25;

/// What runs since when, and what took how long.
#[derive(Default)]
struct Times {
    running: BTreeMap<String, Instant>,
    ended: Vec<(String, Duration)>,
    /// Shown here only if a story hangs: then nobody else will.
    failures: Vec<String>,
}

/// The clock beside all stories. Clones share it.
#[derive(Clone)]
pub struct Watch {
    times: Arc<Mutex<Times>>,
}

impl Watch {
    /// Starts the thread that tells of long stories. When soaking, none is too long.
    pub fn start() -> Self {
        let watch = Watch {
            times: Arc::default(),
        };
        let soaking = std::env::var_os("FLEEKS_SOAK").is_some();
        let times = Arc::downgrade(&watch.times);
        std::thread::spawn(move || {
            let mut said = 0;
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                let Some(times) = times.upgrade() else { return };
                let times = times.lock().unwrap_or_else(PoisonError::into_inner);
                let longest = times.running.values().map(Instant::elapsed).max();
                let periods = longest.unwrap_or_default().as_secs() / LONG.as_secs();
                if periods > said {
                    times.say_running();
                }
                said = periods;
                if !soaking && longest.is_some_and(|longest| longest > HANGS) {
                    say("a story hangs: given up, with all that still run or wait");
                    times.failures.iter().for_each(|failure| say(failure));
                    times.say_ended();
                    std::process::exit(2);
                }
            }
        });
        watch
    }

    /// The story runs as long as the guard lives.
    pub fn begin(&self, name: String) -> Running {
        self.locked().running.insert(name.clone(), Instant::now());
        Running {
            watch: self.clone(),
            name,
        }
    }

    /// Shows the longest.
    pub fn conclude(&self) {
        self.locked().say_ended();
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A story that runs; the end of the guard is its end.
pub struct Running {
    watch: Watch,
    name: String,
}

impl Running {
    /// It will end badly.
    pub fn failed(&self, why: &str) {
        let failure = format!("{} failed: {why}", self.name);
        self.watch.locked().failures.push(failure);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut times = self.watch.locked();
        if let Some((name, begun)) = times.running.remove_entry(&self.name) {
            times.ended.push((name, begun.elapsed()));
        }
    }
}

impl Times {
    fn say_running(&self) {
        for (name, begun) in &self.running {
            if begun.elapsed() >= LONG {
                say(&format!("{name} runs for {} s", begun.elapsed().as_secs()));
            }
        }
    }

    fn say_ended(&self) {
        let mut ended = self.ended.clone();
        ended.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let sum: Duration = ended.iter().map(|(_, took)| *took).sum();
        say(&format!(
            "{} stories, {} s one after another; the longest:",
            ended.len(),
            sum.as_secs()
        ));
        for (name, took) in ended.iter().take(SHOWN) {
            say(&format!("{:>6.1} s  {name}", took.as_secs_f64()));
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
