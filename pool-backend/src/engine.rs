//! What the parts of the engine share, and the few deeds that several of them do: save a record,
//! claim or make a workspace, scrap a warm container, finish a deletion.
//!
//! Must never happen here: a container changed that has a driver.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::directory::{Directory, DirectoryError, Row};
use fleet::id::{NodeId, OwnerId, ProjectId, TemplateName};
use fleet::instance::DataDir;
use fleet::record::{Claim, RecordError, RecordStore, WorkspaceRecord};
use fleet::timing;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::driver::launch::Launcher;
use crate::driver::{Driver, Handle};
use crate::error::{Error, ErrorKind};
use crate::init_client::InitClient;
use crate::keeper::{Room, Shelf};
use crate::pool::room::MemoryShare;
use crate::quota::Quotas;
use crate::table::Table;
use crate::uploads::Uploads;
use crate::volume_files::VolumeFiles;
use crate::wakes::RecentWakes;

/// Locks over (owner, project); a create holds one for a claim or a record, never for a start.
const NAME_LOCKS: usize = 256;

/// Archives at once: each has a file, and is read twice.
const ARCHIVES: usize = 16;

/// See the module.
pub(crate) struct Engine {
    pub(crate) node: NodeId,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) launcher: Launcher,
    pub(crate) store: RecordStore,
    pub(crate) files: VolumeFiles,
    /// Archives that are taken in at once; more wait.
    pub(crate) archives: Arc<Semaphore>,
    pub(crate) uploads: Uploads,
    pub(crate) table: Table,
    pub(crate) quotas: Quotas,
    pub(crate) wakes: RecentWakes,
    /// One for each template.
    pub(crate) shelves: BTreeMap<TemplateName, Arc<Shelf>>,
    /// How much of the machine's memory warm containers may take, and what that comes to.
    pub(crate) pool_memory: MemoryShare,
    pub(crate) room: parking_lot::Mutex<Room>,
    /// Nothing new is begun: no refills, no workspaces.
    pub(crate) resting: CancellationToken,
    /// Everything ends where it stands, as if the process had been killed.
    pub(crate) cancelled: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Nobody used a workspace for this long: its processes may be frozen.
    pub(crate) freeze_after: Duration,
    /// Orphans are looked for this often.
    pub(crate) reconcile_every: Duration,
    names: Names,
    next_number: AtomicU32,
    gate_serials: AtomicU64,
    /// Held as long as anything here may still write.
    _data: DataDir,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) data: DataDir,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) launcher: Launcher,
    pub(crate) store: RecordStore,
    pub(crate) shelves: BTreeMap<TemplateName, Arc<Shelf>>,
    pub(crate) pool_memory: MemoryShare,
    /// The highest number of a workspace so far.
    pub(crate) last_number: u32,
    pub(crate) freeze_after: Duration,
    pub(crate) reconcile_every: Duration,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            node: parts.data.node().clone(),
            directory: parts.directory,
            launcher: parts.launcher,
            store: parts.store,
            files: VolumeFiles::new(),
            archives: Arc::new(Semaphore::new(ARCHIVES)),
            uploads: Uploads::default(),
            table: Table::default(),
            quotas: Quotas::default(),
            wakes: RecentWakes::default(),
            shelves: parts.shelves,
            pool_memory: parts.pool_memory,
            room: parking_lot::Mutex::default(),
            resting: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            tasks: TaskTracker::new(),
            freeze_after: parts.freeze_after,
            reconcile_every: parts.reconcile_every,
            names: Names::new(),
            next_number: AtomicU32::new(parts.last_number.saturating_add(1)),
            gate_serials: AtomicU64::new(1),
            _data: parts.data,
        })
    }

    pub(crate) fn next_gate_serial(&self) -> u64 {
        self.gate_serials.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns when the record is durable.
    ///
    /// # Errors
    /// `NoSpace`, or `Internal`.
    pub(crate) async fn save(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        self.store.save_workspace(record).await.map_err(|error| {
            let kind = match &error {
                RecordError::NoSpace(_) => ErrorKind::NoSpace,
                RecordError::Removed => ErrorKind::NotFound,
                RecordError::Superseded { .. } | RecordError::Io(_) => ErrorKind::Internal,
            };
            Error::caused(kind, error.to_string(), error)
        })
    }

    /// The owner's workspace of that name; if there is none, a warm container of the template, or
    /// else a volume without a container. True if it was made by this call. Not cancel safe.
    ///
    /// # Errors
    /// No such template, no space, shutting down.
    pub(crate) async fn get_or_make(
        self: &Arc<Self>,
        owner: &OwnerId,
        project: &ProjectId,
        template: &TemplateName,
    ) -> Result<(Arc<Handle>, bool), Error> {
        let _name = self.names.lock(owner, project).await;
        if let Some(handle) = self.table.by_project(owner, project) {
            return Ok((handle, false));
        }
        if self.resting.is_cancelled() {
            return Err(Error::new(ErrorKind::NotReady, "shutting down"));
        }
        let _place = self.place_for_new(owner).await?;
        let claim = Claim {
            owner: owner.clone(),
            project: project.clone(),
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            claimed_at: OffsetDateTime::now_utc(),
        };
        let began = Instant::now();
        let _first = self.launcher.before_refills();
        let shelf = self.shelves.get(template);
        let warm = match shelf {
            Some(shelf) => shelf.claim(self).await,
            None => None,
        };
        let (mut record, running) = match warm {
            Some(warm) => (warm.record, Some(warm.init)),
            None => (self.launcher.mint(template).await?, None),
        };
        // Time as a warm container is not its owner's.
        record.started_at = running.is_some().then_some(claim.claimed_at);
        record.claim = Some(claim);
        let was_warm = running.is_some();
        match self.settle(record.clone(), running).await {
            Ok(handle) => {
                if let Some(shelf) = shelf.filter(|_| was_warm) {
                    shelf.took(self, began.elapsed());
                }
                Ok((handle, true))
            }
            Err(error) => {
                self.scrap_later(record);
                Err(error)
            }
        }
    }

    /// Durable, then known to everybody.
    async fn settle(
        self: &Arc<Self>,
        record: WorkspaceRecord,
        running: Option<InitClient>,
    ) -> Result<Arc<Handle>, Error> {
        self.save(&record).await?;
        self.announce(&record).await?;
        let handle = Driver::engage(self, record, running)?;
        self.table.insert(&handle);
        Ok(handle)
    }

    /// Puts a claimed record's row into the directory.
    ///
    /// # Errors
    /// `Conflict` if another has the name; `NotReady` if the directory cannot be asked.
    pub(crate) async fn announce(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        let Some(claim) = &record.claim else {
            return Err(Error::new(
                ErrorKind::Internal,
                "a warm container has no row",
            ));
        };
        let row = Row {
            workspace: record.id.clone(),
            owner: claim.owner.clone(),
            project: claim.project.clone(),
            slug: record.slug.clone(),
            container: record.container.clone(),
            template: record.template.clone(),
            node: self.node.clone(),
            state: record.state,
            generation: record.generation,
            auto_wake: record.lifecycle.auto_wake,
            private: record.showing.private(),
            created_at: claim.claimed_at,
        };
        self.directory
            .insert(row)
            .await
            .map_err(|error| match error {
                DirectoryError::Taken(_) => {
                    Error::caused(ErrorKind::Conflict, "the project id is in use", error)
                }
                _ => Error::caused(ErrorKind::NotReady, "the directory does not answer", error),
            })
    }

    /// Deletes a workspace: durable before it returns, its volume follows. A create of the same
    /// name waits until the name is free.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) async fn delete(&self, handle: &Handle) -> Result<(), Error> {
        let identity = handle.identity();
        let _name = self.names.lock(&identity.owner, &identity.project).await;
        handle.order(crate::driver::Order::Delete).await
    }

    /// Takes away a warm container, or what a failed create left: container, volume, record.
    pub(crate) async fn scrap(&self, mut record: WorkspaceRecord) {
        // Should this process die in the middle, the next one goes on; what belongs to nobody and
        // does not run it takes away in any case.
        if record.claim.is_some() {
            record.deleted = true;
            if let Err(error) = self.save(&record).await {
                tracing::debug!(workspace = %record.id, %error, "not marked as deleted");
            }
        }
        self.finish_deletion(record).await;
    }

    /// [`Engine::scrap`] of a warm container when all end: one of a thousand, so without what
    /// `Network::close` does for all of them at once.
    pub(crate) async fn scrap_at_the_end(&self, record: WorkspaceRecord) {
        let id = self.launcher.id_of(&record);
        let removed = self.launcher.teardown_at_the_end(&id).await;
        if let Err(error) = removed {
            tracing::warn!(workspace = %record.id, %error, "a warm container stays");
            return;
        }
        if let Err(error) = self.store.remove_workspace(&record.id).await {
            tracing::warn!(workspace = %record.id, %error, "a volume stays until the next start");
        }
    }

    /// [`Engine::scrap`] behind the caller's back.
    pub(crate) fn scrap_later(self: &Arc<Self>, record: WorkspaceRecord) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move { engine.scrap(record).await });
    }

    /// Container, volume and record of a deleted workspace; goes on until they are gone. The
    /// address is free only after the container is.
    pub(crate) async fn finish_deletion(&self, record: WorkspaceRecord) {
        let id = self.launcher.id_of(&record);
        loop {
            let gone = match self.launcher.teardown(&id).await {
                Ok(()) => self.launcher.discard_volume(&record).await,
                Err(error) => {
                    tracing::warn!(workspace = %record.id, %error, "not all gone yet");
                    false
                }
            };
            if gone {
                return;
            }
            tokio::select! {
                () = self.cancelled.cancelled() => return,
                () = tokio::time::sleep(timing::START_BACKOFF_MAX) => {}
            }
        }
    }
}

/// Locks by name: a fixed number of them, so that names cost no memory. Two names may share one.
struct Names {
    hasher: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Names {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            locks: (0..NAME_LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    async fn lock(&self, owner: &OwnerId, project: &ProjectId) -> Option<impl Drop + use<'_>> {
        let hash = self.hasher.hash_one((owner, project));
        let at = usize::try_from(hash % NAME_LOCKS as u64).unwrap_or(0);
        Some(self.locks.get(at)?.lock().await)
    }
}
