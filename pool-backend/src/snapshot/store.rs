//! Where snapshots are.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fleet::id::{Generation, WorkspaceId};
use time::OffsetDateTime;

use super::layout::{
    State, discard, entries, forget_old_damage, highest_in, make_private, named, remove,
    rename_new, set_aside, sync,
};
use super::room::{self, Ledger};
use super::{About, Manifest, Reader, Snapshot, SnapshotError, machine, manifest};

/// In a snapshot's directory: the runtime's own.
pub const IMAGES: &str = "images";

/// All snapshots of a data dir.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    root: PathBuf,
    ledger: Ledger,
    /// What all of them may take; none: a share of the disk.
    most: Option<u64>,
}

/// All snapshots together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Complete ones.
    pub count: u64,
    /// What they take, damaged ones included.
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
    ledger: Ledger,
    committed: bool,
}

impl SnapshotStore {
    /// The store under `DATA/snapshots`, which is made. All snapshots together take at most `most`
    /// bytes; half of the disk if that is not said.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(data_dir: &Path, most: Option<u64>) -> io::Result<Self> {
        let root = data_dir.join("snapshots");
        make_private(&root)?;
        let ledger = Ledger::default();
        for workspace in std::fs::read_dir(&root)?.flatten() {
            let parent = workspace.path();
            for (generation, state) in entries(&parent).unwrap_or_default() {
                ledger.count(&named(&parent, generation, state));
            }
        }
        Ok(Self { root, ledger, most })
    }

    /// Whether there is room for a snapshot of about `expected` bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Bound`], [`SnapshotError::Full`], [`SnapshotError::Io`].
    pub async fn has_room(&self, expected: u64) -> Result<(), SnapshotError> {
        let store = self.clone();
        blocking(move || room::check(&store.root, store.ledger.used(), store.most, expected)).await
    }

    /// Whether the disk is full, by now.
    pub async fn is_full(&self) -> bool {
        let root = self.root.clone();
        blocking(move || Ok(room::is_full(&root)))
            .await
            .unwrap_or(false)
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
        let (workspace, ledger) = (workspace.clone(), self.ledger.clone());
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
                ledger,
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
        let (root, reader) = (self.root.clone(), reader.clone());
        let ledger = self.ledger.clone();
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
                drop(set_aside(&parent, generation, &ledger));
                forget_old_damage(&root);
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

    /// What the highest snapshot says of itself, if it is not damaged. Its images are not read.
    pub async fn glance(&self, workspace: &WorkspaceId) -> Option<Manifest> {
        let (parent, workspace) = (self.of(workspace), workspace.clone());
        let read = blocking(move || {
            let Some((generation, State::Complete)) = highest_in(&parent)? else {
                return Ok(None);
            };
            let directory = named(&parent, generation, State::Complete);
            Ok(manifest::read(&directory, &workspace, generation).ok())
        });
        read.await.ok().flatten()
    }

    /// Puts a snapshot aside that is not to be restored any more. The last few of all workspaces
    /// are kept, for whoever wants to know why.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn put_aside(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
    ) -> Result<(), SnapshotError> {
        let (root, parent) = (self.root.clone(), self.of(workspace));
        let ledger = self.ledger.clone();
        blocking(move || {
            set_aside(&parent, generation, &ledger)
                .map_err(SnapshotError::io("put a snapshot aside"))?;
            forget_old_damage(&root);
            Ok(())
        })
        .await
    }

    /// From now on there is nothing to wake the workspace from; what is damaged stays aside.
    /// Idempotent.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn give_up(&self, workspace: &WorkspaceId) -> Result<(), SnapshotError> {
        let parent = self.of(workspace);
        blocking(move || {
            for (generation, state) in entries(&parent)? {
                if state != State::Damaged {
                    discard(&parent, generation, state)
                        .map_err(SnapshotError::io("remove a snapshot"))?;
                }
            }
            // Not empty, perhaps.
            drop(std::fs::remove_dir(&parent));
            Ok(())
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

    /// Those that have any that is not damaged, half-written ones included.
    pub async fn workspaces(&self) -> Vec<WorkspaceId> {
        let root = self.root.clone();
        let listed = blocking(move || {
            let failed = SnapshotError::io("look through the snapshots");
            let mut workspaces = Vec::new();
            for entry in std::fs::read_dir(&root).map_err(&failed)? {
                let entry = entry.map_err(&failed)?;
                let of = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                let useful = |(_, state): &(Generation, State)| *state != State::Damaged;
                if entries(&entry.path())?.iter().any(useful) {
                    workspaces.extend(of);
                }
            }
            Ok(workspaces)
        });
        listed.await.unwrap_or_default()
    }

    /// What all of them take on disk. Costs a look at each.
    pub async fn total_bytes(&self) -> u64 {
        let ledger = self.ledger.clone();
        blocking(move || Ok(ledger.used())).await.unwrap_or(0)
    }

    /// How many there are and what they take on disk. Blocks for a look at each.
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
            bytes: self.ledger.used(),
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
            self.ledger.count(&directory);
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
