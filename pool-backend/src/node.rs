//! The engine as one thing: built, adopted, running, drained.
//!
//! Must never happen here: serving before adoption has ended.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::directory::Directory;
use fleet::door::Door;
use fleet::instance::DataDir;
use fleet::lifecycle::State;
use fleet::record::{RecordStore, WorkspaceRecord};
use fleet::timing;
use futures_util::{StreamExt as _, stream};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::NodeConfig;
use crate::door::NodeDoor;
use crate::driver::launch::{self, Launcher};
use crate::engine::{self, Engine};
use crate::error::{Error, ErrorKind};
use crate::keeper::{self, Shelf, Sizer};
use crate::network::Network;
use crate::pool::PoolSize;
use crate::provision;
use crate::runtime::{self, RuntimeKind, Settings, inflight};
use crate::snapshot::SnapshotStore;
use crate::template::Templates;
use crate::workspaces::Workspaces;
use crate::{adopt, idle, reconcile, sweep};

/// Containers that are stopped together on shutdown.
const STOPPED_AT_ONCE: usize = 8;
/// Warm ones that are taken away together: little work, and mostly waiting.
const SCRAPPED_AT_ONCE: usize = 32;

/// See the module. Dropped without [`Node::shutdown`], it leaves its containers running, as a
/// killed process would; the next start on the same data dir adopts them.
pub struct Node {
    engine: Arc<Engine>,
}

impl Node {
    /// Loads the records, adopts what runs, fills the directory, and begins to work. When it
    /// returns, requests will succeed.
    ///
    /// # Errors
    /// A bad template, a runtime that does not work, a network that cannot be set up.
    pub async fn start(
        config: NodeConfig,
        data: DataDir,
        directory: Arc<dyn Directory>,
    ) -> Result<Arc<Self>, Error> {
        let data_dir = data.path().to_owned();
        let templates = Templates::load(config.template_dir.as_deref())
            .map_err(|error| Error::caused(ErrorKind::Invalid, error.to_string(), error))?;
        if let Some(unknown) = config
            .pools
            .keys()
            .find(|name| templates.get(name).is_none())
        {
            let message = format!("a pool is configured for '{unknown}', but no such template");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        inflight::settle(data.instance()).await;
        let (store, records, init) = prepare_data(data_dir.clone(), config.init_binary).await?;
        let snapshots = open_snapshots(&data_dir, config.snapshot_bytes, &records).await?;
        let addresses = records.iter().map(|record| record.address).collect();
        let network = Network::open(data.instance().clone(), &data_dir, addresses)
            .await
            .map_err(|error| Error::caused(ErrorKind::Internal, error.to_string(), error))?;
        let settings = Settings {
            instance: data.instance().clone(),
            data_dir: data_dir.clone(),
            prefix: config.prefix.clone(),
            resolvers: network.resolvers().to_vec(),
        };
        let runtime = runtime::select(config.runtime, settings.clone(), &network)
            .await
            .map_err(|error| Error::caused(ErrorKind::Internal, error.to_string(), error))?;
        let foreign = sweep::remove_all(runtime.kind().other(), &settings).await?;
        if foreign > 0 {
            let runtime = runtime.kind().other().name();
            tracing::warn!(foreign, runtime, "containers of the other runtime are gone");
        }
        let shelves: BTreeMap<_, _> = templates
            .names()
            .into_iter()
            .map(|name| {
                let none = PoolSize::fixed(0);
                let size = config.pools.get(&name).copied().unwrap_or(none);
                (name.clone(), Arc::new(Shelf::new(name, size)))
            })
            .collect();
        let launcher = Launcher::new(launch::Parts {
            instance: data.instance().clone(),
            data_dir,
            store: store.clone(),
            templates,
            network,
            runtime,
            snapshots,
            limits: config.limits,
            init,
            domain: config.domain,
            faults: config.fail_points,
        });
        let engine = Engine::new(engine::Parts {
            data,
            directory,
            launcher,
            store,
            shelves,
            pool_memory: config.pool_memory,
            last_number: last_number(&records),
            freeze_after: config.freeze_after,
            reconcile_every: config.reconcile_every,
        });
        let node = Arc::new(Self { engine });
        adopt::adopt(&node.engine, records).await?;
        node.begin();
        Ok(node)
    }

    /// Keepers, who gives them room, reconcile, who puts idle ones to sleep, and the ear for wakes.
    fn begin(&self) {
        let engine = &self.engine;
        let sizer = Sizer::new(engine);
        engine.tasks.spawn(sizer.run(Arc::clone(engine)));
        for shelf in engine.shelves.values() {
            let keeper = keeper::keep(Arc::clone(engine), Arc::clone(shelf));
            engine.tasks.spawn(keeper);
        }
        engine.tasks.spawn(reconcile::run(Arc::clone(engine)));
        engine.tasks.spawn(idle::run(Arc::clone(engine)));
        engine.tasks.spawn(listen(Arc::clone(engine)));
        engine
            .tasks
            .spawn(provision::look_around(Arc::clone(engine)));
    }

    /// What the gateway sees.
    pub fn door(&self) -> Arc<dyn Door> {
        Arc::new(NodeDoor::new(Arc::clone(&self.engine)))
    }

    /// What the API sees.
    pub fn workspaces(self: &Arc<Self>) -> Workspaces {
        Workspaces::new(Arc::clone(self))
    }

    /// What it counts, into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let engine = Arc::downgrade(&self.engine);
        self.engine.launcher.metrics.register(registry, engine);
    }

