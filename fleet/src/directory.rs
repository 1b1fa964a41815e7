//! Coordination: who runs what, and who wakes whom. One machine uses [`local::LocalDirectory`];
//! many will use Redis. Both must pass the one conformance suite.
//!
//! *Unknown*, *absent* and *unavailable* are kept apart: an unreachable directory is an error,
//! never 'no such workspace'.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod local;

use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use crate::id::{
    ContainerId, Generation, NodeId, OwnerId, ProjectId, Slug, TemplateName, WorkspaceId,
};
use crate::lifecycle::State;
use crate::record::Private;

/// What the directory knows of a workspace. Rebuilt from records at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the vocabulary's words")]
pub struct Row {
    pub workspace: WorkspaceId,
    pub owner: OwnerId,
    pub project: ProjectId,
    pub slug: Slug,
    pub container: ContainerId,
    pub template: TemplateName,
    /// Runs it now, or ran it last.
    pub node: NodeId,
    pub state: State,
    pub generation: Generation,
    /// Whether a request may wake it.
    pub auto_wake: bool,
    /// Who may see it; none: everybody.
    pub private: Option<Arc<Private>>,
    pub created_at: OffsetDateTime,
}

/// Where a slug leads: the cacheable part of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the vocabulary's words")]
pub struct Route {
    pub workspace: WorkspaceId,
    pub node: NodeId,
    pub state: State,
    pub generation: Generation,
    pub auto_wake: bool,
    pub private: Option<Arc<Private>>,
}

impl From<&Row> for Route {
    fn from(row: &Row) -> Self {
        Self {
            workspace: row.workspace.clone(),
            node: row.node.clone(),
            state: row.state,
            generation: row.generation,
            auto_wake: row.auto_wake,
            private: row.private.clone(),
        }
    }
}

/// Something about a workspace changed; `None` when it is gone for good.
#[derive(Debug, Clone)]
pub struct Change {
    /// The slug whose route changed.
    pub slug: Slug,
    /// The new route.
    pub route: Option<Route>,
}

/// Why a workspace is being woken; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named by what asks")]
pub enum WakeCause {
    Preview,
    Api,
    /// A file is written.
    Write,
    /// Get-or-create.
    Create,
    /// Its owner said so; also where `auto_wake` is off.
    Lifecycle,
}

/// What [`Directory::begin_wake`] found or began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WakeBegun {
    /// It runs: go there.
    Ready(Route),
    /// It is on its way (by this call or an earlier one); wait for a [`Change`] or poll.
    Underway(Route),
    /// Its last start failed; try again after its back-off. The text is safe to show.
    Failed(String),
}

/// Why the directory did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be asked now. Says nothing about what exists; retryable.
    #[error("the directory is unavailable: {0}")]
    Unavailable(String),
    /// Certainly no such workspace.
    #[error("no such workspace")]
    Absent,
    /// The name is taken, by the workspace given.
    #[error("taken by {0}")]
    Taken(WorkspaceId),
    /// A newer generation exists, or the state moved on: the caller lost its right to act.
    #[error("superseded: generation {current} is {state:?}")]
    Superseded {
        /// The highest generation known.
        current: Generation,
        /// Its state.
        state: State,
    },
}

/// See the module.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Adds a workspace; at most one per (owner, project), per slug and per id.
    ///
    /// # Errors
    /// `Taken` with the workspace that has the name; `Unavailable`.
    async fn insert(&self, row: Row) -> Result<(), DirectoryError>;

    /// Where a slug leads. `Ok(None)`: certainly nowhere.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn route(&self, slug: &Slug) -> Result<Option<Route>, DirectoryError>;

    /// The row of a workspace. `Ok(None)`: certainly none.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn row(&self, workspace: &WorkspaceId) -> Result<Option<Row>, DirectoryError>;

    /// An owner's workspace by its project id. `Ok(None)`: certainly none.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn find(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
    ) -> Result<Option<Row>, DirectoryError>;

    /// An owner's workspaces, oldest first (ties by id).
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(&self, owner: &OwnerId) -> Result<Vec<Row>, DirectoryError>;

    /// Makes sure that a workspace is on its way to running: DESIGN §5 *Wake*. Running → `Ready`;
    /// Starting, Waking → joins; Stopped → `Starting`, Hibernated → `Waking`, generation + 1, and
    /// its node is told; Freezing, Frozen, Hibernating → its node is told to thaw it, and the row
    /// is work until it runs or is asleep. Atomic; any number of callers begin one wake.
    ///
    /// # Errors
    /// `Absent`, `Unavailable`.
    async fn begin_wake(
        &self,
        workspace: &WorkspaceId,
        cause: WakeCause,
    ) -> Result<WakeBegun, DirectoryError>;

    /// The node reports a change of a workspace that it runs, fenced: refused unless `generation`
    /// is the row's (or, for rebuilding after a restart, higher). `Starting` and `Waking` are
    /// entered with a higher generation only. Leaving them for anything but `Running` is a failed
    /// start: [`Directory::begin_wake`] then answers `Failed` until the back-off is over.
    /// `Deleted` is final: the route and the name are gone at once, the row with `remove`.
    ///
    /// # Errors
    /// `Superseded`: the caller must stop acting for this workspace; `Absent`; `Unavailable`.
    async fn report(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
        state: State,
    ) -> Result<(), DirectoryError>;

    /// Sets whether requests wake it.
    ///
    /// # Errors
    /// `Absent`, `Unavailable`.
    async fn set_auto_wake(
        &self,
        workspace: &WorkspaceId,
        auto_wake: bool,
    ) -> Result<(), DirectoryError>;

    /// Sets who may see it; none: everybody.
    ///
    /// # Errors
    /// `Absent`, `Unavailable`.
    async fn set_private(
        &self,
        workspace: &WorkspaceId,
        private: Option<Arc<Private>>,
    ) -> Result<(), DirectoryError>;

    /// Forgets a deleted workspace; its slug is never given out again because slugs are random.
    ///
    /// # Errors
    /// `Unavailable`. Removing what is not there is fine.
    async fn remove(&self, workspace: &WorkspaceId) -> Result<(), DirectoryError>;

    /// Rows that this node has to act on: in `Starting` or `Waking`, or to be thawed.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn work(&self, node: &NodeId) -> Result<Vec<Row>, DirectoryError>;

    /// Every change from now on. Lossy: a receiver that lags must re-read. The node uses it as
    /// its nudge, gateways to keep cached routes fresh.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
