//! The directory of one machine: in process. The real thing for `fleeks up`, not a stand-in.
//!
//! One lock guards all tables, so that every call is one transaction and changes are announced in
//! the order in which they happened. It is held for a few hash lookups, never across an await;
//! readers do not exclude each other.
//!
//! Must never happen here: I/O, an await, a workspace that is in one table and not in another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Change, Directory, DirectoryError, Route, Row, WakeBegun, WakeCause};
use crate::id::{Generation, NodeId, OwnerId, ProjectId, Slug, WorkspaceId};
use crate::lifecycle::State;
use crate::record::Private;
use crate::timing;

/// Changes that a slow receiver may fall behind by before it has to re-read.
const CHANGES_KEPT: usize = 4096;

/// See the module. Share it in an `Arc`.
pub struct LocalDirectory {
    /// The only node there is: every wake happens here.
    node: NodeId,
    tables: RwLock<Tables>,
    changes: broadcast::Sender<Change>,
}

impl LocalDirectory {
    /// An empty directory whose wakes all go to `node`.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            tables: RwLock::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }

    /// Called under the write lock, so that receivers see changes in their order.
    fn announce(&self, row: &Row) {
        let route = leads_somewhere(row).then(|| Route::from(row));
        // Nobody listening is fine: whoever comes later reads first.
        let _ = self.changes.send(Change {
            slug: row.slug.clone(),
            route,
        });
    }
}

#[async_trait]
impl Directory for LocalDirectory {
    async fn insert(&self, row: Row) -> Result<(), DirectoryError> {
        let mut tables = self.tables.write();
        if let Some(holder) = tables.holder_of_any_name(&row) {
            return Err(DirectoryError::Taken(holder));
        }
        self.announce(&row);
        tables.add(row);
        Ok(())
    }

    async fn route(&self, slug: &Slug) -> Result<Option<Route>, DirectoryError> {
        let tables = self.tables.read();
        let entry = tables.slugs.get(slug).and_then(|id| tables.rows.get(id));
        Ok(entry
            .filter(|entry| leads_somewhere(&entry.row))
            .map(|entry| Route::from(&entry.row)))
    }

    async fn row(&self, workspace: &WorkspaceId) -> Result<Option<Row>, DirectoryError> {
        let tables = self.tables.read();
        Ok(tables.rows.get(workspace).map(|entry| entry.row.clone()))
    }

