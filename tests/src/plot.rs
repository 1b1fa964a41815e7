//! Where a world stands on disk, and who is alive in it.
//!
//! A world's directory holds a lock that its test process keeps. A directory whose lock is free
//! belongs to a dead run: its process, kernel objects and files are removed before a new world
//! starts.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::traces::Traces;

/// One world's directory; removed when dropped.
pub struct Plot {
    path: PathBuf,
    // Released by the kernel when this process dies, however it dies.
    _lock: Flock<File>,
}

impl Plot {
    /// A fresh one, after the dead were cleared away.
    pub fn claim() -> Result<Self> {
        let estate = std::env::temp_dir().join("fleeks-worlds");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&estate)
            .context("make the directory of worlds")?;
        clear_the_dead(&estate)?;
        let path = estate.join(format!("w{:08x}", rand::random::<u32>()));
        // The lock is taken under a name that the clearing does not look at yet.
        let making = path.with_extension("new");
        fs::DirBuilder::new().mode(0o700).create(&making)?;
        let lock = lock(&making)?.context("a new world's lock is taken")?;
        fs::rename(&making, &path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory; a data dir goes to `data` in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For what has an instance but no data dir: so that the next run knows what to clear away.
    pub fn name_instance(&self, instance: &str) -> Result<()> {
        let data = self.path.join("data");
        fs::create_dir_all(&data)?;
        let identity = serde_json::json!({ "instance": instance });
        fs::write(data.join("instance.json"), identity.to_string())?;
        Ok(())
    }

    /// The id of the platform's data dir, as soon as it has one.
    pub fn instance(&self) -> Option<String> {
        instance(&self.path)
    }
}

/// What the platform wrote about its data dir before it made anything in the kernel.
fn instance(world: &Path) -> Option<String> {
    let text = fs::read(world.join("data/instance.json")).ok()?;
    let identity: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(identity.get("instance")?.as_str()?.to_owned())
}

impl Drop for Plot {
    fn drop(&mut self) {
        if std::env::var_os("FLEEKS_KEEP_WORLDS").is_none() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn lock(world: &Path) -> Result<Option<Flock<File>>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(world.join("lock"))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error).context("lock a world"),
    };
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
    Ok(Some(file))
}

fn clear_the_dead(estate: &Path) -> Result<()> {
    for entry in fs::read_dir(estate)? {
        let world = entry?.path();
        if world.extension().is_some() {
            continue;
        }
        // Another run may clear the same one: whoever holds the lock does it.
        let Ok(Some(_lock)) = lock(&world) else {
            continue;
        };
        Traces::of(instance(&world).as_deref(), &world)?.remove()?;
        let _ = fs::remove_dir_all(&world);
    }
    Ok(())
}
