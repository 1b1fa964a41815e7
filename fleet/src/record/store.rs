//! Where records live, and how they get there: see [`crate::record`] for the places and
//! [`crate::durable`] for the way.
//!
//! `save_*` and `remove_workspace` return when the change would survive a power cut; they work on
//! tokio's blocking threads, and go on if their caller is dropped. The order of calls is kept: a
//! save that was overtaken by a later one of the same record is left out. The rest of the calls
//! blocks and is for the start of a process.
//!
//! Must never happen here: a generation that falls, a damaged file that is deleted or fatal.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::removal::remove_tree;
use super::{KeyRecord, OwnerRecord, WorkspaceRecord};
use crate::durable;
use crate::id::{Generation, WorkspaceId};

/// A workspace's record, within its directory.
const WORKSPACE_FILE: &str = "workspace.json";

/// The records of one data dir. Cheap to clone.
#[derive(Clone)]
pub struct RecordStore {
    shared: Arc<Shared>,
}

struct Shared {
    data: PathBuf,
    /// Orders calls.
    ticket: AtomicU64,
    /// What was last written of each workspace; its lock also keeps writers of one file apart.
    written: Mutex<HashMap<WorkspaceId, Arc<Mutex<Written>>>>,
    /// Owners and keys change seldom: one writer at a time.
    small: Mutex<()>,
}

#[derive(Default)]
struct Written {
    ticket: u64,
    generation: Generation,
    removed: bool,
}

/// A file that should be a record and is not. It stays on the disk, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Where it is now: `*.damaged` if it could be set aside.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Why a record was not stored or removed. The texts name no path; the causes are for logs.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk is full or a quota is used up.
    #[error("no space is left to store this")]
    NoSpace(#[source] io::Error),
    /// Anything else that the file system says.
    #[error("the storage of this node failed")]
    Io(#[source] io::Error),
    /// A newer generation is stored: the caller lost its right to act for this workspace.
    #[error("superseded: generation {stored} is stored")]
    Superseded {
        /// The highest generation stored.
        stored: Generation,
    },
    /// The workspace was removed meanwhile.
    #[error("the workspace is removed")]
    Removed,
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(error),
            _ => Self::Io(error),
        }
    }
}

