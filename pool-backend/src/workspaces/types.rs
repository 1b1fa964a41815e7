//! What goes in and out of the façade.
//!
//! Must never happen here: behaviour.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fleet::id::{ContainerId, Generation, JobId, ProjectId, Slug, TemplateName, WorkspaceId};
use fleet::lifecycle::State;
use fleet::record::{LifecycleSettings, Woken};
use futures_util::stream::BoxStream;
use time::OffsetDateTime;

use crate::pool::{Broken, PoolSize, Standing};
pub use crate::runtime::Traffic;
use crate::template::language::Version;

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
    /// As found in its root, or as its template calls them.
    pub languages: Vec<String>,
    /// Of these languages, as far as they are known yet.
    pub versions: BTreeMap<String, Version>,
    pub limits: crate::config::Limits,
    pub state: State,
    pub generation: Generation,
    pub created_at: OffsetDateTime,
    /// When its container last started; none while it has none.
    pub started_at: Option<OffsetDateTime>,
    pub last_activity_at: OffsetDateTime,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Now, without what the kernel would give back first.
    pub memory_bytes: u64,
    /// CPU time since it started.
    pub cpu_micros: u64,
    /// Processes and threads as the host counts them; with gVisor these are gVisor's own.
    pub tasks: u64,
    /// Over its network since it started.
    pub network: Traffic,
    /// From and to disks since it started.
    pub disk: Traffic,
}

/// How a workspace stands, and what becomes of it when nobody uses it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// What is known of it.
    pub summary: Summary,
    /// What its owner set.
    pub settings: LifecycleSettings,
    /// What came back with its last wake; none if it was started, not woken.
    pub woken: Option<Woken>,
    /// Why its last start, wake or hibernation failed; safe to show.
    pub problem: Option<String>,
    /// Why it does not sleep now, for people.
    pub kept_awake_by: Vec<String>,
    /// Until its `idle_action`, as things are; none if it will not come, or it does not run.
    pub idles_out_in: Option<Duration>,
}

/// A snapshot, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct SnapshotGlance {
    /// Of which it is.
    pub generation: Generation,
    /// On disk.
    pub bytes: u64,
    pub created_at: OffsetDateTime,
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
    /// Of the write that made it so, when this is its answer; a watch names it.
    pub write_id: Option<u64>,
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

/// One template's pool.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// Of which template.
    pub template: TemplateName,
    /// As configured.
    pub size: PoolSize,
    /// How many there should be now.
    pub target: u32,
    /// How many wait for a claim.
    pub ready: u32,
    /// How many are on their way.
    pub refilling: u32,
    /// Claims that found one, since this process started.
    pub hits: u64,
    /// Claims that did not.
    pub misses: u64,
    /// Whether it would be larger if the machine had room.
    pub short_of_room: bool,
    /// Of the last claims that found one, 95 of 100 took no longer; none before the first.
    pub claim_p95: Option<Duration>,
    /// How long a refill takes.
    pub refill: Duration,
    /// Why refills pause, if they do.
    pub broken: Option<Broken>,
}

impl PoolStatus {
    pub(crate) fn new(template: TemplateName, standing: Standing) -> Self {
        Self {
            template,
            size: standing.size,
            target: standing.target,
            ready: standing.ready,
            refilling: standing.refilling,
            hits: standing.hits,
            misses: standing.misses,
            short_of_room: standing.short_of_room,
            claim_p95: standing.claim_p95,
            refill: standing.refill,
            broken: standing.broken,
        }
    }
}

/// For how many warm containers the machine has room, all templates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRoom {
    /// So many.
    pub containers: u32,
    /// Bytes that one is taken to cost.
    pub memory_each: u64,
}
