//! Changes that go to the node together: what says nothing new is left out, the two ends of a
//! rename become one.
//!
//! Must never happen here: a change left out after which its file is not as the node knows it.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;

use init_protocol::{Change, ChangeKind, MAX_CHANGES};

/// Bytes of paths of one reply, its last change apart. In JSON a byte takes at most six, and a
/// change some hundred more: well below `MAX_FRAME`.
const MAX_TEXT: usize = 16 * 1024;
/// Renames of which one end was seen.
const MAX_OPEN: usize = 256;

/// See the module.
#[derive(Default)]
pub struct Batch {
    changes: Vec<Change>,
    text: usize,
    /// The last change of each path.
    last: HashMap<String, ChangeKind>,
    leaving: Vec<Leaving>,
    /// Directories whose moves were told before the kernel says that they left.
    told: HashSet<String>,
    /// Watches of directories that left when too many had.
    evicted: Vec<i32>,
}

/// What was moved away, to a place that is not known yet.
struct Leaving {
    cookie: u32,
    /// None: a file of the node's before it had its name.
    path: Option<String>,
    directory: bool,
    /// A directory's own.
    watch: Option<i32>,
    /// It was here when a batch was taken.
    old: bool,
}

/// As many as one reply takes.
pub fn some(changes: &mut Peekable<impl Iterator<Item = Change>>) -> Vec<Change> {
    let mut some = Vec::new();
    let mut text = 0;
    while some.len() < MAX_CHANGES && text < MAX_TEXT {
        let Some(change) = changes.next() else { break };
        text += change.path.len() + change.from.as_ref().map_or(0, String::len);
        some.push(change);
    }
    some
}

impl Batch {
    pub fn is_full(&self) -> bool {
        self.changes.len() >= MAX_CHANGES || self.text >= MAX_TEXT
    }

