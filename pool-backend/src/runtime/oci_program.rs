//! What runc and runsc have in common: a program with OCI's command line, a state root, bundles
//! and cgroups.

use std::path::{Path, PathBuf};

use fleet::id::InstanceId;
use serde::Deserialize;
use tokio::process::Command;

use super::bundle::{BUNDLES, Bundles};
use super::command::{self, Capture};
use super::inflight;
use super::sleep;
use super::{
    ContainerSpec, ContainerStatus, OciId, RuntimeError, RuntimeKind, Settings, SleepTraits, Usage,
};
use crate::cgroup::Cgroups;
use crate::oci::Plan;
use crate::rootfs::HostRoot;

/// What Linux counts processes' time in, as it shows it (USER_HZ).
const TICK_MICROS: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub struct OciProgram {
    kind: RuntimeKind,
    instance: InstanceId,
    program: PathBuf,
    state: PathBuf,
    /// Options before the command.
    options: Vec<String>,
    path_variable: String,
    pub(super) sleep: SleepTraits,
    pub(super) bundles: Bundles,
    pub(super) cgroups: Cgroups,
    root: HostRoot,
}

/// What runsc writes down about a container, as far as we read it.
#[derive(Debug, Deserialize)]
struct SandboxState {
    status: String,
    sandbox: Sandbox,
}

#[derive(Debug, Deserialize)]
struct Sandbox {
    pid: i32,
}

impl OciProgram {
    /// Makes the runtime's directories under `DATA/runtime/<kind>`.
    ///
    /// # Errors
    /// [`RuntimeError::Io`].
    pub async fn open(
        kind: RuntimeKind,
        program: PathBuf,
        options: &[&str],
        settings: Settings,
    ) -> Result<Self, RuntimeError> {
        let io = |context| move |source| RuntimeError::Io { context, source };
        let runtime_dir = settings.data_dir.join("runtime");
        let own_dir = runtime_dir.join(kind.name());
        let state = own_dir.join("state");
        std::fs::create_dir_all(&state).map_err(io("make the runtime's directory"))?;
        let bundles = Bundles::open(own_dir.join(BUNDLES)).map_err(io("make the bundles"))?;
        let cgroups = Cgroups::detect(settings.instance.clone()).map_err(io("look at cgroups"))?;
        cgroups.open().map_err(io("make the cgroup of all"))?;
        let resolvers = settings.resolvers;
        let root_dir = runtime_dir.join("rootfs").join("host");
        let root = tokio::task::spawn_blocking(move || HostRoot::make(root_dir, &resolvers))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(io("make the containers' root"))?;
        let mut all_options = vec![format!("--root={}", state.display())];
        all_options.extend(options.iter().map(|option| (*option).to_owned()));
        let path = std::env::var("PATH").unwrap_or_default();
        // runc looks for criu there.
        let path_variable = format!("{}/bin:/usr/sbin:/sbin:{path}", settings.prefix.display());
        let sleep = sleep::traits(kind, &program, &path_variable).await;
        Ok(Self {
            kind,
            instance: settings.instance,
            program,
            state,
            options: all_options,
            path_variable,
            sleep,
            bundles,
            cgroups,
            root,
        })
    }

    /// Writes the bundle of a container that is about to start.
    ///
    /// # Errors
    /// [`RuntimeError::Io`].
    pub fn write_bundle(
        &self,
        spec: &ContainerSpec,
        cgroup: Option<String>,
    ) -> Result<(), RuntimeError> {
        let io = |context| move |source| RuntimeError::Io { context, source };
        let plan = self.plan(spec, cgroup)?;
        self.bundles
            .write(spec, &plan)
            .map_err(io("write the bundle"))
    }

    pub(super) fn plan(
        &self,
        spec: &ContainerSpec,
        cgroup: Option<String>,
    ) -> Result<Plan, RuntimeError> {
        let io = |context| move |source| RuntimeError::Io { context, source };
        let root = self
            .root
            .resolve(&spec.rootfs, &spec.binds)
            .map_err(io("look at the template's root"))?;
        Ok(Plan {
            kind: self.kind,
            root: root.directory,
            binds: root.binds,
            bundle: self.bundles.path(&spec.id),
            cgroup,
            swap_limit: self.cgroups.capabilities().swap,
        })
    }

    /// The command that makes and starts a container from its bundle.
    pub fn run_command(&self, id: &OciId) -> Command {
        let mut command = self.command(Some(id));
        command
            .arg("run")
            .arg("--detach")
            .arg("--bundle")
            .arg(self.bundles.path(id))
            .arg(id.as_str());
        command
    }

