//! An init of a test's own, gone with all that it started when the test ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fleet::id::JobId;
use init_protocol::{CONTROL_PORT, Run};
use pool_backend::init_client::{InitClient, JobOutput, OutputLimits};
use rand::Rng as _;
use tokio::time::Instant;

/// Longer than anything in these stories takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TOKEN: &str = "a token of this test";

pub struct World {
    pub client: InitClient,
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    unshare: Child,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `wrapper`: a command that is given init's as its arguments.
    pub async fn start_with(wrapper: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["workspace", "jobs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let address = own_loopback();
        let config = serde_json::json!({
            "token": TOKEN,
            "workspace": dir.path().join("workspace"),
            "jobs": dir.path().join("jobs"),
            "listen": address,
        });
        let path = dir.path().join("init.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(wrapper)
            .args([binary(), path])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let client = InitClient::new(address, TOKEN);
        let world = Self {
            client,
            address,
            dir,
            unshare,
        };
        world
            .client
            .wait_ready(Instant::now() + PATIENCE)
            .await
            .unwrap();
        world
    }

    pub fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    /// A shell line in the workspace.
    pub fn line(&self, command: &str) -> Run {
        Run {
            job: JobId::mint().as_str().to_owned(),
            command: command.to_owned(),
            working_dir: self.workspace().to_str().unwrap().to_owned(),
            environment: Vec::new(),
            wait: true,
            output: true,
            timeout_ms: Some(20_000),
            grace_ms: 200,
        }
    }

    /// Runs a shell line: exit code, stdout, stderr.
    pub async fn sh(&self, command: &str) -> (i32, String, String) {
        let (state, JobOutput { stdout, stderr }) = self
            .client
            .execute(&self.line(command), OutputLimits::ALL)
            .await
            .unwrap();
        (state.exit_code.unwrap(), stdout.to_text(), stderr.to_text())
    }

    /// Init's pid, as we see it.
    pub fn pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let children = std::fs::read_to_string(children).unwrap();
        children.trim().parse().unwrap()
    }

    /// A number in KiB from init's status.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Takes init with it, and that its namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An address of the loopback net that no other test uses.
pub fn own_loopback() -> SocketAddr {
    let mut rng = rand::rng();
    let [a, b, c]: [u8; 3] = rng.random();
    (
        Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)),
        CONTROL_PORT,
    )
        .into()
}

fn binary() -> PathBuf {
    let path = std::env::var_os("FLEEKS_INIT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/workspace-init"),
        PathBuf::from,
    );
    assert!(path.is_file(), "no {}: run `make init`", path.display());
    path
}
