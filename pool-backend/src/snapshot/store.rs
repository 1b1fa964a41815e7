//! Where snapshots are.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fleet::id::{Generation, WorkspaceId};
use rustix::fs::{CWD, RenameFlags};
use time::OffsetDateTime;

use super::{About, Manifest, Reader, Snapshot, SnapshotError, machine, manifest};

/// In a snapshot's directory: the runtime's own.
pub const IMAGES: &str = "images";
const DRAFT: &str = "draft";
const DAMAGED: &str = "damaged";

/// All snapshots of a data dir.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    root: PathBuf,
}

/// All snapshots together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Complete ones.
    pub count: u64,
    /// What is below the store, drafts and damaged ones included.
    pub bytes: u64,
}

/// A snapshot being made. Dropped without commit, it is removed.
#[derive(Debug)]
pub struct Draft {
    workspace: WorkspaceId,
    generation: Generation,
    /// Of the workspace.
    parent: PathBuf,
    directory: PathBuf,
    committed: bool,
}

/// What a name in a workspace's directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Draft,
    Complete,
    Damaged,
}

impl SnapshotStore {
    /// The store under `DATA/snapshots`, which is made.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("snapshots");
        make_private(&root)?;
        Ok(Self { root })
    }

    /// A place for the images of a checkpoint. What a crash left of an earlier attempt goes.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`], [`SnapshotError::Io`].
    pub async fn begin(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
    ) -> Result<Draft, SnapshotError> {
        let parent = self.of(workspace);
        let workspace = workspace.clone();
        blocking(move || {
            if named(&parent, generation, State::Complete).exists() {
                return Err(SnapshotError::Exists(generation));
            }
            let directory = named(&parent, generation, State::Draft);
            let made = remove(&directory)
                .and_then(|()| make_private(&parent))
                .and_then(|()| make_private(&directory))
                .and_then(|()| make_private(&directory.join(IMAGES)));
            // Also when the second step failed: what there is of it goes then.
            let draft = Draft {
                workspace,
                generation,
                parent,
                directory,
                committed: false,
            };
            made.map_err(SnapshotError::io("make a place for a snapshot"))?;
            Ok(draft)
        })
        .await
    }

    /// The snapshot of the highest generation, if `reader` can read it. Reads all of it, to see
    /// that it is what was written.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub async fn latest(
        &self,
        workspace: &WorkspaceId,
        reader: &Reader,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let (parent, workspace) = (self.of(workspace), workspace.clone());
        let reader = reader.clone();
        blocking(move || {
            let Some((generation, state)) = highest_in(&parent)? else {
                return Ok(None);
            };
            let damaged = |reason| SnapshotError::Damaged { generation, reason };
            if state == State::Damaged {
                return Err(damaged("it was put aside before".to_owned()));
            }
            let directory = named(&parent, generation, State::Complete);
            let aside = |reason| {
                // It is what it is, wherever it lies.
                drop(set_aside(&parent, generation));
                damaged(reason)
            };
            let manifest = manifest::read(&directory, &workspace, generation).map_err(aside)?;
            if let Some(reason) = manifest::foreign(&manifest, &reader) {
                return Err(SnapshotError::Foreign { generation, reason });
            }
            manifest::compare(&directory, &manifest).map_err(aside)?;
            Ok(Some(Snapshot {
                manifest,
                directory,
            }))
        })
        .await
    }

    /// The highest generation of which a complete snapshot is there, readable or not: for
    /// adoption.
    pub async fn highest(&self, workspace: &WorkspaceId) -> Option<Generation> {
        let parent = self.of(workspace);
        let found = blocking(move || {
            Ok(entries(&parent)?
                .into_iter()
                .filter(|(_, state)| *state == State::Complete)
                .map(|(generation, _)| generation)
                .max())
        });
        found.await.ok().flatten()
    }

    /// What the highest complete one says of itself; its images are not looked at.
    pub async fn glance(&self, workspace: &WorkspaceId) -> Option<Manifest> {
        let generation = self.highest(workspace).await?;
        let (parent, workspace) = (self.of(workspace), workspace.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let directory = named(&parent, generation, State::Complete);
            manifest::read(&directory, &workspace, generation).ok()
        });
        reading.await.ok().flatten()
    }

    /// Puts a snapshot aside that a restore showed to be bad.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn put_aside(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let parent = self.of(&snapshot.manifest.workspace);
        let generation = snapshot.manifest.generation;
        blocking(move || {
            set_aside(&parent, generation).map_err(SnapshotError::io("put a snapshot aside"))
        })
        .await
    }

    /// Removes everything of a workspace below `below`, damaged ones and drafts included.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn prune(
        &self,
        workspace: &WorkspaceId,
        below: Generation,
    ) -> Result<(), SnapshotError> {
        let parent = self.of(workspace);
        blocking(move || {
            for (generation, state) in entries(&parent)? {
                if generation < below {
                    discard(&parent, generation, state)
                        .map_err(SnapshotError::io("remove a snapshot"))?;
                }
            }
            // Not empty, mostly.
            drop(std::fs::remove_dir(&parent));
            Ok(())
        })
        .await
    }

    /// Removes everything of a workspace. Idempotent.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn remove_all(&self, workspace: &WorkspaceId) -> Result<(), SnapshotError> {
        self.prune(workspace, Generation(u64::MAX)).await
    }

    /// Removes drafts that a crash left and snapshots of workspaces that `known` denies. At start.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn sweep(
        &self,
        known: impl Fn(&WorkspaceId) -> bool + Send,
    ) -> Result<(), SnapshotError> {
        let failed = SnapshotError::io("look through the snapshots");
        let mut workspaces: Vec<WorkspaceId> = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            workspaces.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        for workspace in workspaces {
            if !known(&workspace) {
                self.remove_all(&workspace).await?;
                continue;
            }
            let parent = self.of(&workspace);
            blocking(move || {
                for (generation, state) in entries(&parent)? {
                    if state == State::Draft {
                        discard(&parent, generation, state)
                            .map_err(SnapshotError::io("remove a half-written snapshot"))?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What all of them take on disk. Costs a walk.
    pub async fn total_bytes(&self) -> u64 {
        let root = self.root.clone();
        blocking(move || Ok(bytes_below(&root))).await.unwrap_or(0)
    }

    /// How many there are and what they take on disk. Blocks for a walk.
    pub fn tally(&self) -> Tally {
        let workspaces = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        let complete = |workspace: std::fs::DirEntry| {
            let found = entries(&workspace.path()).unwrap_or_default();
            found
                .iter()
                .filter(|(_, state)| *state == State::Complete)
                .count()
        };
        Tally {
            count: workspaces.map(|workspace| complete(workspace) as u64).sum(),
            bytes: bytes_below(&self.root),
        }
    }

    fn of(&self, workspace: &WorkspaceId) -> PathBuf {
        self.root.join(workspace.as_str())
    }
}

impl Draft {
    /// Empty, for [`crate::runtime::Runtime::checkpoint`].
    pub fn images_dir(&self) -> PathBuf {
        self.directory.join(IMAGES)
    }

    /// Makes it durable and complete, in one step as far as others can see.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is left then.
    pub async fn commit(mut self, about: About) -> Result<Snapshot, SnapshotError> {
        blocking(move || {
            let failed = SnapshotError::io("write a snapshot");
            // One call for some dozens of files; they are looked at on their way to the disk.
            let images = File::open(self.images_dir()).map_err(&failed)?;
            let directory = self.directory.clone();
            let looking = std::thread::spawn(move || manifest::look(&directory));
            rustix::fs::syncfs(images).map_err(|error| failed(error.into()))?;
            let died = |_| Err(io::Error::other("the thread that read the images died"));
            let manifest = Manifest {
                workspace: self.workspace.clone(),
                generation: self.generation,
                about,
                files: looking.join().unwrap_or_else(died).map_err(&failed)?,
                created_at: OffsetDateTime::now_utc(),
                clock_ms: machine::clock_ms(),
            };
            manifest::write(&self.directory, &manifest).map_err(&failed)?;
            sync(&self.directory).map_err(&failed)?;
            let directory = named(&self.parent, self.generation, State::Complete);
            match rename_new(&self.directory, &directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(SnapshotError::Exists(self.generation));
                }
                other => other.map_err(&failed)?,
            }
            self.committed = true;
            // Its own name and, the first time, its workspace's.
            let named = sync(&self.parent).and_then(|()| self.parent.parent().map_or(Ok(()), sync));
            if let Err(error) = named {
                // Whether it would outlive a crash is not known, so it must not be there.
                drop(discard(&self.parent, self.generation, State::Complete));
                return Err(failed(error));
            }
            Ok(Snapshot {
                manifest,
                directory,
            })
        })
        .await
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = remove(&self.directory)
        {
            tracing::warn!(workspace = %self.workspace, %error, "a half-written snapshot stays");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(SnapshotError::Io {
                context: "work on snapshots",
                source: io::Error::other(error),
            })
        })
}

fn named(parent: &Path, generation: Generation, state: State) -> PathBuf {
    let number = generation.0;
    parent.join(match state {
        State::Complete => number.to_string(),
        State::Draft => format!("{number}.{DRAFT}"),
        State::Damaged => format!("{number}.{DAMAGED}"),
    })
}

/// Everything of ours in a workspace's directory; nothing if there is none.
fn entries(parent: &Path) -> Result<Vec<(Generation, State)>, SnapshotError> {
    let failed = SnapshotError::io("list snapshots");
    let listed = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(&failed)?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let name = entry.map_err(&failed)?.file_name();
        found.extend(name.to_str().and_then(parse));
    }
    Ok(found)
}

fn parse(name: &str) -> Option<(Generation, State)> {
    let (number, state) = match name.split_once('.') {
        None => (name, State::Complete),
        Some((number, DRAFT)) => (number, State::Draft),
        Some((number, DAMAGED)) => (number, State::Damaged),
        Some(_) => return None,
    };
    Some((Generation(number.parse().ok()?), state))
}

/// The highest one that was ever complete. A damaged one hides older ones: memory from before
/// what the volume has seen since is worse than none.
fn highest_in(parent: &Path) -> Result<Option<(Generation, State)>, SnapshotError> {
    let by_generation: BTreeMap<Generation, State> = entries(parent)?
        .into_iter()
        .filter(|(_, state)| *state != State::Draft)
        .collect();
    Ok(by_generation.into_iter().next_back())
}

fn set_aside(parent: &Path, generation: Generation) -> io::Result<()> {
    let aside = named(parent, generation, State::Damaged);
    rename_new(&named(parent, generation, State::Complete), &aside)?;
    sync(parent)
}

/// Removes one; a complete one stops being that before the first of its files goes.
fn discard(parent: &Path, generation: Generation, state: State) -> io::Result<()> {
    let draft = named(parent, generation, State::Draft);
    remove(&draft)?;
    if state != State::Draft {
        rename_new(&named(parent, generation, state), &draft)?;
        remove(&draft)?;
    }
    sync(parent)
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        from,
        CWD,
        to,
        RenameFlags::NOREPLACE,
    )?)
}

fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Memory of strangers is in there.
fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn bytes_below(directory: &Path) -> u64 {
    let Ok(listed) = std::fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    listed.flatten().map(size).sum()
}
