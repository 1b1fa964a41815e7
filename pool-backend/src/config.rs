//! What the node's engine is told at start. Parsed once by the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fleet::id::TemplateName;

use crate::faults::FailPoints;
pub use crate::pool::room::{BadMemoryShare, MemoryShare};
pub use crate::pool::{BadPoolSize, PoolSize};

/// The engine's section of the configuration.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Data dir; exists, mode 0700, locked by this process.
    pub data_dir: PathBuf,
    /// Which runtime runs containers.
    pub runtime: RuntimeChoice,
    /// Where ops/setup unpacked runsc and CRIU (`…/bin/runsc`, `…/bin/criu`, wrappers).
    pub prefix: PathBuf,
    /// Warm containers per template.
    pub pools: BTreeMap<TemplateName, PoolSize>,
    /// How much of the memory all warm containers together may take.
    pub pool_memory: MemoryShare,
    /// Template files of the operator, added to the built-in ones.
    pub template_dir: Option<PathBuf>,
    /// Bytes of the static PID 1.
    pub init_binary: &'static [u8],
    /// Default limits of a container.
    pub limits: Limits,
    /// Suffix for `__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS`, e.g. `.fleeks.localhost`.
    pub domain: String,
    /// `timing::FREEZE_AFTER`, but for tests.
    pub freeze_after: Duration,
    /// What all snapshots together may take on disk; none: half of the disk.
    pub snapshot_bytes: Option<u64>,
    /// `timing::RECONCILE`, but for tests.
    pub reconcile_every: Duration,
    /// Where it is to fail; nowhere, but for tests.
    pub fail_points: FailPoints,
}

/// `--runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// runsc where it passes its probe, else runc.
    Auto,
    /// runc, with CRIU for sleep.
    Runc,
    /// gVisor.
    Runsc,
}

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, tmpfs included.
    pub memory_bytes: u64,
    /// CPUs, in thousandths.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Open files per process.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            cpu_millis: 2000,
            pids: 512,
            open_files: 4096,
        }
    }
}