    /// Something was moved away, and nobody knows yet where to.
    pub fn is_open(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub fn created(&mut self, path: String, directory: bool, write_id: Option<u64>) {
        // Found by looking, and told by the kernel.
        if self.last.get(&path) == Some(&ChangeKind::Created) {
            let mut known = self.changes.iter_mut().rev();
            if let Some(change) = known.find(|change| change.path == path) {
                change.write_id = change.write_id.or(write_id);
            }
            return;
        }
        self.push(ChangeKind::Created, path, None, directory, write_id);
    }

    pub fn modified(&mut self, path: String, directory: bool, write_id: Option<u64>) {
        let known = self.last.get(&path);
        let is_known = matches!(known, Some(ChangeKind::Created | ChangeKind::Modified));
        if !is_known || write_id.is_some() {
            self.push(ChangeKind::Modified, path, None, directory, write_id);
        }
    }

    pub fn deleted(&mut self, path: String, directory: bool) {
        self.push(ChangeKind::Deleted, path, None, directory, None);
    }

    /// One end of a rename. `watch` is the directory's own.
    pub fn leaves(&mut self, cookie: u32, path: String, directory: bool, watch: Option<i32>) {
        if watch.is_none() && directory && self.told.remove(&path) {
            return;
        }
        self.text += path.len();
        self.open(Leaving {
            cookie,
            path: Some(path),
            directory,
            watch,
            old: false,
        });
    }

    /// One end of a rename by which a file of the node's gets its name.
    pub fn draft(&mut self, cookie: u32) {
        self.open(Leaving {
            cookie,
            path: None,
            directory: false,
            watch: None,
            old: false,
        });
    }

    /// Whether that rename began at such a file.
    pub fn was_draft(&mut self, cookie: u32) -> bool {
        let is = |leaving: &Leaving| leaving.cookie == cookie && leaving.path.is_none();
        let at = self.leaving.iter().position(is);
        at.map(|at| self.leaving.remove(at)).is_some()
    }

    /// Something else is about to have this name: what left it and has not arrived is gone. Its
    /// watch, if a watched directory left.
    pub fn replaced(&mut self, path: &str) -> Option<i32> {
        let is = |left: &Leaving| left.path.as_deref() == Some(path);
        let left = self.leaving.remove(self.leaving.iter().position(is)?);
        self.deleted(path.to_owned(), left.directory);
        left.watch
    }

    /// A directory that is watched was found at another place, whether or not it is known that it
    /// left: that its end of the rename comes, or came, says nothing more.
    pub fn found_again(&mut self, watch: i32, from: String, path: String) {
        match self
            .leaving
            .iter()
            .position(|left| left.watch == Some(watch))
        {
            Some(at) => drop(self.leaving.remove(at)),
            None if self.told.len() < MAX_OPEN => drop(self.told.insert(from.clone())),
            None => {}
        }
        self.evicted.retain(|gone| *gone != watch);
        self.last.remove(&from);
        self.push(ChangeKind::Moved, path, Some(from), true, None);
    }

    /// The other end of a rename. The watch of what left, if a watched directory did.
    pub fn arrives(&mut self, cookie: u32, path: String, directory: bool) -> Option<i32> {
        let at = self.leaving.iter().position(|left| left.cookie == cookie);
        let left = at.map(|at| self.leaving.remove(at));
        match left {
            Some(Leaving {
                path: Some(from),
                watch,
                ..
            }) => {
                self.last.remove(&from);
                self.push(ChangeKind::Moved, path, Some(from), directory, None);
                watch
            }
            _ => {
                self.push(ChangeKind::Created, path, None, directory, None);
                None
            }
        }
    }

    /// What the node shall hear now, and watches of directories that were moved out of sight. What
    /// was moved away may still arrive until the next time.
    pub fn take(&mut self) -> (Vec<Change>, Vec<i32>) {
        let gone: Vec<_> = self.leaving.extract_if(.., |left| left.old).collect();
        let mut watches = std::mem::take(&mut self.evicted);
        watches.extend(gone.iter().filter_map(|left| left.watch));
        for left in gone {
            if let Some(path) = left.path {
                self.deleted(path, left.directory);
            }
        }
        for left in &mut self.leaving {
            left.old = true;
        }
        self.text = 0;
        self.last.clear();
        (std::mem::take(&mut self.changes), watches)
    }

    /// Nothing more of what was begun will come.
    pub fn settle(&mut self) {
        self.leaving.clear();
        self.evicted.clear();
        self.caught_up();
    }

    /// All that the kernel had to say was heard: who was found again before has left by now.
    pub fn caught_up(&mut self) {
        self.told.clear();
    }

    fn open(&mut self, leaving: Leaving) {
        if self.leaving.len() == MAX_OPEN {
            let first = self.leaving.remove(0);
            self.evicted.extend(first.watch);
            if let Some(path) = first.path {
                self.deleted(path, first.directory);
            }
        }
        self.leaving.push(leaving);
    }

    fn push(
        &mut self,
        kind: ChangeKind,
        path: String,
        from: Option<String>,
        directory: bool,
        write_id: Option<u64>,
    ) {
        self.text += path.len() + from.as_ref().map_or(0, String::len);
        self.last.insert(path.clone(), kind);
        self.changes.push(Change {
            kind,
            path,
            from,
            directory,
            write_id,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(batch: &mut Batch) -> Vec<String> {
        let word = |change: &Change| {
            let from = change.from.as_ref().map(|from| format!("{from}>"));
            let write = change.write_id.map(|id| format!("#{id}"));
            format!(
                "{:?} {}{}{}",
                change.kind,
                from.unwrap_or_default(),
                change.path,
                write.unwrap_or_default()
            )
        };
        batch.take().0.iter().map(word).collect()
    }

    #[test]
    fn what_says_nothing_new_is_left_out() {
        let mut batch = Batch::default();
        let path = || "a".to_owned();
        batch.created(path(), false, None);
        batch.created(path(), false, Some(4));
        batch.modified(path(), false, None);
        batch.deleted(path(), false);
        batch.created(path(), false, None);
        batch.modified(path(), false, Some(5));
        batch.modified(path(), false, None);
        let expected = ["Created a#4", "Deleted a", "Created a", "Modified a#5"];
        assert_eq!(told(&mut batch), expected);
        // The next batch begins anew.
        batch.modified(path(), false, None);
        batch.modified(path(), false, None);
        assert_eq!(told(&mut batch), ["Modified a"]);
    }

    #[test]
    fn two_ends_make_a_rename_and_one_is_waited_for_once() {
        let mut batch = Batch::default();
        batch.leaves(1, "a".to_owned(), true, Some(9));
        batch.leaves(2, "b".to_owned(), true, Some(8));
        batch.draft(3);
        assert!(batch.is_open());
        assert_eq!(batch.arrives(1, "c".to_owned(), true), Some(9));
        assert_eq!(told(&mut batch), ["Moved a>c"]);
        assert!(batch.was_draft(3) && !batch.was_draft(3));
        let (changes, watches) = batch.take();
        assert_eq!((changes.len(), &watches[..]), (1, &[8][..]));
        assert_eq!(changes[0].kind, ChangeKind::Deleted);
        assert!(!batch.is_open());
        assert_eq!(batch.arrives(2, "d".to_owned(), true), None);
        assert_eq!(told(&mut batch), ["Created d"]);
    }

    #[test]
    fn a_name_that_is_used_again_is_first_told_to_be_gone() {
        let mut batch = Batch::default();
        batch.leaves(1, "log".to_owned(), false, None);
        assert_eq!(batch.replaced("log"), None);
        batch.created("log".to_owned(), false, None);
        batch.leaves(2, "lib".to_owned(), true, Some(7));
        assert_eq!(batch.replaced("lib"), Some(7));
        assert_eq!(batch.replaced("lib"), None);
        let expected = ["Deleted log", "Created log", "Deleted lib"];
        assert_eq!(told(&mut batch), expected);
        assert_eq!(told(&mut batch), Vec::<String>::new());
    }

    #[test]
    fn a_directory_that_is_found_again_has_moved_whenever_that_is_said() {
        let mut batch = Batch::default();
        let found = |batch: &mut Batch| {
            batch.found_again(9, "lib".to_owned(), "pkg/lib".to_owned());
        };
        batch.leaves(1, "lib".to_owned(), true, Some(9));
        found(&mut batch);
        assert!(!batch.is_open());
        assert_eq!(told(&mut batch), ["Moved lib>pkg/lib"]);
        found(&mut batch);
        batch.leaves(2, "lib".to_owned(), true, None);
        assert_eq!(told(&mut batch), ["Moved lib>pkg/lib"]);
        // Once only.
        batch.leaves(3, "lib".to_owned(), true, None);
        assert_eq!(told(&mut batch), Vec::<String>::new());
        assert_eq!(told(&mut batch), ["Deleted lib"]);
    }

    #[test]
    fn replies_are_bounded_and_lose_nothing() {
        let change = |number: usize| Change {
            kind: ChangeKind::Created,
            path: "x".repeat(number % 4000),
            from: None,
            directory: false,
            write_id: None,
        };
        let mut all = (0..3000).map(change).peekable();
        let mut count = 0;
        while all.peek().is_some() {
            let part = some(&mut all);
            assert!(!part.is_empty() && part.len() <= MAX_CHANGES);
            let json = serde_json::to_vec(&part).unwrap();
            assert!(json.len() < init_protocol::MAX_FRAME / 2);
            count += part.len();
        }
        assert_eq!(count, 3000);
    }
}
