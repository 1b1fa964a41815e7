//! What a watch tells, and how a job's output is followed.
//!
//! `Watch` answers `Watching` once every directory that can be is watched, then `Changes` as they
//! come. `Follow` answers with `Data` and `DataErr` frames, `Skipped` where bytes are lost, and in
//! the end `Exited` and `End`. The node ends either with an `End` frame: of a watch, what was
//! queued until then still comes, then init's own `End`.

use serde::{Deserialize, Serialize};

/// Top-level directory that no watch looks into, and that listings leave out: HOME, packages.
pub const HOME: &str = ".home";
/// Directories that one watch covers, those nearest to the root first.
pub const MAX_WATCHED: usize = 8192;
/// Watches at once.
pub const MAX_WATCHES: usize = 2;
/// Changes of one reply.
pub const MAX_CHANGES: usize = 512;

/// Something in `/workspace` is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// Relative to `/workspace`; of a move the new one.
    pub path: String,
    /// Of a move the old path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// It is a directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The node's own write of which this is the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_id: Option<u64>,
}

/// See [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the API's words")]
pub enum ChangeKind {
    Created,
    Modified,
    Deleted,
    Moved,
}

/// Why not everything was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// More happened at once than the kernel queues.
    Queue,
    /// There are more directories than are watched.
    Directories,
}
