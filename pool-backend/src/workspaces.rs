//! The façade that the API and embeds see: workspaces, and what can be done in one. It starts or
//! wakes a workspace when a call needs it, checks the generation, and picks volume or init.
//!
//! Must never happen here: HTTP, JSON of the wire, a call without a bound.

mod archives;
mod budget;
mod files;
mod follow;
mod jobs;
mod life;
pub(crate) mod path;
mod previews;
mod sharing;
mod templates;
mod terminals;
mod types;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::driver::gate::Pass;
use crate::driver::{self, Entry, Handle, Order};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::init_client::{InitClient, InitError};
use crate::node::Node;
use crate::provision::{self, unusable};
use crate::quota::Holdings;
use crate::runtime::OciId;
use fleet::directory::WakeCause;
use fleet::door::Visit;
use fleet::id::{ContainerId, Generation, OwnerId, ProjectId, TemplateName, WorkspaceId};
use fleet::lifecycle::{ApiStatus, State};
use fleet::record::Quota;

pub use crate::init_client::Offsets;
pub use crate::volume_files::OpenFile;
pub use crate::wakes::{WAKES_KEPT, Wake};
pub use crate::watches::{Event as WatchEvent, Filter, Overflow, Position, Watch, What};
pub use archives::{NotUnpacked, Packed, Unpacked};
pub use follow::{Follow, FollowEvent};
pub use life::MAX_EXTENSION;
pub(crate) use previews::app_of;
pub use previews::{Preview, PreviewStatus, PreviewWish};
pub use templates::{Dependencies, ImageInfo, TemplateInfo};
pub use terminals::{Keyboard, Terminal, TerminalSize, TerminalWish, View, Viewed};
pub use types::{
    ByteStream, Command, FileInfo, FileKind, Job, Lifecycle, Measured, Page, PoolRoom, PoolStatus,
    SnapshotGlance, Summary, WriteOptions,
};
pub use uploads::{NotAppended, Upload, UploadWish};

/// All workspaces of this node. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces {
    node: Arc<Node>,
}

/// One workspace of one owner: a cheap handle, valid across restarts of its container.
#[derive(Clone)]
pub struct Workspace {
    node: Arc<Node>,
    handle: Arc<Handle>,
}

impl Workspaces {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// What a new workspace needs before it is claimed or made; nothing for one that is there.
    async fn prepare(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
        template: &TemplateName,
        pins: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let engine = self.node.engine();
        let found = engine.launcher.template(template)?;
        let there = engine.table.by_project(owner, project).is_some();
        if !there {
            provision::provide(engine, template).await?;
        }
        if !pins.is_empty() {
            let provisioner = &engine.launcher.provisioner;
            let provision = provisioner
                .look(&found)
                .map_err(|why| unusable(&found, &why))?;
            provision::check_pins(engine, &found, &provision, pins).await?;
        }
        Ok(())
    }

    /// Get-or-create: an existing workspace of this owner is returned (and started), whatever the
    /// template. Any number of equal calls at once make one workspace. A dropped call may still
    /// make it.
    ///
    /// # Errors
    /// `Invalid` template, or one that this machine cannot run; `NoSpace`; `NotReady` when it does not start in time.
    pub async fn create(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
        template: &TemplateName,
    ) -> Result<Workspace, Error> {
        self.create_pinned(owner, project, template, &BTreeMap::new())
            .await
    }

    /// [`Workspaces::create`] with versions of languages that the template must have.
    ///
    /// # Errors
    /// `Invalid` also when it has not.
    pub async fn create_pinned(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
        template: &TemplateName,
        pins: &BTreeMap<String, String>,
    ) -> Result<Workspace, Error> {
        self.prepare(owner, project, template, pins).await?;
        let making = {
            let engine = Arc::clone(self.node.engine());
            let (owner, project, template) = (owner.clone(), project.clone(), template.clone());
            let tasks = engine.tasks.clone();
            // A task of its own: a caller that goes away must not leave half a claim.
            tasks.spawn(async move { engine.get_or_make(&owner, &project, &template).await })
        };
        let (handle, new) = making.await.map_err(|error| {
            Error::caused(ErrorKind::Internal, "the workspace was not made", error)
        })??;
        let workspace = self.workspace(handle);
        tracing::debug!(workspace = %workspace.handle.id(), new, "created");
        workspace.wake_for(WakeCause::Create).await?;
        Ok(workspace)
    }

