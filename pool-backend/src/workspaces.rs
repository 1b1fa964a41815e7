//! The façade that the API and embeds see: workspaces, and what can be done in one. It starts or
//! wakes a workspace when a call needs it, checks the generation, and picks volume or init.
//!
//! Must never happen here: HTTP, JSON of the wire, a call without a bound.

use std::time::Duration;

use bytes::Bytes;
use fleet::id::{
    ContainerId, Generation, JobId, OwnerId, ProjectId, Slug, TemplateName, WorkspaceId,
};
use fleet::lifecycle::{ApiStatus, State};
use futures_util::stream::BoxStream;
use time::OffsetDateTime;

use crate::error::Error;
use crate::runtime;

/// All workspaces of this node. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces {
    node: std::sync::Arc<crate::node::Node>,
}

/// One workspace of one owner: a cheap handle, valid across restarts of its container.
#[derive(Clone)]
pub struct Workspace {
    node: std::sync::Arc<crate::node::Node>,
    id: WorkspaceId,
}

/// What is known of a workspace without asking its container.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the vocabulary's words")]
pub struct Summary {
    pub id: WorkspaceId,
    pub project: ProjectId,
    pub number: u32,
    pub container: ContainerId,
    pub slug: Slug,
    pub template: TemplateName,
    pub languages: Vec<String>,
    pub limits: crate::config::Limits,
    pub state: State,
    pub generation: Generation,
    pub created_at: OffsetDateTime,
    /// When its container last started; none while it has none.
    pub started_at: Option<OffsetDateTime>,
    pub last_activity_at: OffsetDateTime,
}

/// One page of a list.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "plain")]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: usize,
}

/// A shell line to run.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "plain")]
pub struct Command {
    pub command: String,
    /// As the user wrote it; relative to or within `/workspace`, or any absolute path inside.
    pub working_dir: String,
    pub environment: Vec<(String, String)>,
    pub timeout: Option<Duration>,
}

/// A job with its output, decoded lossily as UTF-8 and bounded (head and tail).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the API's words")]
pub struct Job {
    pub id: JobId,
    pub command: String,
    pub status: init_protocol::JobStatus,
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub started_at: OffsetDateTime,
    pub completed_at: Option<OffsetDateTime>,
    pub duration: Option<Duration>,
}

/// What stands at a path.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the API's words")]
pub struct FileInfo {
    /// Relative to `/workspace`, no leading slash; the root itself is empty.
    pub path: String,
    pub kind: FileKind,
    pub size: u64,
    /// Permission bits, e.g. 0o644.
    pub mode: u32,
    pub created_at: OffsetDateTime,
    pub modified_at: OffsetDateTime,
}

/// A file's type; sockets, FIFOs and devices are listed as `Other` and never opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Other,
}

/// How to write a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Permission bits; default 0644 or those of the file replaced.
    pub mode: Option<u32>,
    /// Fail with `Conflict` when something is there.
    pub exclusive: bool,
}

/// File content on its way.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

impl Workspaces {
    /// Get-or-create: an existing workspace of this owner is returned (and started), whatever the template.
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn create(
        &self,
        owner: &OwnerId,
        project: &ProjectId,
        template: &TemplateName,
    ) -> Result<Workspace, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub fn get(&self, owner: &OwnerId, project: &ProjectId) -> Result<Workspace, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub fn by_number(&self, owner: &OwnerId, number: u32) -> Result<Workspace, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub fn by_container(
        &self,
        owner: &OwnerId,
        container: &ContainerId,
    ) -> Result<Workspace, Error> {
        todo!()
    }
    /// Page from 1.
    #[expect(unused_variables, clippy::todo)]
    pub fn list(
        &self,
        owner: &OwnerId,
        status: Option<ApiStatus>,
        page: usize,
        page_size: usize,
    ) -> Page<Summary> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn delete(&self, owner: &OwnerId, project: &ProjectId) -> Result<(), Error> {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub fn templates(&self) -> Vec<TemplateName> {
        todo!()
    }
    /// Template, target, ready, hits, misses.
    #[expect(clippy::todo)]
    pub fn pools(&self) -> Vec<PoolStatus> {
        todo!()
    }
}
impl Workspace {
    /// See the module.
    #[expect(clippy::todo)]
    pub fn summary(&self) -> Summary {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub async fn ensure_running(&self) -> Result<Summary, Error> {
        todo!()
    }
    /// New generation around the volume.
    #[expect(clippy::todo)]
    pub async fn restart(&self) -> Result<Summary, Error> {
        todo!()
    }
    /// Timeout → Job with status Timeout.
    #[expect(unused_variables, clippy::todo)]
    pub async fn execute(&self, command: Command) -> Result<Job, Error> {
        todo!()
    }
    /// No output yet.
    #[expect(unused_variables, clippy::todo)]
    pub async fn start_job(&self, command: Command) -> Result<Job, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn job(&self, id: &JobId) -> Result<Job, Error> {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn stop_job(&self, id: &JobId) -> Result<Job, Error> {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub async fn processes(&self) -> Result<Vec<init_protocol::Process>, Error> {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub async fn ports(&self) -> Result<Vec<init_protocol::ListeningPort>, Error> {
        todo!()
    }
    /// See the module.
    #[expect(clippy::todo)]
    pub async fn usage(&self) -> Result<runtime::Usage, Error> {
        todo!()
    }
    // Files. `path` as the user wrote it: `a`, `/a`, `./a`, `/workspace/a` are one. Reads come from the volume and wake nobody.
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn stat(&self, path: &str) -> Result<FileInfo, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn list_files(
        &self,
        path: &str,
        recursive: bool,
        hidden: bool,
    ) -> Result<Vec<FileInfo>, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn read_file(&self, path: &str) -> Result<(FileInfo, ByteStream), Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn write_file(
        &self,
        path: &str,
        content: ByteStream,
        options: WriteOptions,
    ) -> Result<FileInfo, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn make_directory(
        &self,
        path: &str,
        parents: bool,
        mode: Option<u32>,
    ) -> Result<FileInfo, Error> {
        todo!()
    }
    /// See the module.
    #[expect(unused_variables, clippy::todo)]
    pub async fn remove_file(&self, path: &str) -> Result<(), Error> {
        todo!()
    }
}

/// One template's pool.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "plain")]
pub struct PoolStatus {
    pub template: TemplateName,
    pub target: u32,
    pub ready: u32,
    pub hits: u64,
    pub misses: u64,
}
