//! runsc (gVisor): a kernel of its own between the container and the host's. The runtime for
//! strangers' code.
//!
//! Three ways in which it needs help here. It takes a namespace in which `/proc/sys/net/core` shows
//! everything for the root one and then refuses to work, so it starts with an empty
//! `/proc/sys/net`. And it does not manage cgroups on every layout, so it is put into ours before
//! it starts, and told to ignore them. Its own `pause` stops what is inside, but not its kernel, which
//! looks every 0.4 ms whether a system call's quick way is worth it (`controlFastPath` of its systrap):
//! 6 to 7 % of a core here, for a sandbox in which nothing happens. So who stands still does so by the
//! cgroup's freezer, which runs no program either; no command of runsc's is answered meanwhile.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use nix::mount::MsFlags;
use tokio::process::Command;

use super::oci_program::OciProgram;
use super::stage;
use super::{
    ContainerSpec, ContainerStatus, OciId, Runtime, RuntimeError, RuntimeKind, Settings,
    SleepTraits, Traffic, Usage,
};
use crate::config::Limits;

/// Host threads that the sandbox itself needs beside one for each of the container's.
const OWN_THREADS: u32 = 128;

/// Nanoseconds by which the sandbox's timers may be late, inherited by all of its threads.
///
/// An idle sandbox looks every 0.4 ms whether its fast path pays (systrap's `controlFastPath`),
/// which takes 7 % of a core at the kernel's 50 µs and 4.4 % at 1 ms. At 5 ms it is 2 %, but then
/// a program starts a fifth more slowly: Go's scheduler sleeps, too. Newer builds than Debian's park
/// that loop (gVisor's pull request 13470).
const TIMER_SLACK: u64 = 1_000_000;

const OPTIONS: [&str; 5] = [
    "--platform=systrap",
    "--network=sandbox",
    // Files written inside must be seen outside.
    "--overlay2=none",
    "--ignore-cgroups",
    // Counts when a sandbox starts: one that starts without it cannot be checkpointed as long as
    // any of its connections is open or was so lately.
    "--net-disconnect-ok",
];

/// See the module.
#[derive(Debug)]
pub struct Runsc {
    program: OciProgram,
}

impl Runsc {
    /// runsc of the prefix, else of the host.
    ///
    /// # Errors
    /// [`RuntimeError::Io`].
    pub async fn open(settings: Settings) -> Result<Self, RuntimeError> {
        let ours = settings.prefix.join("bin/runsc");
        let file = if ours.exists() {
            ours
        } else {
            PathBuf::from("runsc")
        };
        let program = OciProgram::open(RuntimeKind::Runsc, file, &OPTIONS, settings).await?;
        Ok(Self { program })
    }

    /// What there must be before it starts: a bundle, and cgroups opened for entering.
    async fn prepare(&self, spec: &ContainerSpec) -> Result<Vec<File>, RuntimeError> {
        self.program.write_bundle(spec, None)?;
        match self.cgroup(spec) {
            Ok(cgroups) => Ok(cgroups),
            Err(source) => {
                self.program.remove(&spec.id).await?;
                let context = "make a cgroup";
                Err(RuntimeError::Io { context, source })
            }
        }
    }

    /// Of a container that stands still. It must, for runsc: otherwise its processes would run on
    /// between this checkpoint and whatever stops them next, and the volume with them.
    async fn write_images(&self, id: &OciId, images: &Path) -> Result<(), RuntimeError> {
        self.program.thaw(id)?;
        let paused = ContainerStatus::Paused;
        self.program.switch("pause", id, paused).await?;
        let mut command = self.program.sleep_command(id, "checkpoint", images)?;
        command.args(["--compression=none", "--leave-running", id.as_str()]);
        self.program.checkpoint(command, id).await
    }

    /// The container's cgroups, opened for entering.
    fn cgroup(&self, spec: &ContainerSpec) -> io::Result<Vec<File>> {
        let limits = Limits {
            pids: spec.limits.pids.saturating_add(OWN_THREADS),
            ..spec.limits
        };
        let entrances = self.program.cgroups.make(spec.id.as_str(), &limits)?;
        entrances
            .iter()
            .map(|path| File::options().write(true).open(path))
            .collect()
    }
}

/// Puts what `command` starts into its cgroups and mounts.
fn in_its_place(command: &mut Command, cgroups: Vec<File>) {
    // SAFETY: between fork and exec the closure makes system calls only; it takes no lock and
    // allocates nothing (paths are C strings, files are open already).
    unsafe {
        command.pre_exec(move || set_stage(&cgroups));
    }
}

/// What the new process does before it becomes runsc.
fn set_stage(cgroups: &[File]) -> io::Result<()> {
    nix::sys::prctl::set_timerslack(TIMER_SLACK)?;
    for mut cgroup in cgroups {
        cgroup.write_all(b"0")?;
    }
    stage::own_mounts()?;
    nix::mount::mount(
        Some(c"tmpfs"),
        c"/proc/sys/net",
        Some(c"tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&std::ffi::CStr>,
    )?;
    Ok(())
}

#[async_trait]
impl Runtime for Runsc {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Runsc
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let cgroups = self.prepare(spec).await?;
        let mut command = self.program.run_command(&spec.id);
        in_its_place(&mut command, cgroups);
        self.program
            .start("start a container", command, &spec.id)
            .await
    }

    async fn status(&self, id: &OciId) -> Result<ContainerStatus, RuntimeError> {
        Ok(self.program.status(id))
    }

    async fn list(&self) -> Result<Vec<(OciId, ContainerStatus)>, RuntimeError> {
        Ok(self.program.list())
    }

    async fn usage(&self, id: &OciId) -> Result<Usage, RuntimeError> {
        Ok(self.program.usage(id))
    }

    fn disk(&self, id: &OciId) -> Traffic {
        self.program.cgroups.disk(id.as_str())
    }

    async fn remove(&self, id: &OciId) -> Result<(), RuntimeError> {
        self.program.remove(id).await
    }

    async fn pause(&self, id: &OciId) -> Result<(), RuntimeError> {
        self.program.freeze(id).await
    }

    async fn resume(&self, id: &OciId) -> Result<(), RuntimeError> {
        self.program.thaw(id)?;
        // A checkpoint leaves its processes stopped for runsc, too.
        if self.program.status(id) == ContainerStatus::Paused {
            let running = ContainerStatus::Running;
            self.program.switch("resume", id, running).await?;
        }
        Ok(())
    }

    async fn checkpoint(&self, id: &OciId, images: &Path) -> Result<(), RuntimeError> {
        let written = self.write_images(id, images).await;
        // Whatever state it was left in.
        self.pause(id).await?;
        written
    }

    async fn restore(&self, spec: &ContainerSpec, images: &Path) -> Result<(), RuntimeError> {
        let cgroups = self.prepare(spec).await?;
        let mut command = self.program.sleep_command(&spec.id, "restore", images)?;
        command.arg("--detach").arg("--bundle");
        command.arg(self.program.bundles.path(&spec.id));
        command.arg(spec.id.as_str());
        in_its_place(&mut command, cgroups);
        self.program
            .start("restore a container", command, &spec.id)
            .await
    }

    fn sleep(&self) -> SleepTraits {
        self.program.sleep.clone()
    }

    fn layout(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        self.program.layout(spec)
    }

    fn close(&self) {
        self.program.close();
    }
}
