//! What the node asks of the init inside, and what is said of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::id::JobId;
use init_protocol::{CONTROL_PORT, JobStatus, Run};
use pool_backend::init_client::{InitClient, OutputLimits};
use tokio::time::Instant;

use crate::rig::PATIENCE;
use crate::sleeper::Sleeper;

pub struct Inside {
    pub client: InitClient,
}

impl Inside {
    pub fn of(sleeper: &Sleeper) -> Self {
        let address = (sleeper.spec.address, CONTROL_PORT).into();
        let client = InitClient::new(address, &sleeper.spec.init_token);
        Self { client }
    }

    fn line(command: &str, wait: bool) -> Run {
        Run {
            job: JobId::mint().as_str().to_owned(),
            command: command.to_owned(),
            working_dir: "/workspace".to_owned(),
            environment: Vec::new(),
            wait,
            output: wait,
            timeout_ms: wait.then_some(60_000),
            grace_ms: 200,
        }
    }

    pub async fn start(&self, command: &str) -> JobId {
        let run = Self::line(command, false);
        self.client.start(&run).await.unwrap();
        run.job.parse().unwrap()
    }

    pub async fn sh(&self, command: &str) -> String {
        let run = Self::line(command, true);
        let (_, output) = self.client.execute(&run, OutputLimits::ALL).await.unwrap();
        output.stdout.to_text() + &output.stderr.to_text()
    }

    pub async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        self.client.wait_ready(deadline).await.unwrap();
    }

    pub async fn wait_for(&self, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        let line = format!("{condition} && echo yes");
        while !self.sh(&line).await.contains("yes") {
            assert!(Instant::now() < deadline, "waited in vain: {condition}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn said(&self, job: &JobId) -> String {
        let output = self.client.output(job, OutputLimits::ALL).await.unwrap();
        output.stdout.to_text() + &output.stderr.to_text()
    }

    pub async fn kill(&self, job: &JobId) {
        let stopped = self.client.stop(job, Duration::from_secs(2)).await;
        assert_ne!(stopped.unwrap().status, JobStatus::Running);
    }

    /// What a job says before it ends well.
    pub async fn end(&self, job: &JobId) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.client.job(job).await.unwrap();
            if state.status != JobStatus::Running {
                let said = self.said(job).await;
                assert_eq!(state.status, JobStatus::Completed, "{said}");
                return said;
            }
            assert!(Instant::now() < deadline, "a job that does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn init() -> PathBuf {
    let path = std::env::var_os("FLEEKS_INIT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/workspace-init"),
        PathBuf::from,
    );
    assert!(path.is_file(), "no {}: run `make init`", path.display());
    path
}
