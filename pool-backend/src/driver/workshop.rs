//! A sandbox of our own in which the node itself has something done: a network, a container, an
//! init, and nothing of them left afterwards. No workspace, no record, no way in.
//!
//! Must never happen here: a sandbox that outlives its work.

use std::path::PathBuf;
use std::time::Duration;

use fleet::id::{ContainerId, Generation, JobId};
use fleet::timing;
use init_protocol::{CONTROL_PORT, JobState, JobStatus, Run};
use tokio::time::Instant;

use super::launch::{Launcher, no_network};
use super::mint::mint_token;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::init_client::{Captured, InitClient, OutputLimits};
use crate::network::Netns;
use crate::runtime::{ContainerSpec, OciId, Rootfs};

/// What a sandbox is for.
pub(crate) struct Errand {
    /// What it sees as `/`.
    pub(crate) rootfs: Rootfs,
    /// `data` below it is at `/workspace`; made here.
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) limits: Limits,
}

impl Errand {
    /// Over the host's programs, in a new directory of that name.
    pub(crate) fn new(name: &str, launcher: &Launcher) -> Self {
        let staging = launcher.data_dir.join("layers/.staging");
        Self {
            rootfs: Rootfs::Host,
            directory: staging.join(format!("{name}-{}", ContainerId::mint())),
            environment: Vec::new(),
            limits: Limits {
                memory_bytes: launcher.limits.memory_bytes.max(4 << 30),
                ..launcher.limits
            },
        }
    }
}

/// The inside of one.
pub(crate) struct Workshop {
    init: InitClient,
}

/// What became of a shell line.
pub(crate) struct Said {
    state: JobState,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
}

impl Said {
    pub(crate) fn succeeded(&self) -> bool {
        self.state.status == JobStatus::Completed && self.state.exit_code == Some(0)
    }
}

impl Workshop {
    /// Runs a shell line to its end.
    ///
    /// # Errors
    /// `TimedOut`; `NotReady` when the sandbox ended meanwhile.
    pub(crate) async fn run(&self, line: &str, within: Duration) -> Result<Said, Error> {
        let run = Run {
            job: JobId::mint().as_str().to_owned(),
            command: line.to_owned(),
            working_dir: crate::oci::WORKSPACE.to_owned(),
            environment: Vec::new(),
            wait: true,
            output: true,
            timeout_ms: u64::try_from(within.as_millis()).ok(),
            grace_ms: u64::try_from(timing::JOB_KILL_GRACE.as_millis()).unwrap_or(0),
        };
        let ran = self.init.execute(&run, OutputLimits::ALL).await;
        let (state, output) = ran.map_err(|error| {
            Error::caused(ErrorKind::NotReady, "the sandbox does not answer", error)
        })?;
        if state.status == JobStatus::Timeout {
            return Err(Error::new(ErrorKind::TimedOut, "it took too long"));
        }
        Ok(Said {
            state,
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

impl Launcher {
    /// Has `work` done in a sandbox. Not cancel safe: run it in a task of the provisioner's.
    ///
    /// # Errors
    /// The work's; `NotReady` when the sandbox does not start, or the node shuts down.
    pub(crate) async fn at_workshop<T, F>(
        &self,
        errand: Errand,
        work: impl FnOnce(Workshop) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let address = self.network.mint_address().await.map_err(no_network)?;
        let id = OciId::new(&self.instance, &ContainerId::mint(), Generation(0));
        self.owned.insert(id.clone());
        // Not cut short by a shutdown: it takes some milliseconds, and has to be there to be cleared.
        let done = match self.network.prepare(&id, address).await {
            Ok(netns) => tokio::select! {
                done = self.open_and_work(&id, &errand, address, netns, work) => done,
                () = self.provisioner.closing() => {
                    Err(Error::new(ErrorKind::NotReady, "shutting down"))
                }
            },
            Err(error) => Err(no_network(error)),
        };
        self.clear(&id).await;
        self.network.free_address(address);
        done
    }

    async fn open_and_work<T, F>(
        &self,
        id: &OciId,
        errand: &Errand,
        address: std::net::Ipv4Addr,
        netns: Netns,
        work: impl FnOnce(Workshop) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (volume, jobs) = (errand.directory.join("data"), errand.directory.join("jobs"));
        for directory in [&volume.join(".home"), &jobs] {
            std::fs::create_dir_all(directory)
                .map_err(|error| Error::from_io("a directory could not be made", error))?;
        }
        let token = mint_token();
        self.let_go(address).await?;
        let spec = ContainerSpec {
            id: id.clone(),
            rootfs: errand.rootfs.clone(),
            binds: Vec::new(),
            volume,
            jobs,
            init: self.init.clone(),
            init_token: token.clone(),
            netns: netns.path().to_owned(),
            address,
            hostname: "workshop".to_owned(),
            environment: errand.environment.clone(),
            user: Self::user(),
            limits: errand.limits,
        };
        let started = self.runtime.start(&spec).await;
        started.map_err(|error| {
            Error::caused(
                ErrorKind::NotReady,
                "the sandbox could not be started",
                error,
            )
        })?;
        netns.keep();
        let init = InitClient::new((address, CONTROL_PORT).into(), &token);
        init.wait_ready(Instant::now() + timing::INIT_READY)
            .await
            .map_err(|error| {
                Error::caused(ErrorKind::NotReady, "the sandbox does not answer", error)
            })?;
        work(Workshop { init }).await
    }
}
