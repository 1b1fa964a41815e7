//! Runs one container: the seam between the engine and runc or runsc.
//!
//! Both implementations pass the one conformance suite.
//!
//! Must never happen here: a decision about a workspace, or a container of another instance
//! touched.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use fleet::id::{ContainerId, Generation, InstanceId};

mod bundle;
mod command;
pub(crate) mod inflight;
mod oci_program;
mod probe;
pub mod runc;
pub mod runsc;
mod sleep;
mod stage;

pub(crate) use bundle::seen_by_containers;

use crate::config::{Limits, RuntimeChoice};
use crate::network::Network;

/// Which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// runc.
    Runc,
    /// gVisor.
    Runsc,
}

impl RuntimeKind {
    /// Its word: in logs, on the command line, and as a directory's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }

    /// The one that is not this.
    pub fn other(self) -> Self {
        match self {
            Self::Runc => Self::Runsc,
            Self::Runsc => Self::Runc,
        }
    }
}

/// `<instance>-<container>-<generation>`, all of one length: runsc matches ids by prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OciId(String);

impl OciId {
    /// The id of one generation of a container.
    pub fn new(instance: &InstanceId, container: &ContainerId, generation: Generation) -> Self {
        let container = container.as_str().trim_start_matches("cnt_");
        Self(format!("{instance}-{container}-{:06}", generation.0))
    }

    /// The text given to the runtime.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that `text` is, if it is one of `instance`.
    pub fn of(instance: &InstanceId, text: &str) -> Option<Self> {
        let (container, generation) = Self::parse(instance, text)?;
        let id = Self::new(instance, &container, generation);
        (id.as_str() == text).then_some(id)
    }

    /// The parts, if this is an id of `instance`.
    pub fn parse(instance: &InstanceId, text: &str) -> Option<(ContainerId, Generation)> {
        let rest = text.strip_prefix(instance.as_str())?.strip_prefix('-')?;
        let (container, generation) = rest.split_once('-')?;
        let container = format!("cnt_{container}").parse().ok()?;
        Some((container, Generation(generation.parse().ok()?)))
    }
}

impl std::fmt::Display for OciId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The root file system of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rootfs {
    /// Read-only binds of the host's `/usr` and a made-up `/etc`; nothing else of the host.
    Host,
    /// This directory, read-only.
    Directory(PathBuf),
}

/// Whose processes and files a container's are, as the host counts. 0 by default: it has no
/// capabilities there, and CRIU on a root without `CAP_SYS_RESOURCE` can dump no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "plain")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Where a runtime keeps its things and finds its programs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose containers.
    pub instance: InstanceId,
    /// State, bundles and the made-up root file system go under `runtime/` of it.
    pub data_dir: PathBuf,
    /// Programs of ours: `bin/runsc`, `bin/criu`.
    pub prefix: PathBuf,
    /// For `/etc/resolv.conf` inside: [`crate::network::Network::resolvers`].
    pub resolvers: Vec<Ipv4Addr>,
}

/// All that a runtime needs to start a container.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Its id for the runtime.
    pub id: OciId,
    /// What it sees as `/`.
    pub rootfs: Rootfs,
    /// Read-only binds over it: (on the host, inside).
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The directory at `/workspace`.
    pub volume: PathBuf,
    /// The directory at `/run/fleeks/jobs`, where init writes job logs.
    pub jobs: PathBuf,
    /// The static init on the host, bound read-only.
    pub init: PathBuf,
    /// The container's init token; handed over by file, never argv or environment.
    pub init_token: String,
    /// Path of the prepared network namespace.
    pub netns: PathBuf,
    /// The address in it.
    pub address: Ipv4Addr,
    /// Its host name inside: the slug.
    pub hostname: String,
    /// Added to what every container has ([`crate::oci::environment`]); wins over it.
    pub environment: Vec<(String, String)>,
    /// Who everything inside runs as.
    pub user: User,
    /// Limits.
    pub limits: Limits,
}

/// What the runtime says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Its init is gone; leftovers wait for [`Runtime::remove`].
    Stopped,
    /// Unknown to the runtime.
    Absent,
}

/// What a running container uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "plain")]
pub struct Usage {
    pub memory_bytes: u64,
    pub cpu_micros: u64,
    /// Of that, what the runtime itself took: gVisor's kernel, which is busy with an idle container,
    /// too. What runs inside is the rest.
    pub own_micros: u64,
    /// Processes and threads, as the kernel counts them: gVisor's own, not those inside.
    pub pids: u64,
}

/// Bytes in both directions, as the container sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "plain")]
pub struct Traffic {
    pub received: u64,
    pub sent: u64,
}