impl RecordStore {
    /// The records in a data dir; makes the directories that are missing. Blocking.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(data_dir: &Path) -> Result<Self, RecordError> {
        for dir in ["volumes", "records/owners", "records/keys"] {
            durable::make_dir(&data_dir.join(dir))?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                data: data_dir.to_owned(),
                ticket: AtomicU64::new(0),
                written: Mutex::default(),
                small: Mutex::default(),
            }),
        })
    }

    /// `DATA/volumes/<ws>`: the record, and beside it all else that a workspace has on this disk.
    pub fn workspace_dir(&self, workspace: &WorkspaceId) -> PathBuf {
        self.shared.data.join("volumes").join(workspace.as_str())
    }

    /// The volume: what is `/workspace` inside. Made by the engine, like [`Self::jobs_dir`].
    pub fn volume_dir(&self, workspace: &WorkspaceId) -> PathBuf {
        self.workspace_dir(workspace).join("data")
    }

    /// Job output: beside the volume, out of the container's reach.
    pub fn jobs_dir(&self, workspace: &WorkspaceId) -> PathBuf {
        self.workspace_dir(workspace).join("jobs")
    }

    /// Stores a workspace's record.
    ///
    /// # Errors
    /// `Superseded` if a higher generation is stored; `Removed`; otherwise nothing was changed and
    /// the call may be repeated.
    pub async fn save_workspace(&self, record: &WorkspaceRecord) -> Result<(), RecordError> {
        let save = self.begin_save(record)?;
        in_background(move || save.run()).await
    }

    /// [`Self::save_workspace`] for callers outside a runtime. Blocking.
    ///
    /// # Errors
    /// As there.
    pub fn save_workspace_blocking(&self, record: &WorkspaceRecord) -> Result<(), RecordError> {
        self.begin_save(record)?.run()
    }

    fn begin_save(&self, record: &WorkspaceRecord) -> Result<Save, RecordError> {
        let dir = self.workspace_dir(&record.id);
        Ok(Save {
            path: dir.join(WORKSPACE_FILE),
            dir,
            content: serialize(record)?,
            ticket: self.shared.ticket.fetch_add(1, Ordering::Relaxed) + 1,
            generation: record.generation,
            written: self.written(&record.id),
        })
    }

    fn written(&self, workspace: &WorkspaceId) -> Arc<Mutex<Written>> {
        let mut written = self.shared.written.lock();
        written.entry(workspace.clone()).or_default().clone()
    }

    /// Removes a workspace with its volume and all else in its directory; its record goes last, so
    /// that a removal that was cut short is finished after the next start. Store `deleted: true`
    /// before. Long for large volumes.
    ///
    /// # Errors
    /// What the file system says; calling again goes on. Removing what is not there is fine.
    pub async fn remove_workspace(&self, workspace: &WorkspaceId) -> Result<(), RecordError> {
        let (store, workspace) = (self.clone(), workspace.clone());
        in_background(move || store.remove_workspace_blocking(&workspace)).await
    }

    fn remove_workspace_blocking(&self, workspace: &WorkspaceId) -> Result<(), RecordError> {
        let dir = self.workspace_dir(workspace);
        let written = self.written(workspace);
        let mut written = written.lock();
        written.removed = true;
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_name() != WORKSPACE_FILE {
                        remove_tree(&entry.path())?;
                    }
                }
                remove_tree(&dir)?;
                durable::sync_dir(&self.shared.data.join("volumes"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        self.shared.written.lock().remove(workspace);
        Ok(())
    }

    /// All workspaces, and what should be one and cannot be read. Blocking; for the start.
    pub fn load_workspaces(&self) -> (Vec<WorkspaceRecord>, Vec<Damaged>) {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for id in self.workspace_ids(&mut damaged) {
            let path = self.workspace_dir(&id).join(WORKSPACE_FILE);
            match load(&path, |record: &WorkspaceRecord| record.id == id) {
                Ok(Some(record)) => {
                    let written = self.written(&id);
                    let mut written = written.lock();
                    written.generation = written.generation.max(record.generation);
                    records.push(record);
                }
                Ok(None) => damaged.extend(set_aside_before(&path)),
                Err(found) => damaged.push(found),
            }
        }
        (records, damaged)
    }

    /// Directories of workspaces that never had a record, so were never acknowledged: left by a
    /// crash while they were made. May be removed. Blocking.
    pub fn unrecorded(&self) -> Vec<WorkspaceId> {
        let mut ids = self.workspace_ids(&mut Vec::new());
        ids.retain(|id| {
            let path = self.workspace_dir(id).join(WORKSPACE_FILE);
            matches!(path.try_exists(), Ok(false)) && set_aside_before(&path).is_empty()
        });
        ids
    }

    fn workspace_ids(&self, damaged: &mut Vec<Damaged>) -> Vec<WorkspaceId> {
        names(&self.shared.data.join("volumes"), damaged)
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    /// Stores an owner.
    ///
    /// # Errors
    /// What the file system says; nothing was changed then.
    pub async fn save_owner(&self, record: &OwnerRecord) -> Result<(), RecordError> {
        self.save_small("owners", record.id.as_str(), record).await
    }

    /// All owners. Blocking; for the start.
    pub fn load_owners(&self) -> (Vec<OwnerRecord>, Vec<Damaged>) {
        self.load_small("owners", |record: &OwnerRecord| record.id.as_str())
    }

    /// Stores a key, also to revoke it.
    ///
    /// # Errors
    /// What the file system says; nothing was changed then.
    pub async fn save_key(&self, record: &KeyRecord) -> Result<(), RecordError> {
        self.save_small("keys", record.id.as_str(), record).await
    }

    /// All keys, revoked ones too. Blocking; for the start.
    pub fn load_keys(&self) -> (Vec<KeyRecord>, Vec<Damaged>) {
        self.load_small("keys", |record: &KeyRecord| record.id.as_str())
    }

    fn small_dir(&self, kind: &str) -> PathBuf {
        self.shared.data.join("records").join(kind)
    }

    async fn save_small(
        &self,
        kind: &str,
        id: &str,
        record: &impl Serialize,
    ) -> Result<(), RecordError> {
        let path = self.small_dir(kind).join(format!("{id}.json"));
        let content = serialize(record)?;
        let store = self.clone();
        in_background(move || {
            let _one_at_a_time = store.shared.small.lock();
            Ok(durable::write(&path, &content)?)
        })
        .await
    }

    fn load_small<T: DeserializeOwned>(
        &self,
        kind: &str,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Vec<Damaged>) {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        let dir = self.small_dir(kind);
        for name in names(&dir, &mut damaged) {
            let path = dir.join(&name);
            if name.ends_with(".damaged") {
                damaged.push(set_aside_earlier(path));
            } else if let Some(stem) = name.strip_suffix(".json") {
                match load(&path, |record| id(record) == stem) {
                    Ok(record) => records.extend(record),
                    Err(found) => damaged.push(found),
                }
            }
        }
        (records, damaged)
    }
}

/// A record on its way to the disk.
struct Save {
    dir: PathBuf,
    path: PathBuf,
    content: Vec<u8>,
    ticket: u64,
    generation: Generation,
    written: Arc<Mutex<Written>>,
}

impl Save {
    fn run(self) -> Result<(), RecordError> {
        let mut written = self.written.lock();
        if written.removed {
            return Err(RecordError::Removed);
        }
        if self.generation < written.generation {
            let stored = written.generation;
            return Err(RecordError::Superseded { stored });
        }
        if self.ticket < written.ticket {
            return Ok(());
        }
        match durable::write(&self.path, &self.content) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::make_dir(&self.dir)?;
                durable::write(&self.path, &self.content)?;
            }
            done => done?,
        }
        written.ticket = self.ticket;
        written.generation = self.generation;
        Ok(())
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordError> + Send + 'static,
) -> Result<T, RecordError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(RecordError::Io(io::Error::other(error))),
    }
}