    /// Which runtime runs the containers.
    pub fn runtime(&self) -> RuntimeKind {
        self.engine.launcher.runtime.kind()
    }

    /// Stops everything and leaves nothing but the data dir: workspaces become Stopped and keep
    /// their volumes, hibernated ones stay Hibernated with their snapshots, warm containers go with theirs, networks and rules are taken away.
    pub async fn shutdown(&self) {
        let engine = &self.engine;
        engine.resting.cancel();
        engine.launcher.provisioner.close().await;
        self.stop_all().await;
        let warm: Vec<_> = engine
            .shelves
            .values()
            .flat_map(|shelf| shelf.evict(|_| true))
            .collect();
        stream::iter(warm)
            .for_each_concurrent(SCRAPPED_AT_ONCE, |warm| {
                engine.scrap_at_the_end(warm.record)
            })
            .await;
        engine.tasks.close();
        // Refills underway and deletions; drivers end with the token only.
        let idle = async {
            let mut look = interval(timing::DRAIN_LOOK);
            while engine.tasks.len() > engine.table.all().len() {
                look.tick().await;
            }
        };
        if timeout(timing::DRAIN, idle).await.is_err() {
            tracing::warn!("something still goes on; it is left to the next start");
        }
        // Those that were being made when the first pass began.
        self.stop_all().await;
        engine.cancelled.cancel();
        if timeout(timing::DRAIN, engine.tasks.wait()).await.is_err() {
            tracing::warn!("a driver does not end");
        }
        engine.launcher.runtime.close();
        if let Err(error) = engine.launcher.network.close().await {
            tracing::warn!(%error, "the network is not all gone");
        }
    }

    async fn stop_all(&self) {
        stream::iter(self.engine.table.all())
            .for_each_concurrent(STOPPED_AT_ONCE, |handle| async move {
                if let Err(error) = handle.rest().await
                    && error.kind != ErrorKind::NotFound
                {
                    tracing::warn!(workspace = %handle.id(), %error, "not stopped");
                }
            })
            .await;
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.engine.resting.cancel();
        self.engine.cancelled.cancel();
    }
}

/// Without what was left of workspaces that are gone, and of checkpoints that were cut off.
async fn open_snapshots(
    data_dir: &Path,
    most: Option<u64>,
    records: &[WorkspaceRecord],
) -> Result<SnapshotStore, Error> {
    let unusable = |error| Error::from_io("the snapshots cannot be opened", error);
    let snapshots = SnapshotStore::open(data_dir, most).map_err(unusable)?;
    let known: HashSet<_> = records.iter().map(|record| record.id.clone()).collect();
    if let Err(error) = snapshots.sweep(|id| known.contains(id)).await {
        tracing::warn!(%error, "what is left of snapshots stays");
    }
    Ok(snapshots)
}

/// Reads the records and puts init where containers find it.
async fn prepare_data(
    data_dir: PathBuf,
    init_binary: &'static [u8],
) -> Result<(RecordStore, Vec<WorkspaceRecord>, PathBuf), Error> {
    let prepared = tokio::task::spawn_blocking(move || {
        let store = RecordStore::open(&data_dir)
            .map_err(|error| Error::caused(ErrorKind::Internal, error.to_string(), error))?;
        let (records, damaged) = store.load_workspaces();
        for damaged in damaged {
            tracing::error!(path = %damaged.path.display(), why = damaged.why, "a damaged record");
        }
        let init = install_init(&data_dir, init_binary)
            .map_err(|error| Error::from_io("init could not be installed", error))?;
        Ok((store, records, init))
    });
    prepared
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, "the start was cut short", error))?
}

/// Replaced by rename: containers of before keep the one that they have.
fn install_init(data_dir: &Path, binary: &[u8]) -> io::Result<PathBuf> {
    let path = data_dir.join("init");
    if std::fs::read(&path).is_ok_and(|there| there == binary) {
        return Ok(path);
    }
    let new = data_dir.join(".init.new");
    std::fs::write(&new, binary)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&new, &path)?;
    Ok(path)
}

fn last_number(records: &[WorkspaceRecord]) -> u32 {
    let claims = records.iter().filter_map(|record| record.claim.as_ref());
    claims.map(|claim| claim.number).max().unwrap_or(0)
}

/// Hears of rows that want to run here, and looks for them itself: a lost message delays only.
async fn listen(engine: Arc<Engine>) {
    let mut changes = engine.directory.changes();
    let mut look = interval(timing::ROUTE_POLL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = engine.resting.cancelled() => return,
            change = changes.recv() => match change {
                Ok(change) => {
                    if let Some(route) = change.route
                        && route.node == engine.node
                        && let Some(handle) = engine.table.by_id(&route.workspace)
                    {
                        match route.state {
                            State::Starting | State::Waking => handle.nudge(route.generation),
                            // Our own report, or somebody who wants it thawed?
                            state if state.is_still() => look_for_work(&engine).await,
                            _ => {}
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => look_for_work(&engine).await,
        }
    }
}

async fn look_for_work(engine: &Engine) {
    match engine.directory.work(&engine.node).await {
        Ok(rows) => {
            for row in rows {
                if let Some(handle) = engine.table.by_id(&row.workspace) {
                    handle.nudge(row.generation);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the directory does not say what to do"),
    }
}