    /// By its project id. Starts nothing.
    ///
    /// # Errors
    /// `NotFound`, also for another owner's.
    pub fn get(&self, owner: &OwnerId, project: &ProjectId) -> Result<Workspace, Error> {
        self.found(self.node.engine().table.by_project(owner, project))
    }

    /// By its number. Starts nothing.
    ///
    /// # Errors
    /// `NotFound`, also for another owner's.
    pub fn by_number(&self, owner: &OwnerId, number: u32) -> Result<Workspace, Error> {
        self.found(self.node.engine().table.by_number(owner, number))
    }

    /// By its container id, which stays the same across restarts. Starts nothing.
    ///
    /// # Errors
    /// `NotFound`, also for another owner's.
    pub fn by_container(
        &self,
        owner: &OwnerId,
        container: &ContainerId,
    ) -> Result<Workspace, Error> {
        self.found(self.node.engine().table.by_container(owner, container))
    }

    /// By its internal id, whoever owns it: for callers that have checked access already.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn by_id(&self, id: &WorkspaceId) -> Result<Workspace, Error> {
        self.found(self.node.engine().table.by_id(id))
    }

    /// An owner's workspaces, oldest first. Pages count from 1; one beyond the last is empty.
    pub fn list(
        &self,
        owner: &OwnerId,
        status: Option<ApiStatus>,
        page: usize,
        page_size: usize,
    ) -> Page<Summary> {
        let mut handles = self.node.engine().table.of_owner(owner);
        if let Some(status) = status {
            handles.retain(|handle| handle.status().state.api_status() == status);
        }
        let total = handles.len();
        let before = page.saturating_sub(1).saturating_mul(page_size);
        let items = handles
            .into_iter()
            .skip(before)
            .take(page_size)
            .map(|handle| self.workspace(handle).summary())
            .collect();
        Page { items, total }
    }

    /// All of an owner's workspaces, oldest first. Starts nothing.
    pub fn all(&self, owner: &OwnerId) -> Vec<Workspace> {
        let handles = self.node.engine().table.of_owner(owner).into_iter();
        handles.map(|handle| self.workspace(handle)).collect()
    }

    /// The last wakes of this node, whoever's, newest first.
    pub fn wakes(&self, most: usize) -> Vec<Wake> {
        self.node.engine().wakes.newest(most)
    }

    /// Deletes a workspace with all its files. When it returns, its name is free, its address
    /// leads nowhere, and its container is gone; removing a large volume may take a little longer.
    ///
    /// # Errors
    /// `NotFound`; `NoSpace`, `Internal` when the deletion could not be recorded.
    pub async fn delete(&self, owner: &OwnerId, project: &ProjectId) -> Result<(), Error> {
        let workspace = self.get(owner, project)?;
        self.node.engine().delete(&workspace.handle).await
    }

    /// What an owner may have from now on; what there is already stays.
    pub fn set_quota(&self, owner: &OwnerId, quota: Quota) {
        self.node.engine().quotas.set(owner, quota);
    }

    /// How many of an owner's workspaces run, or stand still in memory.
    pub fn running(&self, owner: &OwnerId) -> usize {
        self.node.engine().running(owner)
    }

    /// What an owner may have.
    pub fn quota(&self, owner: &OwnerId) -> Quota {
        self.node.engine().quotas.get(owner)
    }

    /// What an owner has.
    pub async fn holdings(&self, owner: &OwnerId) -> Holdings {
        self.node.engine().holdings(owner).await
    }

    /// Names of all templates, sorted.
    pub fn templates(&self) -> Vec<TemplateName> {
        self.node.engine().launcher.templates.names()
    }

    /// All pools, by template.
    pub fn pools(&self) -> Vec<PoolStatus> {
        let shelves = self.node.engine().shelves.values();
        shelves.map(|shelf| shelf.status()).collect()
    }

    /// For how many warm containers there is room.
    pub fn pool_room(&self) -> PoolRoom {
        let room = *self.node.engine().room.lock();
        PoolRoom {
            containers: room.containers,
            memory_each: room.memory_each,
        }
    }

    fn workspace(&self, handle: Arc<Handle>) -> Workspace {
        Workspace {
            node: Arc::clone(&self.node),
            handle,
        }
    }

    fn found(&self, handle: Option<Arc<Handle>>) -> Result<Workspace, Error> {
        handle
            .map(|handle| self.workspace(handle))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "no such workspace"))
    }
}