fn serialize(record: &impl Serialize) -> Result<Vec<u8>, RecordError> {
    let mut content = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
    content.push(b'\n');
    Ok(content)
}

/// Reads one record. `Ok(None)` if there is none; damage is set aside.
fn load<T: DeserializeOwned>(
    path: &Path,
    is_this_one: impl Fn(&T) -> bool,
) -> Result<Option<T>, Damaged> {
    let content = match durable::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(set_aside(path, error.to_string()));
        }
        // Not known to be damaged: it may be readable the next time, so it keeps its name.
        Err(error) => {
            let (path, why) = (path.to_owned(), format!("cannot be read: {error}"));
            return Err(Damaged { path, why });
        }
    };
    match serde_json::from_slice(&content) {
        Ok(record) if is_this_one(&record) => Ok(Some(record)),
        Ok(_) => Err(set_aside(path, "is about another one".to_owned())),
        Err(error) => Err(set_aside(path, format!("is no record: {error}"))),
    }
}

/// Renames `x.json` to `x.json.damaged` (`x.json.2.damaged`, … if that is taken).
fn set_aside(path: &Path, why: String) -> Damaged {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..100)
        .map(|number| match number {
            1 => path.with_file_name(format!("{name}.damaged")),
            _ => path.with_file_name(format!("{name}.{number}.damaged")),
        })
        .find(|aside| matches!(aside.try_exists(), Ok(false)));
    let moved = free.filter(|aside| fs::rename(path, aside).is_ok());
    Damaged {
        path: moved.unwrap_or_else(|| path.to_owned()),
        why,
    }
}

/// What earlier starts set aside for `path`.
fn set_aside_before(path: &Path) -> Vec<Damaged> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let start = format!("{}.", name.to_string_lossy());
    names(dir, &mut Vec::new())
        .into_iter()
        .filter(|name| name.starts_with(&start) && name.ends_with(".damaged"))
        .map(|name| set_aside_earlier(dir.join(name)))
        .collect()
}

fn set_aside_earlier(path: PathBuf) -> Damaged {
    let why = "was set aside by an earlier start".to_owned();
    Damaged { path, why }
}

/// Names in a directory, sorted; hidden ones (unfinished writes) and foreign ones left out.
fn names(dir: &Path, damaged: &mut Vec<Damaged>) -> Vec<String> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut names: Vec<String> = match entries {
        Ok(entries) => entries
            .iter()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect(),
        Err(error) => {
            let (path, why) = (dir.to_owned(), format!("cannot be read: {error}"));
            damaged.push(Damaged { path, why });
            Vec::new()
        }
    };
    names.sort_unstable();
    names
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