    pub(super) fn command(&self, log_of: Option<&OciId>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options);
        if let Some(id) = log_of {
            command.arg(format!("--log={}", self.bundles.log(id).display()));
        }
        // Nothing of the operator's environment reaches a container by way of its runtime.
        command.env_clear().env("PATH", &self.path_variable);
        command.env(inflight::VARIABLE, self.instance.as_str());
        // Who ends us by our process group must not cut a checkpoint in two.
        command.process_group(0);
        command
    }

    /// Runs the command that starts or restores; a failed one is undone.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn start(
        &self,
        action: &'static str,
        command: Command,
        id: &OciId,
    ) -> Result<(), RuntimeError> {
        // Its files become the container's: no pipe of ours may be among them.
        let result = match command::run(command, action, Capture::Nothing).await {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let log = format!("{} {}", self.bundles.log_tail(id), self.sleep_log(id));
                Err(command::failed(action, &output, &log))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = self.remove(id).await {
            tracing::warn!(%id, %error, "a failed start left something behind");
        }
        result
    }

    /// See [`super::Runtime::status`]. Costs some file reads: the programs themselves would be a
    /// fork, and `runsc` asks the sandbox, which does not answer while it is lulled.
    pub fn status(&self, id: &OciId) -> ContainerStatus {
        let processes = self.cgroups.processes(id.as_str());
        let known = match self.kind {
            RuntimeKind::Runc => None,
            RuntimeKind::Runsc => self.sandbox(id),
        };
        let alive = match &known {
            // Its helpers may outlive it for a moment.
            Some(known) => processes.contains(&known.sandbox.pid),
            None => !processes.is_empty(),
        };
        if !alive {
            return match self.bundles.path(id).exists() {
                true => ContainerStatus::Stopped,
                false => ContainerStatus::Absent,
            };
        }
        let stopped = known.is_some_and(|known| known.status == "paused");
        match stopped || self.cgroups.is_frozen(id.as_str()) {
            true => ContainerStatus::Paused,
            false => ContainerStatus::Running,
        }
    }

    /// What `runc pause` does, without the program.
    pub async fn freeze(&self, id: &OciId) -> Result<(), RuntimeError> {
        let frozen = self.cgroups.freeze(id.as_str()).await;
        frozen.map_err(|source| RuntimeError::Io {
            context: "freeze a container",
            source,
        })
    }

    /// Undoes [`OciProgram::freeze`]. Costs a file write. Idempotent.
    pub fn thaw(&self, id: &OciId) -> Result<(), RuntimeError> {
        let thawed = self.cgroups.thaw(id.as_str());
        thawed.map_err(|source| RuntimeError::Io {
            context: "thaw a container",
            source,
        })
    }

    /// What runsc wrote down about a container.
    fn sandbox(&self, id: &OciId) -> Option<SandboxState> {
        let file = format!("{id}_sandbox:{id}.state");
        let text = std::fs::read(self.state.join(file)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// See [`super::Runtime::list`].
    pub fn list(&self) -> Vec<(OciId, ContainerStatus)> {
        let mut ids = self.bundles.list(&self.instance);
        let cgroups = self.cgroups.list();
        let cgroups = cgroups.iter();
        ids.extend(cgroups.filter_map(|name| OciId::of(&self.instance, name)));
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .map(|id| match self.status(&id) {
                // A cgroup without a bundle is something that `remove` would take away.
                ContainerStatus::Absent => (id, ContainerStatus::Stopped),
                status => (id, status),
            })
            .collect()
    }

    /// See [`super::Runtime::usage`].
    pub fn usage(&self, id: &OciId) -> Usage {
        let sandbox = match self.kind {
            RuntimeKind::Runc => None,
            RuntimeKind::Runsc => self.sandbox(id),
        };
        Usage {
            own_micros: sandbox.map_or(0, |known| cpu_time(known.sandbox.pid)),
            ..self.cgroups.usage(id.as_str())
        }
    }

    /// See [`super::Runtime::remove`].
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn remove(&self, id: &OciId) -> Result<(), RuntimeError> {
        let io = |context| move |source| RuntimeError::Io { context, source };
        // We kill by cgroup, which cannot hit a stranger; the programs themselves would poll at
        // their leisure.
        self.cgroups
            .kill(id.as_str())
            .await
            .map_err(io("kill a container"))?;
        self.forget(id).map_err(io("delete a container's state"))?;
        self.cgroups
            .remove(id.as_str())
            .await
            .map_err(io("remove a cgroup"))?;
        self.bundles.remove(id).map_err(io("remove a bundle"))
    }

    /// Makes the program forget a container whose processes are dead: beyond those and its cgroup
    /// it is a few files. (`runsc delete` waits until somebody reaped the sandbox, seconds where
    /// process 1 is slow at that; `runc delete` costs as much CPU as a start, and a thousand of
    /// them a minute at shutdown.)
    fn forget(&self, id: &OciId) -> std::io::Result<()> {
        match self.kind {
            RuntimeKind::Runsc => remove_named(&self.state, id.as_str()),
            RuntimeKind::Runc => match std::fs::remove_dir_all(self.state.join(id.as_str())) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// See [`super::Runtime::close`].
    pub fn close(&self) {
        self.cgroups.close();
    }
}

/// What a process and its threads have used, without its children, µs, to a hundredth of a second. 0
/// if it is not there.
fn cpu_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // utime and stime of proc_pid_stat(5). The command may be anything, so count from its end.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let used = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = used.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * TICK_MICROS
}

/// Removes the files of `directory` whose names contain `part`.
fn remove_named(directory: &Path, part: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().contains(part) {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
