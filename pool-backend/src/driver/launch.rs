//! Making a container run, and taking it away: network, runtime, and an init that answers. What
//! drivers and keepers share.
//!
//! Must never happen here: a container of ours running that [`Launcher::owns`] does not know.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dashmap::DashSet;
use fleet::id::{ContainerId, InstanceId, TemplateName, WorkspaceId};
use fleet::record::{RecordStore, WorkspaceRecord};
use fleet::timing;
use init_protocol::CONTROL_PORT;
use tokio::time::{Duration, Instant, interval_at};

use super::turns::{self, Turns, Urgency, Waiting};
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::faults::FailPoints;
use crate::init_client::InitClient;
use crate::metrics::Metrics;
use crate::network::{Network, NetworkError};
use crate::provision::{Layer, Provision, Provisioner};
use crate::runtime::{
    ContainerSpec, ContainerStatus, OciId, Runtime, RuntimeError, Traffic, Usage, User,
};
use crate::snapshot::SnapshotStore;
use crate::template::{Template, Templates};
use crate::volume::Volume;

/// See the module.
pub(crate) struct Launcher {
    pub(crate) instance: InstanceId,
    pub(crate) data_dir: PathBuf,
    pub(crate) store: RecordStore,
    pub(crate) templates: Templates,
    pub(crate) network: Network,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) limits: Limits,
    /// The static PID 1 on the host.
    pub(crate) init: PathBuf,
    /// For dev servers that check the Host header.
    pub(crate) domain: String,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) faults: FailPoints,
    pub(crate) provisioner: Provisioner,
    pub(super) owned: DashSet<OciId>,
    /// Containers that could not be ended: no other generation runs before they are gone.
    undead: DashSet<OciId>,
    /// Containers that get and send nothing, by address.
    pub(super) held: DashSet<Ipv4Addr>,
    pub(super) turns: Turns,
    pub(crate) metrics: Metrics,
}

/// What a launcher is made of.
pub(crate) struct Parts {
    pub(crate) instance: InstanceId,
    pub(crate) data_dir: PathBuf,
    pub(crate) store: RecordStore,
    pub(crate) templates: Templates,
    pub(crate) network: Network,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) limits: Limits,
    pub(crate) init: PathBuf,
    pub(crate) domain: String,
    pub(crate) faults: FailPoints,
}