impl Workspace {
    /// What is known without asking the container.
    pub fn summary(&self) -> Summary {
        let (identity, status) = (self.handle.identity(), self.handle.status());
        let launcher = &self.engine().launcher;
        let template = launcher.templates.get(&identity.template);
        let template = template.as_deref();
        Summary {
            id: identity.id.clone(),
            project: identity.project.clone(),
            number: identity.number,
            container: identity.container.clone(),
            slug: identity.slug.clone(),
            template: identity.template.clone(),
            languages: template
                .map(|t| launcher.provisioner.languages(t))
                .unwrap_or_default(),
            versions: template
                .map(|t| launcher.provisioner.versions(t))
                .unwrap_or_default(),
            limits: template.map_or(launcher.limits, |t| t.limits.over(launcher.limits)),
            state: status.state,
            generation: status.generation,
            created_at: identity.created_at,
            started_at: status.started_at,
            last_activity_at: self.handle.activity.last(),
        }
    }

    /// Why its last start, wake or hibernation failed, if it did; safe to show.
    pub fn problem(&self) -> Option<String> {
        self.handle.status().problem
    }

    /// Starts, wakes or thaws it if need be, and waits until it runs.
    ///
    /// # Errors
    /// `NotReady` when it does not start in time; `NotFound` when it was deleted meanwhile;
    /// `Conflict` when it sleeps and its owner decided that calls do not wake it.
    pub async fn ensure_running(&self) -> Result<Summary, Error> {
        self.wake_for(WakeCause::Api).await
    }

    /// Ends its processes; the volume stays. The next use starts it again.
    ///
    /// # Errors
    /// As [`Workspace::restart`].
    pub async fn stop(&self) -> Result<Summary, Error> {
        self.handle.order(Order::Stop).await?;
        Ok(self.summary())
    }

    /// New generation around the volume; of a sleeping one the snapshot is given up.
    ///
    /// # Errors
    /// As [`Workspace::wake`]; `TooMany` when too many calls wait.
    pub async fn restart(&self) -> Result<Summary, Error> {
        self.handle.order(Order::Stop).await?;
        self.wake().await
    }

    /// The port that its preview shows; none: the first well-known port that listens.
    pub fn set_main_port(&self, port: Option<u16>) {
        self.handle.preview_port.set(port);
    }

    /// Processes inside; none while it does not run. A frozen one is thawed.
    ///
    /// # Errors
    /// `NotReady` when its init does not answer.
    pub async fn processes(&self) -> Result<Vec<init_protocol::Process>, Error> {
        let listed = self.while_here(|init| async move { init.processes().await });
        Ok(listed.await?.unwrap_or_default())
    }

    /// What listens inside now; nothing while it does not run. Of a frozen one what was known.
    ///
    /// # Errors
    /// `NotReady` when its init does not answer.
    pub async fn ports(&self) -> Result<Vec<init_protocol::ListeningPort>, Error> {
        let Some(gate) = self.handle.gate() else {
            return Ok(Vec::new());
        };
        if !gate.is_open() {
            return Ok(gate.ports.last_known());
        }
        match gate.ports.refresh().await {
            Ok(known) => Ok(known.ports.clone()),
            Err(error) => self
                .unanswered(error, gate.generation)
                .await
                .map(|()| Vec::new()),
        }
    }