/// What a runtime's sleep is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SleepTraits {
    /// Of everything that reads and writes images; only the same one reads them again.
    pub version: String,
    /// Whether established connections outlive sleep.
    pub keeps_connections: bool,
    /// Whether the runtime itself takes CPU time for a container that does nothing.
    pub idles_at_cost: bool,
    /// Why it cannot sleep on this machine at all, if so.
    pub trouble: Option<String>,
}

/// Why a runtime did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program could not be run at all.
    #[error("{program} cannot be run: {reason}")]
    Unusable {
        /// Its path.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// It ran and failed.
    #[error("{action} failed: {output}")]
    Failed {
        /// What it was asked to do.
        action: &'static str,
        /// The end of what it printed.
        output: String,
    },
    /// It took longer than `timing::RUNTIME_COMMAND`.
    #[error("{action} took too long")]
    TimedOut {
        /// What it was asked to do.
        action: &'static str,
    },
    /// A file of ours could not be written or read.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs containers. Every call is bounded by `timing::RUNTIME_COMMAND`. Not cancel safe: the
/// driver awaits each call to its end.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Which one it is.
    fn kind(&self) -> RuntimeKind;

    /// Makes and starts a container; its init may need a moment longer to answer. A failed start
    /// leaves nothing behind. runc ≈ 40 ms, runsc ≈ 150 ms.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError>;

    /// What became of it.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn status(&self, id: &OciId) -> Result<ContainerStatus, RuntimeError>;

    /// All containers of this instance, and all that a killed node left of some: whatever
    /// `remove` would find something to do for.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn list(&self) -> Result<Vec<(OciId, ContainerStatus)>, RuntimeError>;

    /// What it uses, from its cgroup. Costs a few file reads.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn usage(&self, id: &OciId) -> Result<Usage, RuntimeError>;

    /// What it read from and wrote to disks since it started. Costs a file read per process.
    fn disk(&self, id: &OciId) -> Traffic;

    /// Kills everything in it and removes every trace (cgroup, mounts, bundle). Idempotent:
    /// removing what is absent is fine.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn remove(&self, id: &OciId) -> Result<(), RuntimeError>;

    /// Stops all processes where they are. Idempotent.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn pause(&self, id: &OciId) -> Result<(), RuntimeError>;

    /// Lets them go on. Idempotent.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn resume(&self, id: &OciId) -> Result<(), RuntimeError>;

    /// Writes a paused container's processes and memory into `images`, an empty directory made by
    /// the caller. It stays paused, also when this fails, and can be resumed.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn checkpoint(&self, id: &OciId, images: &Path) -> Result<(), RuntimeError>;

    /// Starts `spec` from the images of an earlier generation, in a new netns with the same
    /// address. It runs when this returns. A failed restore leaves nothing behind but the netns,
    /// which must not be used again.
    ///
    /// # Errors
    /// [`RuntimeError`].
    async fn restore(&self, spec: &ContainerSpec, images: &Path) -> Result<(), RuntimeError>;

    /// What its sleep is like.
    fn sleep(&self) -> SleepTraits;

    /// A digest of everything around the processes that must be the same at a restore: mounts,
    /// root, init. Two specs of one workspace differ only by generation.
    ///
    /// # Errors
    /// [`RuntimeError`].
    fn layout(&self, spec: &ContainerSpec) -> Result<String, RuntimeError>;

    /// Removes what all containers of the instance shared, after the last one went.
    fn close(&self);
}

/// The runtime that `choice` means here. `Auto` is runsc if a trivial container really starts
/// and goes there, else runc, with a warning in the log.
///
/// # Errors
/// The chosen runtime does not work.
pub async fn select(
    choice: RuntimeChoice,
    settings: Settings,
    network: &Network,
) -> Result<Arc<dyn Runtime>, RuntimeError> {
    if choice != RuntimeChoice::Runc {
        let scratch = settings.data_dir.join("runtime/probe");
        let runsc = runsc::Runsc::open(settings.clone()).await?;
        match probe::probe(&runsc, &settings.instance, network, &scratch).await {
            Ok(()) => return Ok(Arc::new(runsc)),
            Err(error) if choice == RuntimeChoice::Runsc => return Err(error),
            Err(error) => tracing::warn!(
                %error,
                "runsc does not work here: containers share the host's kernel, run only code \
                 that you trust"
            ),
        }
    }
    let scratch = settings.data_dir.join("runtime/probe");
    let runc = runc::Runc::open(settings.clone()).await?;
    probe::probe(&runc, &settings.instance, network, &scratch).await?;
    Ok(Arc::new(runc))
}
