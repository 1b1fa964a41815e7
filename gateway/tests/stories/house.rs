//! A gateway with a directory, a door and apps, all on loopback. Directory and gateway are the
//! real ones; the door leads to sockets of this process instead of containers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fleet::directory::local::LocalDirectory;
use fleet::directory::{Directory, Row};
use fleet::door::{
    Admission, Connect, ConnectError, Door, DoorUnavailable, Guard, NotListening, PortChoice,
    Standing, Stay, Upstream, Visit,
};
use fleet::id::{ContainerId, Generation, NodeId, OwnerId, Slug, WorkspaceId};
use fleet::lifecycle::State;
use fleet::share::ShareKey;
use gateway::{Gateway, GatewayConfig, Limits, Metrics, Parts};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

pub const DOMAIN: &str = "fleeks.localhost";
/// Signs share links.
pub const SHARE_KEY: [u8; 32] = [7; 32];

/// Everything; dropped at the end of a test.
pub struct House {
    pub directory: Arc<LocalDirectory>,
    pub node: Arc<Node>,
    pub metrics: Arc<Metrics>,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub cert: CertificateDer<'static>,
    pub api_socket: std::path::PathBuf,
    pub stop: watch::Sender<bool>,
    pub gateway: Option<JoinHandle<()>>,
    waker: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.waker.abort();
        if let Some(gateway) = &self.gateway {
            gateway.abort();
        }
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let api_socket = dir.path().join("api.sock");
        let (tls, cert) = certificate();
        let me = NodeId::mint();
        let directory = Arc::new(LocalDirectory::new(me.clone()));
        let node = Arc::new(Node::new(me));
        let any = "127.0.0.1:0".parse().unwrap();
        let mut config = GatewayConfig::new(DOMAIN, any, any);
        config.forbidden_ports = vec![64999];
        config.limits = limits;
        let parts = Parts {
            directory: directory.clone(),
            door: node.clone(),
            tls,
            api_socket: api_socket.clone(),
            share_key: Arc::new(ShareKey::from_bits(&SHARE_KEY)),
        };
        let gateway = Gateway::bind(config, parts).await.unwrap();
        let (https, http) = (gateway.https_addr(), gateway.http_addr());
        let metrics = gateway.metrics();
        let (stop, stopped) = watch::channel(false);
        let waker = tokio::spawn(wake_what_is_asked(directory.clone(), node.clone()));
        Self {
            directory,
            node,
            metrics,
            https,
            http,
            cert,
            api_socket,
            stop,
            gateway: Some(tokio::spawn(gateway.run(stopped))),
            waker,
            _dir: dir,
        }
    }

    /// The node reports that the workspace has stopped.
    pub async fn directory_stops(&self, workspace: &Workspace) {
        let row = self.directory.row(&workspace.id).await.unwrap().unwrap();
        let report = self
            .directory
            .report(&workspace.id, row.generation, State::Stopped);
        report.await.unwrap();
    }

    /// A running workspace whose main port is `app`.
    pub async fn workspace(&self, app: SocketAddr) -> Workspace {
        self.workspace_in(State::Running, true, app).await
    }

    pub async fn workspace_in(&self, state: State, auto_wake: bool, app: SocketAddr) -> Workspace {
        let row = Row {
            workspace: WorkspaceId::mint(),
            owner: OwnerId::mint(),
            project: "demo".parse().unwrap(),
            slug: Slug::mint(),
            container: ContainerId::mint(),
            template: "default".parse().unwrap(),
            node: self.node.id.clone(),
            state,
            generation: Generation(1),
            auto_wake,
            private: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let workspace = Workspace {
            id: row.workspace.clone(),
            slug: row.slug.clone(),
        };
        self.node.rooms.lock().unwrap().insert(
            row.workspace.clone(),
            Room {
                generation: 1,
                awake: state == State::Running,
                apps: HashMap::from([(3000, app)]),
                known_as: None,
                standing: watch::Sender::new(Standing::Live),
                used: Arc::default(),
                answered: Arc::default(),
            },
        );
        self.directory.insert(row).await.unwrap();
        workspace
    }
}

pub struct Workspace {
    pub id: WorkspaceId,
    pub slug: Slug,
}

impl Workspace {
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.slug)
    }
}

/// What runs on the node, and the door to it.
pub struct Node {
    pub id: NodeId,
    pub rooms: Mutex<HashMap<WorkspaceId, Room>>,
    pub in_flight: Arc<AtomicUsize>,
    pub attached: Arc<AtomicUsize>,
    pub connects: Arc<AtomicUsize>,
    /// One permit per wake that may finish; plenty unless a test takes them.
    pub wakes: Semaphore,
    pub woken: AtomicUsize,
}

pub struct Room {
    pub generation: u64,
    pub awake: bool,
    pub apps: HashMap<u16, SocketAddr>,
    /// The container's address, where connections take another way to the app.
    pub known_as: Option<SocketAddr>,
    /// How the connections of those inside stand.
    pub standing: watch::Sender<Standing>,
    /// How often visitors who stay used it, and how often it said something to them.
    pub used: Arc<AtomicUsize>,
    pub answered: Arc<AtomicUsize>,
}

