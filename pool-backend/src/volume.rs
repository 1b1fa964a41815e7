//! A workspace's directory on disk: the volume, and what lies beside it.
//!
//! ```text
//! DATA/volumes/<ws_id>/            0700, root's
//!     workspace.json               the record
//!     data/                        /workspace inside
//!     jobs/                        /run/fleeks/jobs inside
//! ```
//!
//! Must never happen here: a link of the user's followed.

use std::path::{Path, PathBuf};

use fleet::id::WorkspaceId;

use crate::runtime::User;
use crate::template::Template;

/// Where a workspace's things are; says nothing about their existence.
#[derive(Debug, Clone)]
pub struct Volume {
    root: PathBuf,
}

/// What a volume takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeUsage {
    /// Disk space; a file with two names counts once.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

#[expect(unused_variables, clippy::todo)]
impl Volume {
    /// The volume of `workspace` under `DATA/volumes`.
    pub fn at(data_dir: &Path, workspace: &WorkspaceId) -> Self {
        Self {
            root: data_dir.join("volumes").join(workspace.as_str()),
        }
    }

    /// `/workspace` inside.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Job logs.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// The record's file.
    pub fn record(&self) -> PathBuf {
        self.root.join("workspace.json")
    }

    /// Makes it, with the template's starter files. Idempotent for a half-made one.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn create(&self, template: &Template, user: User) -> std::io::Result<()> {
        todo!()
    }

    /// Removes everything, record included, in one step as far as others can see. Idempotent.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn delete(&self) -> std::io::Result<()> {
        todo!()
    }

    /// Counts what it takes up. Costs a walk over all of it.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn usage(&self) -> std::io::Result<VolumeUsage> {
        todo!()
    }
}
