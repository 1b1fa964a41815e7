//! Committed checkpoints: images, and a manifest that says of what.
//!
//! ```text
//! DATA/snapshots/<ws_id>/<generation>/          complete: made by a rename
//!     manifest.json
//!     images/                                   the runtime's
//! DATA/snapshots/<ws_id>/<generation>.draft/    being written, or left by a crash
//! DATA/snapshots/<ws_id>/<generation>.damaged/  kept aside
//! ```
//!
//! Must never happen here: a complete snapshot replaced or changed, or an older one handed out
//! instead of a damaged newer one.

mod layout;
mod machine;
mod manifest;
mod room;
mod store;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use fleet::id::{ContainerId, Generation, WorkspaceId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::runtime::{ContainerSpec, Runtime, RuntimeError, RuntimeKind};
use crate::volume::Mark;
pub use store::{Draft, SnapshotStore, Tally};

/// Who can read images. Equal, or it is not tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Which runtime wrote them.
    pub runtime: RuntimeKind,
    /// See [`crate::runtime::SleepTraits::version`].
    pub version: String,
    /// Processes found out about the CPU when they started: a digest of its features.
    pub cpu_features: String,
    /// See [`Runtime::layout`].
    pub layout: String,
}

impl Reader {
    /// This machine and runtime, for one container.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn of(runtime: &dyn Runtime, spec: &ContainerSpec) -> Result<Self, RuntimeError> {
        Ok(Self {
            runtime: runtime.kind(),
            version: runtime.sleep().version,
            cpu_features: machine::cpu_features(),
            layout: runtime.layout(spec)?,
        })
    }
}

/// What the driver knows about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct About {
    pub container: ContainerId,
    pub template: String,
    pub address: Ipv4Addr,
    pub reader: Reader,
    /// Whether connections are in the images; otherwise visitors reconnect after the wake.
    pub connections_kept: bool,
    /// When its processes stood still: what is in the volume now and was changed later, they do
    /// not know of.
    #[serde(default)]
    pub volume: Option<Mark>,
}

/// One file of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct ImageFile {
    pub name: String,
    pub size: u64,
    /// Finds what a disk or a person did to it; not what a forger did.
    pub crc32: u32,
}

/// What is written beside the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct Manifest {
    pub workspace: WorkspaceId,
    pub generation: Generation,
    #[serde(flatten)]
    pub about: About,
    pub files: Vec<ImageFile>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The machine's monotonic clock then. Processes of runc compare it with what they remember,
    /// and must never see it go back.
    pub clock_ms: u64,
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct Snapshot {
    pub manifest: Manifest,
    pub directory: PathBuf,
}

impl Snapshot {
    /// For [`Runtime::restore`].
    pub fn images_dir(&self) -> PathBuf {
        self.directory.join(store::IMAGES)
    }

    /// What it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }
}

impl Manifest {
    /// What its images take on disk.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Incomplete or changed; it is kept aside.
    #[error("the snapshot of generation {generation} is damaged: {reason}")]
    Damaged {
        /// Which.
        generation: Generation,
        /// What is wrong with it.
        reason: String,
    },
    /// Whole, but not for this machine, runtime or layout.
    #[error("the snapshot of generation {generation} cannot be read here: {reason}")]
    Foreign {
        /// Which.
        generation: Generation,
        /// What differs.
        reason: String,
    },
    /// A snapshot of that generation is there already.
    #[error("there is a snapshot of generation {0} already")]
    Exists(Generation),
    /// All of them together would take more than they may.
    #[error(
        "the platform's snapshots take {} MiB, of at most {} MiB: the workspace stays in memory",
        .used >> 20, .most >> 20
    )]
    Bound {
        /// By those that there are.
        used: u64,
        /// What they may take.
        most: u64,
    },
    /// The disk has no room for it.
    #[error("the disk that keeps snapshots is full: the workspace stays in memory")]
    Full,
    /// A file could not be written or read.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SnapshotError {
    fn io(context: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { context, source }
    }
}

#[cfg(test)]
mod tests;
