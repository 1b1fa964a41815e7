//! The command line.

use clap::{Parser, ValueEnum};
use fleeks_tests::Runtime;

/// What the platform costs, measured on a real `fleeks up`.
#[derive(Debug, Parser)]
#[command(name = "fleeks-bench", max_term_width = 100)]
pub struct Options {
    /// What to measure, and on which runtime [default: all that takes little time, on both]
    words: Vec<Word>,
    /// Of the crowd: how many clients
    #[arg(long, default_value_t = 50)]
    pub clients: usize,
    /// Of the sleep measurement: times that each process sleeps and wakes in each way
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Of the stampede: sleepers that are woken at the same moment
    #[arg(long, default_value_t = 30)]
    pub sleepers: usize,
    /// Of the pool: warm containers [default: 1000 on runc, as many as there is room for on runsc]
    #[arg(long)]
    pub warm: Option<u32>,
    /// Of the cycles: how many on each runtime
    #[arg(long, default_value_t = 3000)]
    pub cycles: usize,
    /// Of the cycles: the longest that they may take on one runtime; fewer are reported then
    #[arg(long, default_value_t = 120)]
    pub minutes: u64,
    /// Of the cycles: workspaces that are cycled at the same time
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Of the templates: only these; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub template: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Containers, API calls, previews, memory
    Basics,
    /// Requests a second and times of the hot calls of the API with fifty clients
    Crowd,
    /// Freeze, thaw, hibernate, wake, first byte from each state
    Sleep,
    /// 500 requests at one sleeper, and many sleepers woken at once
    Stampede,
    /// A thousand warm containers: fill, cost, bursts of claims, adoption, end; takes minutes
    Pool,
    /// Thousands of sleeps and wakes of mixed workloads; takes an hour
    Cycles,
    /// Each template from the claim to its first answer; installs them first, takes minutes
    Templates,
    /// The article: code to production URL, and its own script
    Article,
    /// On runc only
    Runc,
    /// On gVisor only
    Runsc,
}

/// One set of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Basics,
    Crowd,
    Sleep,
    Stampede,
    Pool,
    Cycles,
    Templates,
    Article,
}

impl What {
    /// In the order in which they run by default.
    const USUAL: [Self; 3] = [Self::Basics, Self::Sleep, Self::Stampede];

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basics => "basics",
            Self::Crowd => "crowd",
            Self::Sleep => "sleep",
            Self::Stampede => "stampede",
            Self::Pool => "pool",
            Self::Cycles => "cycles",
            Self::Templates => "templates",
            Self::Article => "article",
        }
    }
}

impl Options {
    /// What was asked for.
    pub fn what(&self) -> Vec<What> {
        let named: Vec<What> = self.words.iter().filter_map(|word| word.what()).collect();
        if named.is_empty() {
            What::USUAL.to_vec()
        } else {
            named
        }
    }

    /// The runtimes, runc first.
    pub fn runtimes(&self) -> Vec<Runtime> {
        let (runc, runsc) = (
            self.words.contains(&Word::Runc),
            self.words.contains(&Word::Runsc),
        );
        [(Runtime::Runc, runc), (Runtime::Runsc, runsc)]
            .into_iter()
            .filter(|(_, named)| *named || runc == runsc)
            .map(|(runtime, _)| runtime)
            .collect()
    }

    /// For the file of figures: that of a usual run is not overwritten by another.
    pub fn name(&self) -> String {
        let what = self.what();
        if what == What::USUAL {
            return "fleeks".to_owned();
        }
        let names: Vec<&str> = what.into_iter().map(What::name).collect();
        names.join("-")
    }
}

impl Word {
    fn what(self) -> Option<What> {
        match self {
            Self::Basics => Some(What::Basics),
            Self::Crowd => Some(What::Crowd),
            Self::Sleep => Some(What::Sleep),
            Self::Stampede => Some(What::Stampede),
            Self::Pool => Some(What::Pool),
            Self::Cycles => Some(What::Cycles),
            Self::Templates => Some(What::Templates),
            Self::Article => Some(What::Article),
            Self::Runc | Self::Runsc => None,
        }
    }
}
