//! Whether an archive's entries, all together, can be written, and where to. Pure.
//!
//! Must never happen here: a path that is not below the base, or one entry within another that is
//! no directory.

use std::collections::HashMap;
use std::path::Path;

use super::{Limits, invalid, shown, stays_inside, too_large};
use crate::error::Error;
use crate::workspaces::path::VolumePath;

/// Where the volume is mounted inside.
const MOUNT: &str = "/workspace";
/// Longest target of a link, as the kernel has it.
const MAX_TARGET: usize = 4095;

/// An entry as an archive has it.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) kind: Kind<'a>,
}

/// What an archive says of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    File,
    Directory,
    Link(&'a [u8]),
    /// Not taken; its name.
    Other(&'static str),
}

/// An entry as it will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the volume.
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File { mode: u32 },
    Directory { mode: u32 },
    Link { target: String },
}

/// What is to be done with an archive.
#[derive(Debug)]
pub(crate) struct Plan {
    base: VolumePath,
    pub(super) limits: Limits,
    /// One for each entry of the archive, in its order; none for what needs nothing done.
    pub(crate) entries: Vec<Option<Entry>>,
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) links: u64,
    /// Of all files.
    pub(crate) bytes: u64,
    /// By path: whether it is a directory.
    seen: HashMap<String, bool>,
}

impl Plan {
    /// An empty one, for what goes below `base`.
    pub(crate) fn new(base: VolumePath, limits: Limits) -> Self {
        Self {
            base,
            limits,
            entries: Vec::new(),
            files: 0,
            directories: 0,
            links: 0,
            bytes: 0,
            seen: HashMap::new(),
        }
    }

    /// In the order in which they are written: links last, so that nothing is written through one.
    pub(crate) fn order(&self) -> impl Iterator<Item = &Entry> {
        let is_link = |entry: &&Entry| matches!(entry.what, What::Link { .. });
        let there = || self.entries.iter().flatten();
        there()
            .filter(move |entry| !is_link(entry))
            .chain(there().filter(is_link))
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// `Invalid`, `TooLarge`, with the entry's name.
    pub(crate) fn add(&mut self, found: &Found<'_>) -> Result<(), Error> {
        if self.entries.len() >= self.limits.entries {
            let most = self.limits.entries;
            return Err(too_large(format!(
                "the archive has more than {most} entries"
            )));
        }
        let planned = self.planned(found)?;
        match planned.as_ref().map(|entry| &entry.what) {
            Some(What::File { .. }) => self.files += 1,
            Some(What::Directory { .. }) => self.directories += 1,
            Some(What::Link { .. }) => self.links += 1,
            None => {}
        }
        self.entries.push(planned);
        Ok(())
    }

    fn planned(&mut self, found: &Found<'_>) -> Result<Option<Entry>, Error> {
        let path = self.path(found.name)?;
        let name = shown(found.name);
        let Some(path) = path else {
            return match found.kind {
                Kind::Directory => Ok(None),
                _ => Err(invalid(format!(
                    "an entry of the archive has no name: '{name}'"
                ))),
            };
        };
        let mode = found.mode & 0o777;
        let what = match found.kind {
            Kind::File => What::File { mode },
            // Its owner has to be able to write into it.
            Kind::Directory => What::Directory { mode: mode | 0o700 },
            Kind::Link(target) => What::Link {
                target: self.target(&path, target, &name)?,
            },
            Kind::Other(kind) => {
                return Err(invalid(format!(
                    "the archive has a {kind}, which is not taken: '{name}'"
                )));
            }
        };
        let is_directory = matches!(what, What::Directory { .. });
        let mut parent = path.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            parent = above;
            match self.seen.get(parent) {
                None => {
                    self.seen.insert(parent.to_owned(), true);
                }
                Some(true) => break,
                Some(false) => {
                    return Err(invalid(format!(
                        "in the archive '{name}' is within what is no directory"
                    )));
                }
            }
        }
        match self.seen.insert(path.clone(), is_directory) {
            None => {}
            Some(true) if is_directory => {}
            Some(_) => {
                return Err(invalid(format!("the archive has '{name}' more than once")));
            }
        }
        Ok(Some(Entry { path, what }))
    }

    /// Relative to the volume; none for the base itself.
    fn path(&self, name: &[u8]) -> Result<Option<String>, Error> {
        let wrong =
            |what: &str| invalid(format!("a name in the archive {what}: '{}'", shown(name)));
        let text = std::str::from_utf8(name).map_err(|_| wrong("is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(wrong("is absolute"));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(wrong("has '..' in it"));
        }
        let below = VolumePath::parse(text).map_err(|error| wrong(&error.message))?;
        if below.is_root() {
            return Ok(None);
        }
        let path = self
            .base
            .join(&below)
            .map_err(|error| wrong(&error.message))?;
        if path.as_str().split('/').count() > self.limits.depth {
            return Err(too_large(format!(
                "the archive has directories deeper than {}: '{}'",
                self.limits.depth,
                shown(name)
            )));
        }
        Ok(Some(path.as_str().to_owned()))
    }

    fn target(&self, path: &str, target: &[u8], name: &str) -> Result<String, Error> {
        let wrong = |what: &str| invalid(format!("a link in the archive {what}: '{name}'"));
        let text = std::str::from_utf8(target).map_err(|_| wrong("is not UTF-8"))?;
        if text.is_empty() || text.len() > MAX_TARGET || text.contains('\0') {
            return Err(wrong("leads nowhere"));
        }
        let inside = match text.strip_prefix(MOUNT) {
            // Absolute inside: as if the link stood at the volume's root.
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                stays_inside(Path::new("x"), Path::new(rest.trim_start_matches('/')))
            }
            _ => stays_inside(Path::new(path), Path::new(text)),
        };
        if !inside {
            return Err(wrong("leads out of the workspace"));
        }
        Ok(text.to_owned())
    }
}
