//! runc: Linux namespaces and seccomp. Fast and small; its containers share the host's kernel and
//! run as a host user, so it is for trusted code.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::oci_program::OciProgram;
use super::{
    ContainerSpec, ContainerStatus, OciId, Runtime, RuntimeError, RuntimeKind, Settings,
    SleepTraits, Usage,
};

/// See the module.
#[derive(Debug)]
pub struct Runc {
    program: OciProgram,
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
        let program = OciProgram::open(RuntimeKind::Runc, file, &[], settings).await?;
        Ok(Self { program })
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
        self.program.start(command, &spec.id).await
    }

    async fn status(&self, id: &OciId) -> Result<ContainerStatus, RuntimeError> {
        self.program.status(id).await
    }

    async fn list(&self) -> Result<Vec<(OciId, ContainerStatus)>, RuntimeError> {
        self.program.list().await
    }

    async fn usage(&self, id: &OciId) -> Result<Usage, RuntimeError> {
        Ok(self.program.usage(id))
    }

    async fn remove(&self, id: &OciId) -> Result<(), RuntimeError> {
        self.program.remove(id).await
    }

    async fn pause(&self, _id: &OciId) -> Result<(), RuntimeError> {
        Err(not_yet())
    }

    async fn resume(&self, _id: &OciId) -> Result<(), RuntimeError> {
        Err(not_yet())
    }

    async fn checkpoint(&self, _id: &OciId, _images: &Path) -> Result<(), RuntimeError> {
        Err(not_yet())
    }

    async fn restore(&self, _spec: &ContainerSpec, _images: &Path) -> Result<(), RuntimeError> {
        Err(not_yet())
    }

    fn sleep(&self) -> SleepTraits {
        SleepTraits {
            version: String::new(),
            keeps_connections: true,
            trouble: Some("not yet".to_owned()),
        }
    }

    fn layout(&self, _spec: &ContainerSpec) -> Result<String, RuntimeError> {
        Err(not_yet())
    }

    fn close(&self) {
        self.program.close();
    }
}

fn not_yet() -> RuntimeError {
    RuntimeError::Failed {
        action: "sleep",
        output: "not yet".to_owned(),
    }
}
