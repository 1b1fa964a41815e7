//! A workspace's directory on disk: the volume, and what lies beside it.
//!
//! ```text
//! DATA/volumes/<ws_id>/            0700, root's
//!     workspace.json               the record
//!     data/                        /workspace inside, the container's user's
//!     jobs/                        /run/fleeks/jobs inside
//!     uploads/                     what is still being sent
//! DATA/volumes/.trash/             what is being removed
//! ```
//! What is in `data` and `jobs` was made by strangers: names of any bytes, trees of any depth,
//! links to anywhere.
//!
//! Must never happen here: a link of the user's followed.

mod changed;
mod mark;
mod tree;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use fleet::id::WorkspaceId;

use crate::runtime::User;
use crate::template::Template;
pub use changed::{Changed, Found};
pub use mark::Mark;
pub use tree::VolumeUsage;

/// Home of everything inside, and of packages; hidden from listings.
pub const HOME: &str = init_protocol::HOME;

/// Where a workspace's things are; says nothing about their existence.
#[derive(Debug, Clone)]
pub struct Volume {
    volumes: PathBuf,
    workspace: WorkspaceId,
}

impl Volume {
    /// The volume of `workspace` under `DATA/volumes`.
    pub fn at(data_dir: &Path, workspace: &WorkspaceId) -> Self {
        Self {
            volumes: data_dir.join("volumes"),
            workspace: workspace.clone(),
        }
    }

    /// The directory with everything of the workspace.
    pub fn root(&self) -> PathBuf {
        self.volumes.join(self.workspace.as_str())
    }

    /// `/workspace` inside.
    pub fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Job logs.
    pub fn jobs(&self) -> PathBuf {
        self.root().join("jobs")
    }

    /// Content that is not complete yet; made when it is first needed.
    pub fn uploads(&self) -> PathBuf {
        self.root().join("uploads")
    }

    /// The record's file.
    pub fn record(&self) -> PathBuf {
        self.root().join("workspace.json")
    }

    /// Makes it, with the template's starter files. Idempotent for a half-made one.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn create(&self, template: &Template, user: User) -> io::Result<()> {
        let volume = self.clone();
        let files = template.files.clone();
        blocking(move || {
            let owner = |path: &Path| chown(path, Some(user.uid), Some(user.gid));
            let root = volume.root();
            std::fs::create_dir_all(&root)?;
            std::fs::set_permissions(&root, Permissions::from_mode(0o700))?;
            for directory in [volume.data(), volume.jobs(), volume.data().join(HOME)] {
                std::fs::create_dir_all(&directory)?;
                std::fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
                owner(&directory)?;
            }
            for file in files {
                let path = volume.data().join(&file.path);
                make_parents(&volume.data(), &file.path, &owner)?;
                std::fs::write(&path, &file.content)?;
                let mode = if file.executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
                owner(&path)?;
            }
            Ok(())
        })
        .await
    }

    /// Returns when all that was written to it is on its disk. Costs what the file system has to
    /// write.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn sync(&self) -> io::Result<()> {
        let data = self.data();
        blocking(move || {
            let directory = std::fs::File::open(data)?;
            rustix::fs::syncfs(&directory)?;
            Ok(())
        })
        .await
    }

    /// This moment, to compare with later.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn mark(&self) -> io::Result<Mark> {
        let root = self.root();
        blocking(move || mark::take(&root, ".mark")).await
    }

    /// [`Volume::mark`] for who compares by [`Volume::changed_since`].
    ///
    /// # Errors
    /// What the file system said.
    pub async fn glance(&self) -> io::Result<Mark> {
        let root = self.root();
        blocking(move || mark::take(&root, ".glance")).await
    }

    /// What in `/workspace` was, or may have been, changed since: [`HOME`] is not looked into.
    /// Costs a walk.
    pub async fn changed_since(&self, mark: Mark) -> Changed {
        let data = self.data();
        let looked = blocking(move || Ok(changed::since(&data, &mark))).await;
        looked.unwrap_or_default()
    }

    /// Whether nothing in `/workspace` surely was changed since. Costs a walk; in doubt it was.
    pub async fn is_unchanged_since(&self, mark: Mark) -> bool {
        let data = self.data();
        let looked = blocking(move || Ok(mark::is_unchanged(&data, &mark))).await;
        looked.unwrap_or(false)
    }

    /// Removes everything, record included, in one step as far as others can see. Idempotent.
    /// Costs a walk; a crash in the middle is finished by [`empty_trash`].
    ///
    /// # Errors
    /// What the file system said.
    pub async fn delete(&self) -> io::Result<()> {
        let volume = self.clone();
        blocking(move || {
            let trash = trash_of(&volume.volumes);
            std::fs::create_dir_all(&trash)?;
            // Ids are never reused, so this name is free unless a deletion was cut off.
            let doomed = trash.join(volume.workspace.as_str());
            match std::fs::rename(volume.root(), &doomed) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            tree::remove(&doomed)
        })
        .await
    }

    /// Counts what it takes up, with job logs and what is still being sent: owners can fill all. Costs a walk over
    /// all of it.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn usage(&self) -> io::Result<VolumeUsage> {
        let parts = [self.data(), self.jobs(), self.uploads()];
        blocking(move || {
            let mut sum = VolumeUsage::default();
            for part in &parts {
                let usage = match tree::usage(part) {
                    Ok(usage) => usage,
                    // Most have no uploads.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && part != &parts[0] => {
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                sum.bytes += usage.bytes;
                sum.entries += usage.entries;
            }
            Ok(sum)
        })
        .await
    }
}

