//! What the cases share: an instance of its own per case, and containers whose init is a shell
//! script that leaves its result in the volume.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleeks_tests::plot::Plot;
use fleet::id::{ContainerId, Generation, InstanceId};
use pool_backend::config::{Limits, RuntimeChoice};
use pool_backend::network::Network;
use pool_backend::runtime::{self, ContainerSpec, OciId, Rootfs, Runtime, Settings, User};

/// Nothing here takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Rig {
    pub choice: RuntimeChoice,
    pub instance: InstanceId,
    pub data_dir: PathBuf,
    pub network: Arc<Network>,
    pub runtime: Arc<dyn Runtime>,
    owned: Option<Plot>,
    closed: bool,
}

/// A container of a rig.
pub struct Sandbox {
    pub id: OciId,
    pub address: Ipv4Addr,
    pub volume: PathBuf,
}

/// What a script did.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub output: String,
}

pub fn prefix() -> PathBuf {
    std::env::var_os("FLEEKS_PREFIX").map_or_else(|| PathBuf::from("/opt/fleeks"), PathBuf::from)
}

impl Rig {
    pub async fn new(choice: RuntimeChoice) -> Self {
        let (plot, instance) = (Plot::claim().unwrap(), InstanceId::mint());
        plot.name_instance(instance.as_str()).unwrap();
        let mut rig = Self::at(choice, instance, plot.path()).await;
        rig.owned = Some(plot);
        rig
    }

    /// A rig over a data dir that may have been used before.
    pub async fn at(choice: RuntimeChoice, instance: InstanceId, data_dir: &Path) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let network = Network::open(instance.clone(), data_dir, Vec::new())
            .await
            .unwrap();
        let settings = Settings {
            instance: instance.clone(),
            data_dir: data_dir.to_owned(),
            prefix: prefix(),
            resolvers: network.resolvers().to_vec(),
        };
        let network = Arc::new(network);
        let runtime = runtime::select(choice, settings, &network).await.unwrap();
        Self {
            choice,
            instance,
            data_dir: data_dir.to_owned(),
            network,
            runtime,
            owned: None,
            closed: false,
        }
    }

    pub fn spec(
        &self,
        name: &str,
        script: &str,
        address: Ipv4Addr,
        limits: Limits,
    ) -> ContainerSpec {
        let id = OciId::new(&self.instance, &ContainerId::mint(), Generation(1));
        let directory = self.data_dir.join(name);
        for part in ["volume/.home", "jobs"] {
            std::fs::create_dir_all(directory.join(part)).unwrap();
        }
        let init = directory.join("init");
        std::fs::write(
            &init,
            format!(
                "#!/bin/sh\n( {script}\n) >/workspace/.output 2>&1\necho $? >/workspace/.code.new\n\
                 mv /workspace/.code.new /workspace/.code\nexec sleep infinity\n"
            ),
        )
        .unwrap();
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).unwrap();
        ContainerSpec {
            netns: PathBuf::from("/run/netns").join(id.as_str()),
            id,
            rootfs: Rootfs::Host,
            binds: Vec::new(),
            volume: directory.join("volume"),
            jobs: directory.join("jobs"),
            init,
            init_token: "token".to_owned(),
            address,
            hostname: format!("workspace-{name}"),
            environment: Vec::new(),
            user: User::default(),
            limits,
        }
    }

    pub async fn start_with(&self, name: &str, script: &str, limits: Limits) -> Sandbox {
        let address = self.network.mint_address().await.unwrap();
        let spec = self.spec(name, script, address, limits);
        let netns = self.network.prepare(&spec.id, address).await.unwrap();
        self.runtime.start(&spec).await.unwrap();
        netns.keep();
        Sandbox {
            id: spec.id,
            address,
            volume: spec.volume,
        }
    }

    pub async fn start(&self, name: &str, script: &str) -> Sandbox {
        self.start_with(name, script, Limits::default()).await
    }

    /// Runs a script to its end in a container of its own.
    pub async fn run(&self, name: &str, script: &str) -> Outcome {
        let sandbox = self.start(name, script).await;
        let outcome = sandbox.outcome().await;
        self.remove(&sandbox).await;
        outcome
    }

    pub async fn remove(&self, sandbox: &Sandbox) {
        self.runtime.remove(&sandbox.id).await.unwrap();
        self.network.release(&sandbox.id).await.unwrap();
    }

    /// Ends the rig and looks for what it left behind.
    pub async fn close(mut self) {
        self.closed = true;
        tear_down(&*self.runtime, &self.network).await;
        assert_eq!(traces(&self.instance), Vec::<String>::new());
    }
}

async fn tear_down(runtime: &dyn Runtime, network: &Network) {
    for (id, _) in runtime.list().await.unwrap() {
        runtime.remove(&id).await.unwrap();
    }
    runtime.close();
    network.close().await.unwrap();
}

impl Drop for Rig {
    /// A failed case cleans up, too.
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let (runtime, network) = (self.runtime.clone(), self.network.clone());
        let tokio = tokio::runtime::Handle::current();
        let cleaned = std::thread::spawn(move || {
            tokio.block_on(tear_down(&*runtime, &network));
        });
        drop(cleaned.join());
        drop(self.owned.take());
    }
}

impl Sandbox {
    pub async fn outcome(&self) -> Outcome {
        outcome_in(&self.volume).await
    }
}

/// What the script of a volume's container did.
pub async fn outcome_in(volume: &Path) -> Outcome {
    let file = volume.join(".code");
    wait_for("the script's end", || file.exists()).await;
    Outcome {
        code: std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap(),
        output: std::fs::read_to_string(volume.join(".output")).unwrap(),
    }
}

pub async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Everything on this machine that carries the instance's name.
pub fn traces(instance: &InstanceId) -> Vec<String> {
    let mut found = Vec::new();
    let name = instance.as_str();
    for directory in ["/run/netns", "/sys/class/net"] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = hierarchy.path().join("fleeks").join(name);
        if path.exists() {
            found.push(path.display().to_string());
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&format!("{name}-")))
            .map(str::to_owned),
    );
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path().join("cmdline");
        let command = std::fs::read(&path).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&format!("{name}-")) {
            found.push(command);
        }
    }
    found
}
