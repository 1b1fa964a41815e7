//! The node's own writes, so that a watch can say which change is whose.
//!
//! Must never happen here: growth, or any cost while nobody watches.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Writes whose effect was not seen yet; the oldest is forgotten first.
const MAX: usize = 1024;

/// How something came to be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A file was given this name, where a file was.
    Replaced,
    /// The same, where nothing was.
    Named,
    /// It was made under this name.
    Made,
}

/// See the module.
#[derive(Default)]
pub struct Writes {
    watches: Cell<u32>,
    recent: RefCell<VecDeque<(String, Way, u64)>>,
}

impl Writes {
    /// For as long as it lives, writes are remembered.
    pub fn hear(&self) -> Heard<'_> {
        self.watches.set(self.watches.get() + 1);
        Heard(self)
    }

    /// A write was done.
    pub fn note(&self, path: impl FnOnce() -> String, way: Way, id: u64) {
        if self.watches.get() == 0 {
            return;
        }
        let mut recent = self.recent.borrow_mut();
        if recent.len() == MAX {
            recent.pop_front();
        }
        recent.push_back((path(), way, id));
    }

    /// The oldest write of which this may be the effect; it is forgotten, unless somebody else
    /// watches too.
    pub fn of(&self, path: &str, fits: impl Fn(Way) -> bool) -> Option<(Way, u64)> {
        let mut recent = self.recent.borrow_mut();
        let mut all = recent.iter();
        let at = all.position(|(known, way, _)| known == path && fits(*way))?;
        let found = match self.watches.get() {
            0 | 1 => recent.remove(at),
            _ => recent.get(at).cloned(),
        };
        found.map(|(_, way, id)| (way, id))
    }

    /// The last write of which what is found at a path is the effect. All before it have had
    /// theirs, though nobody saw it.
    pub fn found(&self, path: &str) -> Option<u64> {
        let mut recent = self.recent.borrow_mut();
        let last = recent.iter().rev().find(|(known, ..)| known == path);
        let id = last.map(|(_, _, id)| *id)?;
        if self.watches.get() <= 1 {
            recent.retain(|(known, ..)| known != path);
        }
        Some(id)
    }

    /// What happened until now is not seen any more.
    pub fn forget(&self) {
        if self.watches.get() <= 1 {
            self.recent.borrow_mut().clear();
        }
    }
}

/// See [`Writes::hear`].
pub struct Heard<'a>(&'a Writes);

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        let left = self.0.watches.get().saturating_sub(1);
        self.0.watches.set(left);
        if left == 0 {
            self.0.recent.take();
        }
    }
}