impl Launcher {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            provisioner: Provisioner::new(&parts.data_dir),
            instance: parts.instance,
            data_dir: parts.data_dir,
            store: parts.store,
            templates: parts.templates,
            network: parts.network,
            runtime: parts.runtime,
            limits: parts.limits,
            init: parts.init,
            domain: parts.domain,
            snapshots: parts.snapshots,
            faults: parts.faults,
            owned: DashSet::new(),
            undead: DashSet::new(),
            held: DashSet::new(),
            turns: Turns::new(),
            metrics: Metrics::new(turns::AWAITED),
        }
    }

    /// The runtime's id of what the record says should run.
    pub(crate) fn id_of(&self, record: &WorkspaceRecord) -> OciId {
        OciId::new(&self.instance, &record.container, record.generation)
    }

    /// Whether somebody here is in charge of this container, starting ones included.
    pub(crate) fn owns(&self, id: &OciId) -> bool {
        self.owned.contains(id)
    }

    /// A container found running is in charge from now on.
    pub(crate) fn adopt(&self, id: OciId) {
        self.owned.insert(id);
    }

    pub(crate) fn volume(&self, workspace: &WorkspaceId) -> Volume {
        Volume::at(&self.data_dir, workspace)
    }

    pub(crate) fn user() -> User {
        User::default()
    }

    /// Starts the generation that the record names; returns when its init answers. A failed
    /// launch leaves nothing behind. Not cancel safe.
    ///
    /// # Errors
    /// `NotReady`, mostly; the cause says which part.
    pub(crate) async fn launch(
        &self,
        record: &WorkspaceRecord,
        urgency: Urgency,
    ) -> Result<InitClient, Error> {
        let template = self.template(&record.template)?;
        let _turn = self.turns.take(urgency).await?;
        self.bury_earlier_ones(&record.container).await?;
        let id = self.id_of(record);
        self.owned.insert(id.clone());
        let launched = self.try_launch(&id, record, &template).await;
        if launched.is_err() {
            self.clear(&id).await;
        }
        launched
    }

    /// After a failed start or wake.
    pub(super) async fn clear(&self, id: &OciId) {
        if let Err(error) = self.teardown(id).await {
            tracing::warn!(container = id.as_str(), %error, "a failed start left something");
        }
    }

    async fn try_launch(
        &self,
        id: &OciId,
        record: &WorkspaceRecord,
        template: &Template,
    ) -> Result<InitClient, Error> {
        let began = Instant::now();
        let netns = self
            .network
            .prepare(id, record.address)
            .await
            .map_err(no_network)?;
        self.let_go(record.address).await?;
        let networked = began.elapsed();
        let provision = self.provisioner.ready(template)?;
        let spec = self.spec(id, record, template, &provision, netns.path());
        self.runtime.start(&spec).await.map_err(not_started)?;
        netns.keep();
        let started = began.elapsed();
        let init = Self::init_of(record);
        self.wait_for_init(id, &init, timing::INIT_READY).await?;
        tracing::debug!(
            container = id.as_str(), ?networked, ?started, ready = ?began.elapsed(), "launched",
        );
        Ok(init)
    }

    pub(super) fn spec(
        &self,
        id: &OciId,
        record: &WorkspaceRecord,
        template: &Template,
        provision: &Provision,
        netns: &Path,
    ) -> ContainerSpec {
        let volume = self.volume(&record.id);
        ContainerSpec {
            id: id.clone(),
            rootfs: provision.rootfs.clone(),
            binds: provision
                .layer
                .as_ref()
                .map(Layer::binds)
                .unwrap_or_default(),
            volume: volume.data(),
            jobs: volume.jobs(),
            init: self.init.clone(),
            init_token: record.init_token.clone(),
            netns: netns.to_owned(),
            address: record.address,
            hostname: record.slug.as_str().to_owned(),
            environment: self.environment(template, provision),
            user: Self::user(),
            limits: template.limits.over(self.limits),
        }
    }

    /// Until it answers; gives up early if its container ends meanwhile.
    pub(super) async fn wait_for_init(
        &self,
        id: &OciId,
        init: &InitClient,
        within: Duration,
    ) -> Result<(), Error> {
        let ready = init.wait_ready(Instant::now() + within);
        let ended = async {
            let mut look = interval_at(Instant::now() + timing::START_LOOK, timing::START_LOOK);
            loop {
                look.tick().await;
                let status = self.runtime.status(id).await;
                if let Ok(ContainerStatus::Stopped | ContainerStatus::Absent) = status {
                    return;
                }
            }
        };
        tokio::select! {
            ready = ready => ready.map_err(|error| Error::caused(
                ErrorKind::NotReady, "the container started, but does not answer", error,
            )),
            () = ended => Err(Error::new(
                ErrorKind::NotReady, "the container ended while it started",
            )),
        }
    }

    /// Whether more want to start than may at once.
    pub(crate) fn is_crowded(&self) -> bool {
        self.turns.are_all_taken()
    }

    /// Until this is dropped, no refill begins (for so long as a refill yields at all).
    pub(crate) fn before_refills(&self) -> Waiting<'_> {
        self.turns.first()
    }

    /// For a refill: lets everybody who waits go first; not for ever.
    pub(crate) async fn after_others(&self) {
        self.turns.others().await;
    }

    /// How to talk to the init of the container that the record names.
    pub(crate) fn init_of(record: &WorkspaceRecord) -> InitClient {
        let address = SocketAddrV4::new(record.address, CONTROL_PORT);
        InitClient::new(address.into(), &record.init_token)
    }

    /// Kills it and takes every trace away, volume and record excepted. Idempotent.
    ///
    /// # Errors
    /// What could not be taken away; `reconcile` tries again.
    pub(crate) async fn teardown(&self, id: &OciId) -> Result<(), Error> {
        let removed = self.runtime.remove(id).await;
        match &removed {
            Ok(()) => self.undead.remove(id),
            Err(_) => self.undead.insert(id.clone()).then(|| id.clone()),
        };
        // Only then the network: a dying process must not meet a half-taken one.
        let released = self.network.release(id).await;
        // In any case nobody is in charge any more: what is left counts as an orphan.
        self.owned.remove(id);
        removed.map_err(not_removed)?;
        released.map_err(no_network)
    }

    /// Kills it and takes away what the runtime has of it; its network goes with all others', see
    /// [`Network::close`].
    ///
    /// # Errors
    /// The runtime's.
    pub(crate) async fn teardown_at_the_end(&self, id: &OciId) -> Result<(), Error> {
        self.runtime.remove(id).await.map_err(not_removed)?;
        self.owned.remove(id);
        Ok(())
    }

    /// At most one generation of a container runs: what could not be ended is ended now.
    ///
    /// # Errors
    /// `NotReady`: it still cannot.
    pub(super) async fn bury_earlier_ones(&self, container: &ContainerId) -> Result<(), Error> {
        let of_it = |id: &OciId| {
            let parts = OciId::parse(&self.instance, id.as_str());
            parts.is_some_and(|(found, _)| found == *container)
        };
        let undead = self.undead.iter().filter(|id| of_it(id));
        let undead: Vec<OciId> = undead.map(|id| id.clone()).collect();
        for id in undead {
            self.teardown(&id).await?;
        }
        Ok(())
    }

    pub(crate) async fn status(&self, id: &OciId) -> Result<ContainerStatus, RuntimeError> {
        self.runtime.status(id).await
    }

    /// What the container uses now.
    ///
    /// # Errors
    /// `NotReady` when the runtime does not say.
    pub(crate) async fn usage(&self, id: &OciId) -> Result<Usage, Error> {
        self.runtime.usage(id).await.map_err(|error| {
            Error::caused(ErrorKind::NotReady, "the usage is not known now", error)
        })
    }

    /// What went over the container's network.
    pub(crate) fn traffic(&self, id: &OciId) -> Traffic {
        self.network.traffic(id)
    }

    /// What went to and from disks.
    pub(crate) fn disk(&self, id: &OciId) -> Traffic {
        self.runtime.disk(id)
    }

    /// One of the templates.
    ///
    /// # Errors
    /// `Invalid`, with the names that there are.
    pub(crate) fn template(&self, name: &TemplateName) -> Result<Arc<Template>, Error> {
        self.templates.get(name).ok_or_else(|| {
            let names: Vec<String> = self
                .templates
                .names()
                .iter()
                .map(ToString::to_string)
                .collect();
            Error::new(
                ErrorKind::Invalid,
                format!("no template '{name}'; there are: {}", names.join(", ")),
            )
        })
    }

    fn environment(&self, template: &Template, provision: &Provision) -> Vec<(String, String)> {
        let mut environment = vec![(
            "__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS".to_owned(),
            format!(".{}", self.domain.trim_start_matches('.')),
        )];
        environment.extend(provision.environment(true));
        // What the template says wins.
        let said = |name: &String| template.environment.iter().any(|(other, _)| other == name);
        environment.retain(|(name, _)| !said(name));
        environment.extend(template.environment.iter().cloned());
        environment.sort();
        environment
    }
}

pub(super) fn no_network(error: NetworkError) -> Error {
    let message = match error {
        NetworkError::Exhausted => "no free container address",
        NetworkError::Refused { .. } => "the container's network could not be set up",
    };
    Error::caused(ErrorKind::NotReady, message, error)
}

fn not_started(error: RuntimeError) -> Error {
    Error::caused(
        ErrorKind::NotReady,
        "the container could not be started",
        error,
    )
}

fn not_removed(error: RuntimeError) -> Error {
    Error::caused(
        ErrorKind::NotReady,
        "the container could not be removed",
        error,
    )
}
