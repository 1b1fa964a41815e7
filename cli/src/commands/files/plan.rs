//! What makes one directory like another: pure.
//!
//! Must never happen here: I/O.

use std::collections::BTreeMap;

/// A file as far as a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub size: u64,
    /// Seconds of the Unix epoch.
    pub changed: i64,
    /// Permission bits.
    pub mode: u32,
}

/// Files below a directory, by their paths relative to it.
pub type Tree = BTreeMap<String, Meta>;

/// What to do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This file is new or newer here.
    Copy(String),
    /// This one is not here any more.
    Delete(String),
}

/// Copies what is missing there, has another size, or is newer here; deletes what is not here if
/// `delete`. In the order of paths, deletions last.
pub fn plan(here: &Tree, there: &Tree, delete: bool) -> Vec<Step> {
    let differs = |path: &String, meta: &Meta| {
        there
            .get(path)
            .is_none_or(|other| other.size != meta.size || other.changed < meta.changed)
    };
    let copies = here.iter().filter(|(path, meta)| differs(path, meta));
    let mut steps: Vec<Step> = copies.map(|(path, _)| Step::Copy(path.clone())).collect();
    if delete {
        let gone = there.keys().filter(|path| !here.contains_key(*path));
        steps.extend(gone.map(|path| Step::Delete(path.clone())));
    }
    steps
}

/// Whether a path has a part of one of these names, or of Git's.
pub fn is_excluded(path: &str, names: &[String]) -> bool {
    path.split('/')
        .any(|part| part == ".git" || names.iter().any(|name| name == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, u64, i64)]) -> Tree {
        let files = files.iter().map(|(path, size, changed)| {
            let meta = Meta {
                size: *size,
                changed: *changed,
                mode: 0o644,
            };
            ((*path).to_owned(), meta)
        });
        files.collect()
    }

    #[test]
    fn what_differs_is_copied_and_what_is_gone_deleted() {
        let here = tree(&[("a", 1, 5), ("b", 2, 5), ("c", 3, 9), ("same", 1, 1)]);
        let there = tree(&[("b", 3, 7), ("c", 3, 8), ("same", 1, 1), ("z", 1, 1)]);
        let copy = |path: &str| Step::Copy(path.to_owned());
        let copies = vec![copy("a"), copy("b"), copy("c")];
        assert_eq!(plan(&here, &there, false), copies);
        let mut all = copies;
        all.push(Step::Delete("z".to_owned()));
        assert_eq!(plan(&here, &there, true), all);
        assert_eq!(plan(&here, &here, true), Vec::new());
    }

    #[test]
    fn names_are_left_out_at_any_depth() {
        let names = ["node_modules".to_owned()];
        assert!(is_excluded("a/node_modules/b.js", &names));
        assert!(is_excluded(".git/config", &names));
        assert!(!is_excluded("a/node_modules2/.gitignore", &names));
    }
}
