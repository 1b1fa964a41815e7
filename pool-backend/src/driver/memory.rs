//! What the launcher does with snapshots: begins and commits them, gives them up, and restores a
//! container from one. And the containers whose packets are held meanwhile.
//!
//! Must never happen here: a decision what a failed restore means. That is the driver's.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use fleet::record::WorkspaceRecord;
use fleet::timing;
use tokio::time::Instant;

use super::launch::{Launcher, no_network};
use super::turns::{Turn, Urgency};
use crate::error::{Error, ErrorKind};
use crate::faults::Point;
use crate::init_client::InitClient;
use crate::runtime::{OciId, RuntimeError};
use crate::snapshot::{About, Draft, Manifest, Reader, Snapshot, SnapshotError};
use crate::template::Template;

/// Why a container was not restored.
pub(crate) enum NotRestored {
    /// It was not tried, or not the snapshot's fault: the same snapshot may do later.
    Untried(Error),
    /// The snapshot was tried and did not come to life.
    Failed(Error),
}

impl Launcher {
    /// Waits for its place among the containers that are put on disk.
    ///
    /// # Errors
    /// `NotReady` when there are too many.
    pub(super) async fn turn_to_sleep(&self) -> Result<Turn<'_>, Error> {
        self.turns.take_to_sleep().await
    }

    /// The container gets and sends nothing until [`Launcher::let_go`], which what comes after it
    /// at the same address needs as well.
    ///
    /// # Errors
    /// `NotReady`.
    pub(super) async fn hold(&self, address: Ipv4Addr) -> Result<(), Error> {
        // Since it fell asleep, mostly.
        if self.held.contains(&address) {
            return Ok(());
        }
        self.held.insert(address);
        let held = self.network.hold(address).await.map_err(no_network);
        if held.is_err() {
            // So that the next one does not take it for done.
            self.let_go(address).await?;
        }
        held
    }

    /// Undoes [`Launcher::hold`]; costs nothing where there was none.
    ///
    /// # Errors
    /// `NotReady`.
    pub(super) async fn let_go(&self, address: Ipv4Addr) -> Result<(), Error> {
        if self.held.contains(&address) {
            self.network.let_go(address).await.map_err(no_network)?;
            self.held.remove(&address);
        }
        Ok(())
    }

    /// Whether a snapshot of what it has in memory may be made.
    ///
    /// # Errors
    /// `NoSpace`, with why not.
    pub(super) async fn room_for_snapshot(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        let usage = self.usage(&self.id_of(record)).await.unwrap_or_default();
        let room = self.snapshots.has_room(usage.memory_bytes).await;
        room.map_err(not_kept)
    }

    /// A checkpoint failed: for lack of room?
    pub(super) async fn not_written(&self, error: RuntimeError) -> Error {
        if self.snapshots.is_full().await {
            return Error::caused(ErrorKind::NoSpace, SnapshotError::Full.to_string(), error);
        }
        let message = "the processes could not be put on disk";
        Error::caused(ErrorKind::NotReady, message, error)
    }

    /// # Errors
    /// `NoSpace`, `NotReady`.
    pub(super) async fn begin_snapshot(&self, record: &WorkspaceRecord) -> Result<Draft, Error> {
        let begun = self.snapshots.begin(&record.id, record.generation).await;
        begun.map_err(not_kept)
    }

    /// Returns when the images are durable and complete, and the volume is durable: what the
    /// processes have written must be no older than what they remember.
    ///
    /// # Errors
    /// `NoSpace`, `NotReady`.
    pub(super) async fn commit_snapshot(
        &self,
        record: &WorkspaceRecord,
        draft: Draft,
    ) -> Result<Snapshot, Error> {
        let mark = self.volume(&record.id).mark().await;
        let mark = mark.map_err(|error| Error::from_io("the volume cannot be marked", error))?;
        let about = About {
            container: record.container.clone(),
            template: record.template.to_string(),
            address: record.address,
            reader: self.reader(record).await?,
            connections_kept: self.runtime.sleep().keeps_connections,
            volume: Some(mark),
        };
        let volume = self.volume(&record.id);
        // On one file system the images' way to the disk is the volume's.
        if !same_file_system(&volume.data(), &draft.images_dir()) {
            volume.sync().await.map_err(|error| {
                Error::from_io("the volume could not be written to its disk", error)
            })?;
        }
        draft.commit(about).await.map_err(not_kept)
    }

    /// What the workspace can be woken from, if there is anything.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn snapshot_of(
        &self,
        record: &WorkspaceRecord,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let reader = self.reader(record).await.map_err(|error| {
            let source = std::io::Error::other(error);
            let context = "look at what can read snapshots";
            SnapshotError::Io { context, source }
        })?;
        self.snapshots.latest(&record.id, &reader).await
    }

    /// From now on there is nothing to wake it from.
    ///
    /// # Errors
    /// `NoSpace`, `Internal`.
    pub(super) async fn give_up_snapshots(&self, record: &WorkspaceRecord) -> Result<(), Error> {
        let removed = self.snapshots.give_up(&record.id).await;
        removed.map_err(|error| Error::caused(ErrorKind::Internal, "a snapshot stays", error))
    }

    async fn reader(&self, record: &WorkspaceRecord) -> Result<Reader, Error> {
        let template = self.template(&record.template)?;
        // The layout of a container does not depend on its namespace.
        let (id, provision) = (self.id_of(record), self.provisioner.ready(&template)?);
        let spec = self.spec(&id, record, &template, &provision, Path::new("/"));
        let runtime = Arc::clone(&self.runtime);
        let reading = tokio::task::spawn_blocking(move || Reader::of(runtime.as_ref(), &spec));
        let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let message = "the runtime does not say what it can read";
            Error::caused(ErrorKind::NotReady, message, cause)
        };
        let reader = reading.await.map_err(|error| unreadable(error.into()))?;
        reader.map_err(|error| unreadable(error.into()))
    }

    /// Whether the volume surely is as the snapshot's processes left it. Costs a walk over it.
    pub(crate) async fn is_still_true(
        &self,
        record: &WorkspaceRecord,
        manifest: &Manifest,
    ) -> bool {
        match manifest.about.volume {
            Some(mark) => self.volume(&record.id).is_unchanged_since(mark).await,
            None => false,
        }
    }

    /// Restores the generation that the record names from an earlier one's snapshot. When it
    /// returns, the processes go, and nobody can hear them yet: see [`Launcher::hear`]. A failed
    /// restore leaves nothing behind. Not cancel safe.
    ///
    /// # Errors
    /// See [`NotRestored`].
    pub(super) async fn restore(
        &self,
        record: &WorkspaceRecord,
        snapshot: &Snapshot,
    ) -> Result<(), NotRestored> {
        let template = self
            .template(&record.template)
            .map_err(NotRestored::Untried)?;
        let turn = self.turns.take(Urgency::Awaited).await;
        let _turn = turn.map_err(NotRestored::Untried)?;
        let buried = self.bury_earlier_ones(&record.container).await;
        buried.map_err(NotRestored::Untried)?;
        let _restoring = self.metrics.restoring();
        let id = self.id_of(record);
        self.owned.insert(id.clone());
        let restored = self.try_restore(&id, record, &template, snapshot).await;
        if restored.is_err() {
            self.clear(&id).await;
        }
        restored
    }

    async fn try_restore(
        &self,
        id: &OciId,
        record: &WorkspaceRecord,
        template: &Template,
        snapshot: &Snapshot,
    ) -> Result<(), NotRestored> {
        let began = Instant::now();
        let prepared = self.network.prepare(id, record.address).await;
        let netns = prepared.map_err(|error| NotRestored::Untried(no_network(error)))?;
        let held = self.hold(record.address).await;
        held.map_err(NotRestored::Untried)?;
        let networked = began.elapsed();
        let reached = self.faults.reach(Point::WakeNetworked).await;
        reached.map_err(NotRestored::Failed)?;
        let provision = self.provisioner.ready(template);
        let provision = provision.map_err(NotRestored::Untried)?;
        let spec = self.spec(id, record, template, &provision, netns.path());
        let images = snapshot.images_dir();
        let restored = self.runtime.restore(&spec, &images).await;
        restored.map_err(|error| {
            let message = "the processes could not be brought back";
            NotRestored::Failed(Error::caused(ErrorKind::NotReady, message, error))
        })?;
        netns.keep();
        tracing::debug!(container = id.as_str(), ?networked, restored = ?began.elapsed());
        Ok(())
    }

    /// Lets a restored container be heard; returns when its init answers.
    ///
    /// # Errors
    /// `NotReady`.
    pub(super) async fn hear(&self, record: &WorkspaceRecord) -> Result<InitClient, Error> {
        self.let_go(record.address).await?;
        let init = Self::init_of(record);
        let id = self.id_of(record);
        self.wait_for_init(&id, &init, timing::INIT_AWAKE).await?;
        Ok(init)
    }
}

fn same_file_system(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    device(one).is_some() && device(one) == device(other)
}

fn not_kept(error: SnapshotError) -> Error {
    match error {
        SnapshotError::Full | SnapshotError::Bound { .. } => {
            Error::new(ErrorKind::NoSpace, error.to_string())
        }
        SnapshotError::Io { context, source } => match Error::from_io(context, source) {
            full if full.kind == ErrorKind::NoSpace => full,
            other => Error {
                kind: ErrorKind::NotReady,
                message: "the snapshot could not be written".to_owned(),
                cause: Some(Box::new(other)),
            },
        },
        other => Error::caused(
            ErrorKind::NotReady,
            "the snapshot could not be written",
            other,
        ),
    }
}