    async fn find(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
    ) -> Result<Option<Row>, DirectoryError> {
        let tables = self.tables.read();
        let id = tables.names.get(owner).and_then(|of| of.get(project));
        Ok(id
            .and_then(|id| tables.rows.get(id))
            .map(|entry| entry.row.clone()))
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Row>, DirectoryError> {
        let mut rows = self.tables.read().rows_of(owner);
        rows.sort_by(|a, b| (a.created_at, &a.workspace).cmp(&(b.created_at, &b.workspace)));
        Ok(rows)
    }

    async fn begin_wake(
        &self,
        workspace: &WorkspaceId,
        _cause: WakeCause,
    ) -> Result<WakeBegun, DirectoryError> {
        let mut tables = self.tables.write();
        let entry = tables
            .rows
            .get_mut(workspace)
            .ok_or(DirectoryError::Absent)?;
        let next = match entry.row.state {
            State::Deleted => return Err(DirectoryError::Absent),
            State::Running => return Ok(WakeBegun::Ready(Route::from(&entry.row))),
            State::Starting | State::Waking => {
                return Ok(WakeBegun::Underway(Route::from(&entry.row)));
            }
            State::Freezing | State::Frozen | State::Hibernating => {
                // Its node still has it in memory and is to thaw it: same generation.
                self.announce(&entry.row);
                let route = Route::from(&entry.row);
                tables.underway.insert(workspace.clone());
                return Ok(WakeBegun::Underway(route));
            }
            State::Stopped | State::Failed => State::Starting,
            State::Hibernated => State::Waking,
        };
        if let Some(pause) = entry.failures.pause_left() {
            return Ok(WakeBegun::Failed(failed_text(pause)));
        }
        entry.row.state = next;
        entry.row.generation = entry.row.generation.next();
        entry.row.node = self.node.clone();
        self.announce(&entry.row);
        let route = Route::from(&entry.row);
        tables.underway.insert(workspace.clone());
        Ok(WakeBegun::Underway(route))
    }

    async fn report(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
        state: State,
    ) -> Result<(), DirectoryError> {
        let mut tables = self.tables.write();
        let tables = &mut *tables;
        let entry = tables
            .rows
            .get_mut(workspace)
            .ok_or(DirectoryError::Absent)?;
        let row = &mut entry.row;
        if (row.generation, row.state) == (generation, state) {
            return Ok(());
        }
        if generation < row.generation
            || row.state == State::Deleted
            || (generation == row.generation && is_underway(state))
        {
            return Err(DirectoryError::Superseded {
                current: row.generation,
                state: row.state,
            });
        }
        entry.failures.note(row.state, state);
        row.state = state;
        row.generation = generation;
        self.announce(row);
        if is_underway(state) {
            tables.underway.insert(workspace.clone());
        } else if !state.is_still() {
            // One step deeper into sleep does not make the wish to thaw it undone.
            tables.underway.remove(workspace);
        }
        if state == State::Deleted {
            let row = row.clone();
            tables.free_name(&row);
        }
        Ok(())
    }

    async fn set_auto_wake(
        &self,
        workspace: &WorkspaceId,
        auto_wake: bool,
    ) -> Result<(), DirectoryError> {
        let mut tables = self.tables.write();
        match tables.rows.get_mut(workspace) {
            None => Err(DirectoryError::Absent),
            Some(entry) if entry.row.state == State::Deleted => Err(DirectoryError::Absent),
            Some(entry) if entry.row.auto_wake == auto_wake => Ok(()),
            Some(entry) => {
                entry.row.auto_wake = auto_wake;
                self.announce(&entry.row);
                Ok(())
            }
        }
    }

    async fn set_private(
        &self,
        workspace: &WorkspaceId,
        private: Option<Arc<Private>>,
    ) -> Result<(), DirectoryError> {
        let mut tables = self.tables.write();
        match tables.rows.get_mut(workspace) {
            None => Err(DirectoryError::Absent),
            Some(entry) if entry.row.state == State::Deleted => Err(DirectoryError::Absent),
            Some(entry) if entry.row.private == private => Ok(()),
            Some(entry) => {
                entry.row.private = private;
                self.announce(&entry.row);
                Ok(())
            }
        }
    }

    async fn remove(&self, workspace: &WorkspaceId) -> Result<(), DirectoryError> {
        let mut tables = self.tables.write();
        if let Some(mut row) = tables.take(workspace) {
            row.state = State::Deleted;
            self.announce(&row);
        }
        Ok(())
    }

    async fn work(&self, node: &NodeId) -> Result<Vec<Row>, DirectoryError> {
        let tables = self.tables.read();
        Ok(tables
            .underway
            .iter()
            .filter_map(|id| tables.rows.get(id))
            .filter(|entry| entry.row.node == *node)
            .map(|entry| entry.row.clone())
            .collect())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// Every workspace under each of its names. `rows` has all; the others point into it.
#[derive(Default)]
struct Tables {
    rows: HashMap<WorkspaceId, Entry>,
    slugs: HashMap<Slug, WorkspaceId>,
    /// Without deleted ones: a name is free again when its workspace is deleted.
    names: HashMap<OwnerId, BTreeMap<ProjectId, WorkspaceId>>,
    /// Those in `Starting` or `Waking`, and those that somebody wants thawed.
    underway: HashSet<WorkspaceId>,
}

struct Entry {
    row: Row,
    failures: Failures,
}

impl Tables {
    fn holder_of_any_name(&self, row: &Row) -> Option<WorkspaceId> {
        if self.rows.contains_key(&row.workspace) {
            return Some(row.workspace.clone());
        }
        let by_name = self.names.get(&row.owner);
        self.slugs
            .get(&row.slug)
            .or_else(|| by_name.and_then(|of| of.get(&row.project)))
            .cloned()
    }

    fn add(&mut self, row: Row) {
        let id = row.workspace.clone();
        self.slugs.insert(row.slug.clone(), id.clone());
        if row.state != State::Deleted {
            let of = self.names.entry(row.owner.clone()).or_default();
            of.insert(row.project.clone(), id.clone());
        }
        if is_underway(row.state) {
            self.underway.insert(id.clone());
        }
        let failures = Failures::default();
        self.rows.insert(id, Entry { row, failures });
    }

    fn take(&mut self, workspace: &WorkspaceId) -> Option<Row> {
        let row = self.rows.remove(workspace)?.row;
        self.slugs.remove(&row.slug);
        self.underway.remove(workspace);
        self.free_name(&row);
        Some(row)
    }

    /// Only if the name is still this workspace's: a newer one may have taken it.
    fn free_name(&mut self, row: &Row) {
        if let Some(of) = self.names.get_mut(&row.owner) {
            if of.get(&row.project) == Some(&row.workspace) {
                of.remove(&row.project);
            }
            if of.is_empty() {
                self.names.remove(&row.owner);
            }
        }
    }

    fn rows_of(&self, owner: &OwnerId) -> Vec<Row> {
        self.names
            .get(owner)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(|id| self.rows.get(id))
            .map(|entry| entry.row.clone())
            .collect()
    }
}

/// Starts and wakes that failed in a row, and until when the next one has to wait.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    retry_at: Option<Instant>,
}

impl Failures {
    /// Learns from a reported change of state.
    fn note(&mut self, from: State, to: State) {
        if to == State::Running {
            *self = Self::default();
        } else if is_underway(from) && !is_underway(to) && to != State::Deleted {
            self.retry_at = Some(Instant::now() + back_off(self.in_a_row));
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
    }

    fn pause_left(&self) -> Option<Duration> {
        let left = self.retry_at?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// The pause after a failure that `earlier` others came before.
fn back_off(earlier: u32) -> Duration {
    timing::START_BACKOFF
        .saturating_mul(1 << earlier.min(16))
        .min(timing::START_BACKOFF_MAX)
}

fn failed_text(pause: Duration) -> String {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    format!("the workspace could not be started; the next try is possible in {seconds} s")
}

fn is_underway(state: State) -> bool {
    matches!(state, State::Starting | State::Waking)
}

fn leads_somewhere(row: &Row) -> bool {
    row.state != State::Deleted
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::directory_conformance!(Arc::new(LocalDirectory::new(NodeId::mint())));

    #[test]
    fn back_off_doubles_up_to_its_bound() {
        assert_eq!(back_off(0), timing::START_BACKOFF);
        assert_eq!(back_off(1), timing::START_BACKOFF * 2);
        assert_eq!(back_off(3), timing::START_BACKOFF * 8);
        assert_eq!(back_off(7), timing::START_BACKOFF_MAX);
        assert_eq!(back_off(u32::MAX), timing::START_BACKOFF_MAX);
    }

    #[test]
    fn the_tables_are_empty_after_the_last_one_left() {
        let mut tables = Tables::default();
        let row = crate::directory::conformance::row(&NodeId::mint(), State::Starting);
        tables.add(row.clone());
        assert_eq!(tables.take(&row.workspace), Some(row));
        assert!(tables.rows.is_empty() && tables.slugs.is_empty());
        assert!(tables.names.is_empty() && tables.underway.is_empty());
    }
}
