//! The names below `DATA/snapshots`, and the steps of which changes there are made. Blocking.
//!
//! Must never happen here: a rename that replaces, or a complete snapshot with a file missing.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fleet::id::Generation;
use rustix::fs::{CWD, RenameFlags};

use super::SnapshotError;
use super::room::Ledger;

const DRAFT: &str = "draft";
const DAMAGED: &str = "damaged";
/// Damaged snapshots that are kept, of all workspaces together.
const DAMAGED_KEPT: usize = 4;

/// What a name in a workspace's directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being written, or left by a crash.
    Draft,
    /// Made by a rename.
    Complete,
    /// Kept aside.
    Damaged,
}

/// Where one is, or would be.
pub fn named(parent: &Path, generation: Generation, state: State) -> PathBuf {
    let number = generation.0;
    parent.join(match state {
        State::Complete => number.to_string(),
        State::Draft => format!("{number}.{DRAFT}"),
        State::Damaged => format!("{number}.{DAMAGED}"),
    })
}

/// Everything of ours in a workspace's directory; nothing if there is none.
pub fn entries(parent: &Path) -> Result<Vec<(Generation, State)>, SnapshotError> {
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
pub fn highest_in(parent: &Path) -> Result<Option<(Generation, State)>, SnapshotError> {
    let by_generation: BTreeMap<Generation, State> = entries(parent)?
        .into_iter()
        .filter(|(_, state)| *state != State::Draft)
        .collect();
    Ok(by_generation.into_iter().next_back())
}

pub fn set_aside(parent: &Path, generation: Generation, ledger: &Ledger) -> io::Result<()> {
    let aside = named(parent, generation, State::Damaged);
    rename_new(&named(parent, generation, State::Complete), &aside)?;
    ledger.count(&aside);
    sync(parent)
}

/// Removes what was put aside, but the last few. In doubt it stays.
pub fn forget_old_damage(root: &Path) {
    let mut aside = Vec::new();
    for workspace in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let parent = workspace.path();
        for (generation, state) in entries(&parent).unwrap_or_default() {
            let path = named(&parent, generation, state);
            if state == State::Damaged
                && let Ok(about) = std::fs::metadata(&path)
            {
                aside.push((about.ctime(), about.ctime_nsec(), path));
            }
        }
    }
    aside.sort_unstable();
    let old = aside.len().saturating_sub(DAMAGED_KEPT);
    for (.., path) in aside.into_iter().take(old) {
        drop(remove(&path));
    }
}

/// Removes one; a complete one stops being that before the first of its files goes.
pub fn discard(parent: &Path, generation: Generation, state: State) -> io::Result<()> {
    let draft = named(parent, generation, State::Draft);
    remove(&draft)?;
    if state != State::Draft {
        rename_new(&named(parent, generation, state), &draft)?;
        remove(&draft)?;
    }
    sync(parent)
}

/// To a name that nobody has.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        from,
        CWD,
        to,
        RenameFlags::NOREPLACE,
    )?)
}

/// Removes a directory, if it is there.
pub fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Memory of strangers is in there.
pub fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes names in a directory durable.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
