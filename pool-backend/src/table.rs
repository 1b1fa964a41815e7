//! The workspaces of this node, under each of their names.
//!
//! Must never happen here: I/O, or a workspace under one name and not under another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleet::id::{ContainerId, OwnerId, ProjectId, WorkspaceId};
use parking_lot::RwLock;
use time::OffsetDateTime;

use crate::driver::Handle;

/// See the module. The lock is held for lookups only.
#[derive(Default)]
pub(crate) struct Table(RwLock<Indexes>);

#[derive(Default)]
struct Indexes {
    ids: HashMap<WorkspaceId, Arc<Handle>>,
    containers: HashMap<ContainerId, WorkspaceId>,
    owners: HashMap<OwnerId, Owned>,
}

/// An owner's workspaces.
#[derive(Default)]
struct Owned {
    projects: HashMap<ProjectId, WorkspaceId>,
    numbers: HashMap<u32, WorkspaceId>,
    /// Oldest first; ties by id.
    by_age: BTreeMap<(OffsetDateTime, WorkspaceId), Arc<Handle>>,
}

impl Table {
    pub(crate) fn insert(&self, handle: &Arc<Handle>) {
        let identity = handle.identity();
        let id = identity.id.clone();
        let mut indexes = self.0.write();
        indexes.ids.insert(id.clone(), Arc::clone(handle));
        indexes
            .containers
            .insert(identity.container.clone(), id.clone());
        let owned = indexes.owners.entry(identity.owner.clone()).or_default();
        owned.projects.insert(identity.project.clone(), id.clone());
        owned.numbers.insert(identity.number, id.clone());
        owned
            .by_age
            .insert((identity.created_at, id), Arc::clone(handle));
    }

    pub(crate) fn remove(&self, handle: &Handle) {
        let identity = handle.identity();
        let mut indexes = self.0.write();
        indexes.ids.remove(&identity.id);
        indexes.containers.remove(&identity.container);
        if let Some(owned) = indexes.owners.get_mut(&identity.owner) {
            if owned.projects.get(&identity.project) == Some(&identity.id) {
                owned.projects.remove(&identity.project);
            }
            owned.numbers.remove(&identity.number);
            let age = (identity.created_at, identity.id.clone());
            owned.by_age.remove(&age);
            if owned.by_age.is_empty() {
                indexes.owners.remove(&identity.owner);
            }
        }
    }

    pub(crate) fn by_id(&self, id: &WorkspaceId) -> Option<Arc<Handle>> {
        self.0.read().ids.get(id).cloned()
    }

    pub(crate) fn by_project(&self, owner: &OwnerId, project: &ProjectId) -> Option<Arc<Handle>> {
        let indexes = self.0.read();
        let id = indexes.owners.get(owner)?.projects.get(project)?;
        indexes.ids.get(id).cloned()
    }

    pub(crate) fn by_number(&self, owner: &OwnerId, number: u32) -> Option<Arc<Handle>> {
        let indexes = self.0.read();
        let id = indexes.owners.get(owner)?.numbers.get(&number)?;
        indexes.ids.get(id).cloned()
    }

    pub(crate) fn by_container(
        &self,
        owner: &OwnerId,
        container: &ContainerId,
    ) -> Option<Arc<Handle>> {
        let indexes = self.0.read();
        let handle = indexes.ids.get(indexes.containers.get(container)?)?;
        (handle.identity().owner == *owner).then(|| Arc::clone(handle))
    }

    /// Oldest first.
    pub(crate) fn of_owner(&self, owner: &OwnerId) -> Vec<Arc<Handle>> {
        let indexes = self.0.read();
        let owned = indexes.owners.get(owner);
        owned
            .map(|owned| owned.by_age.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.0.read().ids.values().cloned().collect()
    }
}
