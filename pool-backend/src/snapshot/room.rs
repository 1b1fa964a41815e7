//! How much all snapshots together take, and whether there is room for one more.
//!
//! Must never happen here: a snapshot removed to make room. Each was acknowledged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::SnapshotError;

/// What records and volumes on the same disk still need when a snapshot was written.
const RESERVE: u64 = 16 << 20;
/// Less is full: a write failed, or the next one will.
const FULL: u64 = 1 << 20;
/// Of the disk, where nothing else is configured.
const SHARE: u64 = 2;

/// The bytes of each snapshot that was ever counted; one that is gone is found out when asked.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<PathBuf, u64>>>);

impl Ledger {
    /// Counts a snapshot's directory. Blocking.
    pub fn count(&self, directory: &Path) {
        let bytes = bytes_below(directory);
        self.0.lock().insert(directory.to_owned(), bytes);
    }

    /// What those take that are there. Costs a look at each.
    pub fn used(&self) -> u64 {
        let mut counted = self.0.lock();
        counted.retain(|directory, _| directory.exists());
        counted.values().sum()
    }
}

/// Whether a snapshot of about `expected` bytes may be made. Blocking.
///
/// # Errors
/// [`SnapshotError::Bound`], [`SnapshotError::Full`].
pub fn check(
    root: &Path,
    used: u64,
    most: Option<u64>,
    expected: u64,
) -> Result<(), SnapshotError> {
    let disk = rustix::fs::statvfs(root)
        .map_err(io::Error::from)
        .map_err(SnapshotError::io("look at the snapshots' disk"))?;
    let most = most.unwrap_or(disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE);
    if used.saturating_add(expected) > most {
        return Err(SnapshotError::Bound { used, most });
    }
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < expected.saturating_add(RESERVE) {
        return Err(SnapshotError::Full);
    }
    Ok(())
}

/// Whether nothing can be written any more. Blocking.
pub fn is_full(root: &Path) -> bool {
    rustix::fs::statvfs(root)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL || disk.f_favail == 0)
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
