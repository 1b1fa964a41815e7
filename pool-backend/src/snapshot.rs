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

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use fleet::id::{ContainerId, Generation, WorkspaceId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::runtime::{ContainerSpec, Runtime, RuntimeError, RuntimeKind};

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
            cpu_features: String::new(),
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
}

/// One file of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct ImageFile {
    pub name: String,
    pub size: u64,
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
        self.directory.join("images")
    }

    /// What it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
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
    /// A file could not be written or read.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// All snapshots of a data dir.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    root: PathBuf,
}

/// A snapshot being made. Dropped without commit, it is removed.
#[derive(Debug)]
pub struct Draft {
    directory: PathBuf,
}

impl SnapshotStore {
    /// The store under `DATA/snapshots`, which is made.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("snapshots");
        std::fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// A place for the images of a checkpoint. What a crash left of an earlier attempt goes.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`], [`SnapshotError::Io`].
    pub async fn begin(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
    ) -> Result<Draft, SnapshotError> {
        let _ = generation;
        Ok(Draft {
            directory: self.root.join(workspace.as_str()),
        })
    }

    /// The snapshot of the highest generation, if `reader` can read it. Looks at the manifest and
    /// the files' sizes; that the images themselves are good only the restore tells.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub async fn latest(
        &self,
        workspace: &WorkspaceId,
        reader: &Reader,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let _ = (workspace, reader);
        Ok(None)
    }

    /// The highest generation of which a complete snapshot is there, readable or not: for
    /// adoption.
    pub async fn highest(&self, workspace: &WorkspaceId) -> Option<Generation> {
        let _ = workspace;
        None
    }

    /// Puts a snapshot aside that a restore showed to be bad.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn put_aside(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let _ = snapshot;
        Ok(())
    }

    /// Removes everything of a workspace below `below`, damaged ones and drafts included.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn prune(
        &self,
        workspace: &WorkspaceId,
        below: Generation,
    ) -> Result<(), SnapshotError> {
        let _ = (workspace, below);
        Ok(())
    }

    /// Removes everything of a workspace. Idempotent.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn remove_all(&self, workspace: &WorkspaceId) -> Result<(), SnapshotError> {
        let _ = workspace;
        Ok(())
    }

    /// Removes drafts that a crash left and snapshots of workspaces that `known` denies. At start.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn sweep(
        &self,
        known: impl Fn(&WorkspaceId) -> bool + Send,
    ) -> Result<(), SnapshotError> {
        drop(known);
        Ok(())
    }

    /// What all of them take on disk. Costs a walk.
    pub async fn total_bytes(&self) -> u64 {
        0
    }
}

impl Draft {
    /// Empty, for [`Runtime::checkpoint`].
    pub fn images_dir(&self) -> PathBuf {
        self.directory.join("images")
    }

    /// Makes it durable and complete, in one step as far as others can see.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is left then.
    pub async fn commit(self, about: About) -> Result<Snapshot, SnapshotError> {
        let _ = about;
        Err(SnapshotError::Io {
            context: "commit a snapshot",
            source: io::ErrorKind::Unsupported.into(),
        })
    }
}
