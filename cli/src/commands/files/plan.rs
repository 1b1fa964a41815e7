//! What makes one directory like another: pure.
//!
//! Must never happen here: I/O, or a step that touches what is no file and no directory.

use std::collections::{BTreeMap, BTreeSet};

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, FIFO or device.
    Other,
    /// Nobody looked at it: its name is excluded, or cannot be written.
    Excluded,
}

/// As far as a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Microseconds of the Unix epoch: as fine as the API tells.
    pub changed: i64,
    /// Permission bits.
    pub mode: u32,
}

impl Meta {
    /// What is only known to be there.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            size: 0,
            changed: 0,
            mode: 0o755,
        }
    }
}

/// What is below a directory, by paths relative to it.
pub type Tree = BTreeMap<String, Meta>;

/// What is not touched, and why.
pub type LeftOut = BTreeMap<String, &'static str>;

/// What to do at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This file or directory stands where a directory or file is to be: it goes, with all below.
    Clear(String),
    /// This file is new or newer at the source.
    Copy(String),
    /// This file is not at the source any more.
    Delete(String),
}

/// All that is to do, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What stands in the way goes first, then come copies, other deletions last; each by path.
    pub steps: Vec<Step>,
    /// Where the target has what is not written through and not replaced.
    pub left_out: LeftOut,
}

/// Why there is no plan: the texts are for people.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InTheWay {
    /// It would have to go, and nobody said that it may.
    #[error("{path} is a {is} at the target and none at the source; --delete replaces it")]
    Unwanted {
        /// Below the target.
        path: String,
        /// `file` or `directory`.
        is: &'static str,
    },
    /// It would have to go with what is left out.
    #[error("{path} is a directory at the target, and {holds} in it is left out: remove it there")]
    Holds {
        /// Below the target.
        path: String,
        /// What it holds.
        holds: String,
    },
}

/// Copies what is missing there, has another size, or is newer here; deletes what is not here if
/// `delete`.
///
/// # Errors
/// [`InTheWay`], before anything is done.
pub fn plan(here: &Tree, there: &Tree, delete: bool) -> Result<Plan, InTheWay> {
    let mut left_out = LeftOut::new();
    let mut cleared = BTreeSet::new();
    let mut copies = Vec::new();
    for (path, meta) in here.iter().filter(|(_, meta)| meta.kind == Kind::File) {
        let Some((at, other)) = standing(there, path) else {
            copies.push(path);
            continue;
        };
        match other.kind {
            Kind::Link => {
                left_out.insert(at.to_owned(), "a link at the target");
            }
            Kind::Other => {
                left_out.insert(at.to_owned(), "neither file nor directory at the target");
            }
            Kind::Excluded => {}
            Kind::File if at == path => {
                if other.size != meta.size || other.changed < meta.changed {
                    copies.push(path);
                }
            }
            Kind::File | Kind::Directory => {
                may_go(there, at, other.kind, delete)?;
                cleared.insert(at.to_owned());
                copies.push(path);
            }
        }
    }
    let mut steps: Vec<Step> = cleared.iter().cloned().map(Step::Clear).collect();
    steps.extend(copies.into_iter().cloned().map(Step::Copy));
    if delete {
        let gone = there.iter().filter(|(path, meta)| {
            let stays = here.get(*path).is_some_and(|here| here.kind == Kind::File);
            let is_cleared = prefixes(path).any(|at| cleared.contains(at));
            meta.kind == Kind::File && !stays && !is_cleared && !is_left_out(here, path)
        });
        steps.extend(gone.map(|(path, _)| Step::Delete(path.clone())));
    }
    Ok(Plan { steps, left_out })
}

/// What the target has once the steps are done.
pub fn done(mut there: Tree, here: &Tree, steps: &[Step]) -> Tree {
    for step in steps {
        match step {
            Step::Clear(gone) | Step::Delete(gone) => {
                there.retain(|path, _| prefixes(path).all(|at| at != gone));
            }
            Step::Copy(path) => {
                for at in prefixes(path) {
                    let meta = here.get(at).copied();
                    let meta = meta.unwrap_or_else(|| Meta::of(Kind::Directory));
                    there.insert(at.to_owned(), meta);
                }
            }
        }
    }
    there
}

/// Where a path is excluded: up to its first part of one of these names, or of Git's.
pub fn excluded<'a>(path: &'a str, names: &[String]) -> Option<&'a str> {
    prefixes(path).find(|at| {
        let part = at.rsplit('/').next().unwrap_or_default();
        part == ".git" || names.iter().any(|name| name == part)
    })
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| &path[..at]);
    slashes.chain(std::iter::once(path))
}

/// What stands where a file is to be: at its path, or at one on the way that is no directory.
fn standing<'a>(there: &Tree, path: &'a str) -> Option<(&'a str, Meta)> {
    prefixes(path)
        .filter_map(|at| there.get(at).map(|meta| (at, *meta)))
        .find(|(at, meta)| *at == path || meta.kind != Kind::Directory)
}

/// Whether a path is, or is below, what the source has and does not send.
fn is_left_out(here: &Tree, path: &str) -> bool {
    prefixes(path)
        .filter_map(|at| here.get(at))
        .any(|meta| !matches!(meta.kind, Kind::File | Kind::Directory))
}

fn may_go(there: &Tree, at: &str, kind: Kind, delete: bool) -> Result<(), InTheWay> {
    let path = at.to_owned();
    if !delete {
        let is = match kind {
            Kind::Directory => "directory",
            _ => "file",
        };
        return Err(InTheWay::Unwanted { path, is });
    }
    let below = format!("{at}/");
    let mut below = there
        .range(below.clone()..)
        .take_while(|(path, _)| path.starts_with(&below));
    match below.find(|(_, meta)| !matches!(meta.kind, Kind::File | Kind::Directory)) {
        Some((holds, _)) => Err(InTheWay::Holds {
            path,
            holds: holds.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
