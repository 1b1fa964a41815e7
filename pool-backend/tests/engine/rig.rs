//! One node on a data dir of its own, which can be killed, started again and shut down, and which
//! leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleeks_tests::plot::Plot;
use fleet::directory::local::LocalDirectory;
use fleet::directory::{Directory as _, WakeBegun, WakeCause};
use fleet::id::{InstanceId, OwnerId};
use fleet::instance::DataDir;
use futures_util::{StreamExt as _, stream};
use pool_backend::config::{Limits, MemoryShare, NodeConfig, PoolSize, RuntimeChoice};
use pool_backend::node::Node;
use pool_backend::workspaces::{ByteStream, Command, Job, PoolStatus, Summary, WriteOptions};
use pool_backend::{Error, Workspace, Workspaces};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which pools a rig's node keeps.
#[derive(Clone, Default)]
pub struct Pools {
    sizes: Vec<(&'static str, PoolSize)>,
    memory: MemoryShare,
}

impl Pools {
    /// As on the command line: `("default", "2..50")`.
    pub fn of(sizes: &[(&'static str, &str)]) -> Self {
        let sizes = sizes
            .iter()
            .map(|(name, size)| (*name, size.parse().unwrap()));
        Self {
            sizes: sizes.collect(),
            memory: MemoryShare::default(),
        }
    }

    pub fn within(self, memory: MemoryShare) -> Self {
        Self { memory, ..self }
    }
}

pub struct Rig {
    home: Plot,
    pools: Pools,
    freeze_after: Duration,
    runtime: RuntimeChoice,
    node: Option<Arc<Node>>,
    pub directory: Arc<LocalDirectory>,
    pub instance: InstanceId,
    pub owner: OwnerId,
}

impl Rig {
    pub async fn new(pools: &[(&'static str, u32)]) -> Self {
        let sizes = pools
            .iter()
            .map(|(name, size)| (*name, PoolSize::fixed(*size)));
        Self::with_pools(Pools {
            sizes: sizes.collect(),
            memory: MemoryShare::default(),
        })
        .await
    }

    pub async fn with_pools(pools: Pools) -> Self {
        Self::make(pools, fleet::timing::FREEZE_AFTER, chosen()).await
    }

    /// Without pools, on this runtime.
    pub async fn on(runtime: RuntimeChoice) -> Self {
        Self::freezing_after(fleet::timing::FREEZE_AFTER, runtime).await
    }

    /// Who freezes what nobody used for this long.
    pub async fn freezing_after(freeze_after: Duration, runtime: RuntimeChoice) -> Self {
        Self::make(Pools::default(), freeze_after, runtime).await
    }

    async fn make(pools: Pools, freeze_after: Duration, runtime: RuntimeChoice) -> Self {
        log();
        let home = Plot::claim().unwrap();
        let data = DataDir::open(&home.path().join("data")).unwrap();
        let instance = data.instance().clone();
        let directory = Arc::new(LocalDirectory::new(data.node().clone()));
        let mut config = config(home.path(), &pools, runtime);
        config.freeze_after = freeze_after;
        let node = Node::start(config, data, directory.clone()).await.unwrap();
        Self {
            home,
            pools,
            freeze_after,
            runtime,
            node: Some(node),
            directory,
            instance,
            owner: OwnerId::mint(),
        }
    }

    pub fn node(&self) -> &Arc<Node> {
        self.node.as_ref().unwrap()
    }

    pub fn workspaces(&self) -> Workspaces {
        self.node().workspaces()
    }

    pub async fn create(&self, project: &str) -> Workspace {
        self.try_create(&self.owner, project, "default")
            .await
            .unwrap()
    }

    pub async fn try_create(
        &self,
        owner: &OwnerId,
        project: &str,
        template: &str,
    ) -> Result<Workspace, Error> {
        let (project, template) = (project.parse().unwrap(), template.parse().unwrap());
        self.workspaces().create(owner, &project, &template).await
    }

    pub fn get(&self, project: &str) -> Workspace {
        let project = project.parse().unwrap();
        self.workspaces().get(&self.owner, &project).unwrap()
    }

    /// Waits until the pool of `template` is full.
    pub async fn warm(&self, template: &str) {
        eventually("the pool is full", || {
            let pools = self.workspaces().pools();
            pools
                .iter()
                .any(|pool| pool.template.as_str() == template && pool.ready == pool.target)
        })
        .await;
    }

    /// How the pool of `template` stands.
    pub fn pool(&self, template: &str) -> PoolStatus {
        let mut pools = self.workspaces().pools().into_iter();
        let found = pools.find(|pool| pool.template.as_str() == template);
        found.unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Ends the node as a kill -9 would, and starts another one on the same data dir.
    pub async fn kill_and_start(&mut self) {
        self.node = None;
        self.start().await;
    }

    pub async fn shut_down(&mut self) {
        let node = self.node.take().unwrap();
        node.shutdown().await;
    }

    pub async fn start(&mut self) {
        let data = open_when_free(&self.home.path().join("data")).await;
        self.directory = Arc::new(LocalDirectory::new(data.node().clone()));
        let mut config = config(self.home.path(), &self.pools, self.runtime);
        config.freeze_after = self.freeze_after;
        let directory = self.directory.clone();
        self.node = Some(Node::start(config, data, directory).await.unwrap());
    }

    /// What of this instance is on the machine besides its data dir.
    pub fn leftovers(&self) -> Vec<String> {
        leftovers(&self.instance, self.home.path())
    }

    pub fn volume(&self, workspace: &Workspace) -> PathBuf {
        let id = workspace.summary().id;
        self.home.path().join("data/volumes").join(id.as_str())
    }

    /// Of this workspace; may not exist.
    pub fn snapshots(&self, workspace: &Workspace) -> PathBuf {
        let id = workspace.summary().id;
        self.home.path().join("data/snapshots").join(id.as_str())
    }

    /// What there is on the machine of this workspace's container, whatever its generation. The node
    /// may have others: after a start it asks a sandbox of its own for languages.
    pub fn traces_of(&self, workspace: &Workspace) -> Vec<String> {
        let container = workspace.summary().container;
        let (_, random) = container.as_str().split_once('_').unwrap();
        let name = format!("{}-{random}-", self.instance);
        let mut left = self.leftovers();
        left.retain(|line| line.contains(&name) && !line.starts_with("mount"));
        left
    }

    /// Until the directory says that it runs, as the gateway waits.
    pub async fn wake_as_gateway(&self, workspace: &Workspace) {
        let id = workspace.summary().id;
        let waking = async {
            let mut changes = self.directory.changes();
            loop {
                let begun = self.directory.begin_wake(&id, WakeCause::Preview).await;
                match begun.unwrap() {
                    WakeBegun::Ready(_) => return,
                    WakeBegun::Underway(_) => {}
                    WakeBegun::Failed(why) => panic!("{why}"),
                }
                // Anything new, or nothing for a while: look again.
                let _ = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
            }
        };
        tokio::time::timeout(PATIENCE, waking).await.unwrap();
    }

    /// The directory's view.
    pub async fn route(&self, workspace: &Workspace) -> Option<fleet::directory::Route> {
        let slug = workspace.summary().slug;
        self.directory.route(&slug).await.unwrap()
    }
}

impl Drop for Rig {
    /// However the test ended: whatever still runs is adopted and shut down.
    fn drop(&mut self) {
        self.node = None;
        let home = self.home.path().to_owned();
        let instance = self.instance.clone();
        let chosen = self.runtime;
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let data = open_when_free(&home.join("data")).await;
                let directory = Arc::new(LocalDirectory::new(data.node().clone()));
                let node = Node::start(config(&home, &Pools::default(), chosen), data, directory)
                    .await
                    .unwrap();
                node.shutdown().await;
            });
            leftovers(&instance, &home)
        });
        let left = cleaning.join();
        if !std::thread::panicking() {
            assert_eq!(left.unwrap(), Vec::<String>::new(), "left behind");
        }
    }
}

fn config(home: &Path, pools: &Pools, runtime: RuntimeChoice) -> NodeConfig {
    let sizes = pools.sizes.iter();
    let sizes = sizes.map(|(name, size)| (name.parse().unwrap(), *size));
    NodeConfig {
        data_dir: home.join("data"),
        runtime,
        prefix: std::env::var_os("FLEEKS_PREFIX").map_or("/opt/fleeks".into(), PathBuf::from),
        pools: sizes.collect(),
        pool_memory: pools.memory,
        template_dir: None,
        init_binary: init_binary(),
        limits: Limits {
            memory_bytes: 512 << 20,
            ..Limits::default()
        },
        domain: "fleeks.localhost".to_owned(),
        freeze_after: fleet::timing::FREEZE_AFTER,
        snapshot_bytes: None,
        reconcile_every: fleet::timing::RECONCILE,
        fail_points: pool_backend::faults::FailPoints::default(),
    }
}

/// With `FLEEKS_LOG=pool_backend=debug` and `--nocapture`; the first rig of all begins it.
fn log() {
    use tracing_subscriber::EnvFilter;
    if let Ok(filter) = EnvFilter::try_from_env("FLEEKS_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    }
}

/// For stories that do not name a runtime.
fn chosen() -> RuntimeChoice {
    if is_runsc() {
        RuntimeChoice::Runsc
    } else {
        RuntimeChoice::Runc
    }
}

pub fn is_runsc() -> bool {
    std::env::var("FLEEKS_TEST_RUNTIME").as_deref() == Ok("runsc")
}

fn init_binary() -> &'static [u8] {
    static BINARY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BINARY.get_or_init(|| {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/workspace-init");
        let path = std::env::var_os("FLEEKS_INIT").map_or(built, PathBuf::from);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; `make init`", path.display()))
    })
}

async fn open_when_free(path: &Path) -> DataDir {
    let began = Instant::now();
    loop {
        match DataDir::open(path) {
            Ok(data) => return data,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn run(workspace: &Workspace, command: &str) -> Job {
    workspace.execute(shell(command)).await.unwrap()
}

/// What a command prints, which must succeed.
pub async fn output(workspace: &Workspace, command: &str) -> String {
    let job = run(workspace, command).await;
    assert_eq!(
        job.exit_code,
        Some(0),
        "{command}: {}{}",
        job.stdout,
        job.stderr
    );
    job.stdout
}

pub fn shell(command: &str) -> Command {
    Command {
        command: command.to_owned(),
        working_dir: "/workspace".to_owned(),
        environment: Vec::new(),
        timeout: Some(Duration::from_secs(25)),
    }
}

pub async fn write(workspace: &Workspace, path: &str, content: &str) {
    let content = bytes_of(content.as_bytes().to_vec());
    let options = WriteOptions::default();
    workspace.write_file(path, content, options).await.unwrap();
}

pub fn bytes_of(content: Vec<u8>) -> ByteStream {
    stream::iter([Ok(Bytes::from(content))]).boxed()
}

pub async fn read(workspace: &Workspace, path: &str) -> Result<Vec<u8>, Error> {
    let (_, mut content) = workspace.read_file(path).await?;
    let mut all = Vec::new();
    while let Some(chunk) = content.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    Ok(all)
}

/// Kills the container's PID 1 from the outside, as an out-of-memory kill would; returns when it is
/// dead.
pub async fn kill_container(workspace: &Workspace) {
    let summary = workspace.summary();
    let pid = find_container(&summary).expect("a container that has the volume");
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let pid = pid.as_raw_nonzero();
    eventually("it is dead", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}

/// The host's pid of what is PID 1 in the namespace that has this volume; of the sandbox for runsc.
fn find_container(summary: &Summary) -> Option<i32> {
    let letters = summary.container.as_str().trim_start_matches("cnt_");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let read = |file: &str| {
                let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            if is_runsc() {
                let line = read("cmdline");
                return line.starts_with("runsc-sandbox") && line.contains(letters);
            }
            let status = read("status");
            let inner = status.lines().find(|line| line.starts_with("NSpid:"));
            let is_first = inner.is_some_and(|line| {
                let ids: Vec<&str> = line.split_whitespace().skip(1).collect();
                ids.len() > 1 && ids.last() == Some(&"1")
            });
            is_first && read("mountinfo").contains(summary.id.as_str())
        })
}

fn leftovers(instance: &InstanceId, home: &Path) -> Vec<String> {
    let instance = instance.as_str();
    let mut left = Vec::new();
    let mut found = |what: &str, text: String| {
        let lines = text.lines().filter(|line| line.contains(instance));
        left.extend(lines.map(|line| format!("{what}: {}", line.trim())));
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    found("link", said("ip", &["-o", "link"]));
    found("route", said("ip", &["route"]));
    found("nft", said("nft", &["list", "tables"]));
    found(
        "cgroup",
        said(
            "find",
            &[
                "/sys/fs/cgroup",
                "-type",
                "d",
                "-name",
                &format!("*{instance}*"),
            ],
        ),
    );
    let home = home.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts
        .lines()
        .filter(|line| line.contains(home) || line.contains(instance));
    left.extend(ours.map(|line| format!("mount: {line}")));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!("{instance}-")) {
            left.push(format!("process: {line}"));
        }
    }
    left
}