    /// What it uses now; nothing while it does not run. Thaws nothing.
    ///
    /// # Errors
    /// `NotReady` when that is not known now.
    pub async fn usage(&self) -> Result<Measured, Error> {
        let status = self.handle.status();
        if status.state.api_status() != ApiStatus::Ready {
            return Ok(Measured::default());
        }
        let launcher = &self.engine().launcher;
        let container = &self.handle.identity().container;
        let id = OciId::new(&launcher.instance, container, status.generation);
        let usage = launcher.usage(&id).await?;
        Ok(Measured {
            memory_bytes: usage.memory_bytes,
            cpu_micros: usage.cpu_micros,
            tasks: usage.pids,
            network: launcher.traffic(&id),
            disk: launcher.disk(&id),
        })
    }

    /// Whether its processes run at this moment.
    pub fn is_awake(&self) -> bool {
        self.handle.status().state == State::Running
    }

    fn engine(&self) -> &Engine {
        self.node.engine()
    }

    /// Calls its init, starting it first if need be. If the container turns out to be dead before
    /// init took the call, it is started again, once.
    async fn calling<T, F>(&self, call: impl Fn(InitClient) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, InitError>>,
    {
        self.calling_for(WakeCause::Api, call).await
    }

    async fn calling_for<T, F>(
        &self,
        cause: WakeCause,
        call: impl Fn(InitClient) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, InitError>>,
    {
        let mut restarted = false;
        loop {
            let (init, generation, _visit) = self.enter(cause).await?;
            if cause == WakeCause::Write {
                self.handle.hub.caught_up(generation).await;
            }
            let error = match call(init).await {
                Ok(answer) => {
                    self.handle.touch();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let unheard = is_unheard(&error);
            match self.unanswered(error, generation).await {
                // Dead, and the call never reached it.
                Ok(()) if unheard && !restarted => restarted = true,
                Ok(()) => {
                    return Err(Error::new(
                        ErrorKind::NotReady,
                        "the workspace stopped while the call went on",
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Calls its init if it has a container, standing still or not; none if it has none.
    async fn while_here<T, F>(&self, call: impl FnOnce(InitClient) -> F) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<T, InitError>>,
    {
        let Entry::Entered(gate, _visit) = self.handle.enter(None, Visit::InFlight).await else {
            return Ok(None);
        };
        match call(gate.init.clone()).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => self.unanswered(error, gate.generation).await.map(|()| None),
        }
    }

    /// Calls its init if its processes live or sleep, and wakes them for it; none if there are
    /// none.
    async fn while_alive<T, F>(
        &self,
        call: impl FnOnce(InitClient) -> F,
    ) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<T, InitError>>,
    {
        if matches!(
            self.handle.status().state,
            State::Hibernating | State::Hibernated | State::Waking
        ) {
            self.ensure_running().await?;
        }
        self.while_here(call).await
    }

    /// Through the gate of a running container.
    async fn enter(&self, cause: WakeCause) -> Result<(InitClient, Generation, Pass), Error> {
        loop {
            let gate = driver::ensure_running(self.engine(), &self.handle, cause).await?;
            // Shut or closed since: the wait above has its own deadline.
            if let Ok(pass) = gate.enter(Visit::InFlight) {
                self.handle.touch();
                return Ok((gate.init.clone(), gate.generation, pass));
            }
        }
    }

    /// What an error of init's client means: `Ok` when the container is dead (its driver has
    /// cleared up then), else what to tell the caller.
    async fn unanswered(&self, error: InitError, generation: Generation) -> Result<(), Error> {
        let answered = matches!(error, InitError::Refused { .. } | InitError::Source(_));
        if answered || self.handle.check(generation).await {
            return Err(error.into());
        }
        Ok(())
    }
}

/// Whether init certainly never heard the call: then making it again does not do it twice.
fn is_unheard(error: &InitError) -> bool {
    use std::io::ErrorKind as Io;
    matches!(
        error,
        InitError::Unreachable(error) if matches!(
            error.kind(),
            Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable
        )
    )
}