/// What a tree that strangers made takes up. Blocks: a walk over all of it.
///
/// # Errors
/// What the file system said.
pub(crate) fn usage_of(path: &Path) -> io::Result<VolumeUsage> {
    tree::usage(path)
}

/// Removes a tree that strangers made. Idempotent. Blocks.
///
/// # Errors
/// What the file system said.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    tree::remove(path)
}

/// Finishes deletions that a crash cut off.
///
/// # Errors
/// What the file system said.
pub async fn empty_trash(data_dir: &Path) -> io::Result<()> {
    let trash = trash_of(&data_dir.join("volumes"));
    blocking(move || {
        let Ok(entries) = std::fs::read_dir(&trash) else {
            return Ok(());
        };
        entries
            .flatten()
            .try_for_each(|entry| tree::remove(&entry.path()))
    })
    .await
}

fn trash_of(volumes: &Path) -> PathBuf {
    volumes.join(".trash")
}

/// Makes the directories above a starter file, the container user's too.
fn make_parents(
    data: &Path,
    file: &Path,
    owner: &impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let Some(parent) = file.parent() else {
        return Ok(());
    };
    let mut path = data.to_owned();
    for part in parent.components() {
        path.push(part);
        if !path.exists() {
            std::fs::create_dir(&path)?;
            owner(&path)?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Templates;

    #[tokio::test]
    async fn made_counted_and_gone() {
        let data_dir = tempfile::tempdir().unwrap();
        let volume = Volume::at(data_dir.path(), &WorkspaceId::mint());
        let templates = Templates::load(None).unwrap();
        let template = templates.get(&"python".parse().unwrap()).unwrap();
        let user = User {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        };
        for _ in 0..2 {
            volume.create(&template, user).await.unwrap();
        }
        for file in &template.files {
            assert!(volume.data().join(&file.path).exists());
        }
        let mode = std::fs::metadata(volume.root())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(volume.usage().await.unwrap().entries as usize > template.files.len());
        for _ in 0..2 {
            volume.delete().await.unwrap();
            assert!(!volume.root().exists());
        }
        assert_eq!(
            std::fs::read_dir(data_dir.path().join("volumes/.trash"))
                .unwrap()
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn a_cut_off_deletion_is_finished() {
        let data_dir = tempfile::tempdir().unwrap();
        let left = data_dir.path().join("volumes/.trash/ws_x/data/deep");
        std::fs::create_dir_all(&left).unwrap();
        empty_trash(data_dir.path()).await.unwrap();
        assert!(!data_dir.path().join("volumes/.trash/ws_x").exists());
    }
}
