//! Durable truth: small JSON files, written by fsync and rename before anything is acknowledged.
//!
//! ```text
//! DATA/volumes/<ws_id>/workspace.json   WorkspaceRecord (beside its volume `data/`)
//! DATA/records/owners/<own_id>.json     OwnerRecord
//! DATA/records/keys/<key_id>.json       KeyRecord
//! ```
//!
//! Must never happen here: a record changed in place, or an acknowledgement before the rename.

mod removal;
mod showing;
mod store;

pub use showing::{PreviewRecord, Private, ShareLink, Showing, Visibility};
pub use store::{Damaged, RecordError, RecordStore};

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::{
    ContainerId, Generation, KeyId, OwnerId, ProjectId, Slug, TemplateName, WorkspaceId,
};
use crate::lifecycle::State;

/// The durable truth about a workspace, or about a warm container (then without `claim`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// Internal id; also the directory's name.
    pub id: WorkspaceId,
    /// Logical container id.
    pub container: ContainerId,
    /// DNS label.
    pub slug: Slug,
    /// Template it was made from.
    pub template: TemplateName,
    /// The container's address, minted with the container id.
    pub address: Ipv4Addr,
    /// Highest generation ever begun.
    pub generation: Generation,
    /// State as last written; what adoption compares with what really runs.
    pub state: State,
    /// Who has it; none while warm.
    pub claim: Option<Claim>,
    /// The secret with which the node talks to this container's init.
    pub init_token: String,
    /// When the container was first made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the container of this generation started; none while it has none.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// What came back with the last wake; none if it was started, not woken.
    #[serde(default)]
    pub woken: Option<Woken>,
    /// Lifecycle settings of the SDK.
    #[serde(default)]
    pub lifecycle: LifecycleSettings,
    /// When it was used; written now and then, not with each use.
    #[serde(default)]
    pub activity: Option<ActivityRecord>,
    /// What it shows, and to whom.
    #[serde(default)]
    pub showing: Showing,
    /// Deleted: the volume is being removed; finish that on start.
    #[serde(default)]
    pub deleted: bool,
}

/// Without the secret, so that a record may be logged.
impl std::fmt::Debug for WorkspaceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkspaceRecord")
            .field("id", &self.id)
            .field("slug", &self.slug)
            .field("generation", &self.generation)
            .field("state", &self.state)
            .field("claim", &self.claim)
            .field("deleted", &self.deleted)
            .finish_non_exhaustive()
    }
}

/// A workspace's owner and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its owner.
    pub owner: OwnerId,
    /// The owner's name for it.
    pub project: ProjectId,
    /// `db_project_id`: a number unique on this data dir, which some SDK calls want.
    pub number: u32,
    /// When it was created, as its owner sees it.
    #[serde(with = "time::serde::rfc3339")]
    pub claimed_at: OffsetDateTime,
}

/// What `configure_lifecycle` sets (SDK contract §4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleSettings {
    /// Idle minutes before `idle_action`.
    pub idle_timeout_minutes: u32,
    /// Longest uptime in hours; none: unlimited.
    pub max_duration_hours: Option<u32>,
    /// What happens when it was idle long enough.
    pub idle_action: IdleAction,
    /// Whether a request wakes it.
    pub auto_wake: bool,
    /// Whether preview traffic counts as activity.
    pub keep_alive_on_preview: bool,
    /// How often clients mean to send heartbeats.
    pub heartbeat_interval_seconds: u32,
    /// `set_keep_alive`: never idle.
    pub keep_alive: bool,
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self {
            idle_timeout_minutes: 30,
            max_duration_hours: None,
            idle_action: IdleAction::Hibernate,
            auto_wake: true,
            keep_alive_on_preview: true,
            heartbeat_interval_seconds: 300,
            keep_alive: false,
        }
    }
}

/// When a workspace was used, as far as a restart of its node is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityRecord {
    /// Used then, and perhaps later by up to `timing::ACTIVITY_RECORDED`.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
    /// Extended: it is not idle before this.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub extended_to: Option<OffsetDateTime>,
}

/// From what a workspace was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Woken {
    /// Its snapshot: processes, memory and open files are as they were.
    Memory,
    /// Its volume only: the snapshot could not be used.
    Volume,
}

/// What happens to an idle workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleAction {
    /// Its processes end; the volume stays.
    Shutdown,
    /// It sleeps with its processes.
    Hibernate,
    /// Nothing.
    KeepAlive,
}

/// What an owner may have; none: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Workspaces.
    pub workspaces: Option<u32>,
    /// Those that run, or stand still in memory.
    pub running: Option<u32>,
    /// Disk space of all volumes together.
    pub disk_mib: Option<u64>,
}

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Its id.
    pub id: OwnerId,
    /// For people.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What it may have.
    #[serde(default)]
    pub quota: Quota,
}

/// An API key; its secret is stored only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Public name.
    pub id: KeyId,
    /// Whose it is.
    pub owner: OwnerId,
    /// SHA-256 of the whole key text, lower-case hex.
    pub sha256: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Revoked keys stay, so that their use is told from a typing error in logs.
    pub revoked: bool,
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// What may be done with it; none: all that its owner may do.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
    /// How often; none: as its owner's keys are by default.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// When it ends by itself.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at workspaces, files, jobs and previews.
    Read,
    /// Make, change and delete workspaces and files; put to sleep, wake, share.
    Write,
    /// Run commands and apps.
    Exec,
    /// List, make and revoke keys of its owner.
    Keys,
}

/// How often a key may be used: a bucket that fills at `per_second` and holds `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}