impl Room {
    /// Goes to sleep over open connections, as after a hibernation.
    pub fn sleep(&mut self) {
        self.awake = false;
        self.standing.send_replace(Standing::Still);
    }
}

impl Node {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            rooms: Mutex::default(),
            in_flight: Arc::default(),
            attached: Arc::default(),
            connects: Arc::default(),
            wakes: Semaphore::new(1000),
            woken: AtomicUsize::new(0),
        }
    }

    pub fn change(&self, workspace: &Workspace, change: impl FnOnce(&mut Room)) {
        change(self.rooms.lock().unwrap().get_mut(&workspace.id).unwrap());
    }

    /// The node and the directory agree that it sleeps.
    pub async fn sleeps(&self, house: &House, workspace: &Workspace) {
        let row = house.directory.row(&workspace.id).await.unwrap().unwrap();
        self.change(workspace, Room::sleep);
        for state in [
            State::Freezing,
            State::Frozen,
            State::Hibernating,
            State::Hibernated,
        ] {
            let report = house.directory.report(&workspace.id, row.generation, state);
            report.await.unwrap();
        }
    }
}

struct Visiting {
    in_flight: Arc<AtomicUsize>,
    attached: Arc<AtomicUsize>,
    stays: AtomicBool,
    standing: watch::Receiver<Standing>,
    used: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Drop for Visiting {
    fn drop(&mut self) {
        let count = match self.stays.load(SeqCst) {
            true => &self.attached,
            false => &self.in_flight,
        };
        count.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Stay for Visiting {
    fn attach(&self) {
        if !self.stays.swap(true, SeqCst) {
            self.attached.fetch_add(1, SeqCst);
            self.in_flight.fetch_sub(1, SeqCst);
        }
    }

    fn used(&self) {
        self.used.fetch_add(1, SeqCst);
    }

    fn answered(&self) {
        self.answered.fetch_add(1, SeqCst);
    }

    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    async fn changed(&self, seen: Standing) -> Standing {
        let mut standing = self.standing.clone();
        let changed = standing.wait_for(|standing| *standing != seen).await;
        changed.map_or(Standing::Lost, |standing| *standing)
    }
}

#[async_trait]
impl Door for Node {
    async fn admit(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
        port: PortChoice,
        visit: Visit,
    ) -> Result<Admission, DoorUnavailable> {
        let rooms = self.rooms.lock().unwrap();
        let Some(room) = rooms.get(workspace) else {
            return Ok(Admission::Moved);
        };
        if !room.awake {
            return Ok(Admission::Asleep);
        }
        if generation != Generation(room.generation) {
            return Ok(Admission::Moved);
        }
        let asked = match port {
            PortChoice::Main => room.apps.keys().min().copied(),
            PortChoice::Number(number) => Some(number),
        };
        let Some((port, address)) = asked.and_then(|port| Some((port, *room.apps.get(&port)?)))
        else {
            let mut listening: Vec<_> = room.apps.keys().copied().collect();
            listening.sort_unstable();
            return Ok(Admission::NotListening(NotListening {
                port: asked,
                listening,
            }));
        };
        let count = match visit {
            Visit::InFlight => &self.in_flight,
            Visit::Attached => &self.attached,
        };
        count.fetch_add(1, SeqCst);
        Ok(Admission::Admitted(Guard {
            port,
            upstream: Upstream {
                address: room.known_as.unwrap_or(address),
                pool_key: u64::from(port) << 32 | generation.0,
                connector: Arc::new(Straight(address, self.connects.clone())),
            },
            stay: Arc::new(Visiting {
                in_flight: self.in_flight.clone(),
                attached: self.attached.clone(),
                stays: AtomicBool::new(visit == Visit::Attached),
                standing: room.standing.subscribe(),
                used: room.used.clone(),
                answered: room.answered.clone(),
            }),
        }))
    }
}

struct Straight(SocketAddr, Arc<AtomicUsize>);

#[async_trait]
impl Connect for Straight {
    async fn connect(&self) -> Result<TcpStream, ConnectError> {
        self.1.fetch_add(1, SeqCst);
        TcpStream::connect(self.0)
            .await
            .map_err(|_| ConnectError::Gone)
    }
}

/// What a node's engine does: starts what the directory asks for, then reports.
async fn wake_what_is_asked(directory: Arc<LocalDirectory>, node: Arc<Node>) {
    let mut changes = directory.changes();
    loop {
        for row in directory.work(&node.id).await.unwrap() {
            node.wakes.acquire().await.unwrap().forget();
            node.woken.fetch_add(1, SeqCst);
            if let Some(room) = node.rooms.lock().unwrap().get_mut(&row.workspace) {
                room.generation = row.generation.0;
                room.awake = true;
                // Their connections came along, if there are any.
                if *room.standing.borrow() == Standing::Still {
                    room.standing.send_replace(Standing::Live);
                }
            }
            let report = directory.report(&row.workspace, row.generation, State::Running);
            report.await.unwrap();
        }
        let _ = changes.recv().await;
    }
}

pub fn certificate() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let names = vec![DOMAIN.to_owned(), format!("*.{DOMAIN}")];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    (Arc::new(config), cert)
}
