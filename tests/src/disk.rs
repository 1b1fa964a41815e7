//! A small disk: a file with a file system in it, mounted.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process;

const LIMIT: Duration = Duration::from_secs(20);

/// See the module. Unmounted when dropped.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an empty one at `at`; its file stands beside.
    pub fn mount(at: &Path, mib: u64) -> Result<Self> {
        let image = at.with_extension("image");
        File::create(&image)?.set_len(mib << 20)?;
        let mut make = Command::new("mkfs.ext4");
        // Nothing kept back for root, which is who writes here.
        make.args(["-q", "-m", "0"]).arg(&image);
        process::run(make, LIMIT)?.success().context("mkfs")?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&image).arg(at);
        process::run(mount, LIMIT)?.success().context("mount")?;
        Ok(Self { at: at.to_owned() })
    }

    /// Fills it to its last block.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        for block in [vec![1; 1 << 20], vec![1; 1 << 12]] {
            while file.write_all(&block).is_ok() {}
        }
        // It may fail as well: there is no room.
        let _ = file.sync_all();
        Ok(())
    }

    /// Undoes [`Disk::fill`].
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler())?;
        Ok(())
    }

    /// Unmounts it, and says so when that fails.
    pub fn unmount(self) -> Result<()> {
        nix::mount::umount(&self.at).context("unmount")
    }

    fn filler(&self) -> PathBuf {
        self.at.join("lost+found/filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Unmounted already, mostly.
        let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
    }
}
