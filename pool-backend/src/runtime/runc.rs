//! runc: Linux namespaces and seccomp. Fast and small; its containers share the host's kernel and
//! run as a host user, so it is for trusted code.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::process::Command;

use super::oci_program::OciProgram;
use super::stage::{self, KernelFacts};
use super::{
    ContainerSpec, ContainerStatus, OciId, Runtime, RuntimeError, RuntimeKind, Settings,
    SleepTraits, Traffic, Usage,
};

/// What CRIU refuses to dump, and to restore, unless it is told to.
const CONNECTIONS_AND_LOCKS: [&str; 2] = ["--tcp-established", "--file-locks"];

/// See the module.
#[derive(Debug)]
pub struct Runc {
    program: OciProgram,
    facts: Option<KernelFacts>,
}

impl Runc {
    /// runc of the prefix, else of the host.
    ///
    /// # Errors
    /// [`RuntimeError::Io`].
    pub async fn open(settings: Settings) -> Result<Self, RuntimeError> {
        let ours = settings.prefix.join("bin/runc");
        let file = if ours.exists() {
            ours
        } else {
            PathBuf::from("runc")
        };
        let facts = KernelFacts::open(&settings.instance, &settings.data_dir);
        let program = OciProgram::open(RuntimeKind::Runc, file, &[], settings).await?;
        Ok(Self { program, facts })
    }

    /// `checkpoint` or `restore`, up to what differs.
    fn criu_command(&self, id: &OciId, verb: &str, images: &Path) -> Result<Command, RuntimeError> {
        let mut command = self.program.sleep_command(id, verb, images)?;
        command.args(CONNECTIONS_AND_LOCKS);
        // runc and CRIU mount this and that while they work, all cgroups among it, and leave it
        // there when they fail or are killed.
        let facts = self.facts.clone();
        // SAFETY: between fork and exec the closure makes system calls only; it takes no lock and
        // allocates nothing (paths are C strings).
        unsafe {
            command.pre_exec(move || {
                stage::own_mounts()?;
                if let Some(facts) = &facts {
                    facts.mount();
                }
                Ok(())
            });
        }
        Ok(command)
    }
}

#[async_trait]
impl Runtime for Runc {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Runc
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let cgroup = self.program.cgroups.path(spec.id.as_str());
        self.program.write_bundle(spec, Some(cgroup))?;
        let command = self.program.run_command(&spec.id);
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
        self.program.thaw(id)
    }

    async fn checkpoint(&self, id: &OciId, images: &Path) -> Result<(), RuntimeError> {
        let mut command = self.criu_command(id, "checkpoint", images)?;
        command.args(["--leave-running", id.as_str()]);
        let written = self.program.checkpoint(command, id).await;
        // CRIU gives back the freezer as it found it, but not when it fails early or is killed.
        self.pause(id).await?;
        written
    }

    async fn restore(&self, spec: &ContainerSpec, images: &Path) -> Result<(), RuntimeError> {
        let cgroup = self.program.cgroups.path(spec.id.as_str());
        self.program.write_bundle(spec, Some(cgroup))?;
        let mut command = self.criu_command(&spec.id, "restore", images)?;
        command.arg("--detach").arg("--bundle");
        command.arg(self.program.bundles.path(&spec.id));
        command.arg(spec.id.as_str());
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
        if let Some(facts) = &self.facts {
            facts.remove();
        }
        self.program.close();
    }
}
