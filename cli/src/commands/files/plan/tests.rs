use proptest::prelude::*;

use super::*;

fn file(size: u64, changed: i64) -> Meta {
    Meta {
        kind: Kind::File,
        size,
        changed,
        mode: 0o644,
    }
}

fn files(files: &[(&str, u64, i64)]) -> Tree {
    let files = files.iter();
    files
        .map(|(path, size, changed)| ((*path).to_owned(), file(*size, *changed)))
        .collect()
}

fn with(mut tree: Tree, more: &[(&str, Kind)]) -> Tree {
    tree.extend(
        more.iter()
            .map(|(path, kind)| ((*path).to_owned(), Meta::of(*kind))),
    );
    tree
}

fn copy(path: &str) -> Step {
    Step::Copy(path.to_owned())
}

fn clear(path: &str) -> Step {
    Step::Clear(path.to_owned())
}

fn delete(path: &str) -> Step {
    Step::Delete(path.to_owned())
}

fn steps(here: &Tree, there: &Tree, delete: bool) -> Vec<Step> {
    plan(here, there, delete).unwrap().steps
}

#[test]
fn what_differs_is_copied_and_what_is_gone_deleted() {
    let here = files(&[("a", 1, 5), ("b", 2, 5), ("c", 3, 9), ("same", 1, 1)]);
    let there = files(&[("b", 3, 7), ("c", 3, 8), ("same", 1, 1), ("z", 1, 1)]);
    let copies = vec![copy("a"), copy("b"), copy("c")];
    assert_eq!(steps(&here, &there, false), copies);
    let mut all = copies;
    all.push(delete("z"));
    assert_eq!(steps(&here, &there, true), all);
    assert_eq!(steps(&here, &here, true), Vec::new());
}

#[test]
fn what_stands_in_the_way_goes_first_and_only_when_it_may() {
    let here = with(
        files(&[("a", 1, 1), ("b/c/d", 1, 1)]),
        &[("b", Kind::Directory)],
    );
    let there = with(
        files(&[("a/x", 1, 1), ("a/y", 1, 1), ("a.txt", 1, 1), ("b", 1, 9)]),
        &[("a", Kind::Directory)],
    );
    let expected = vec![
        clear("a"),
        clear("b"),
        copy("a"),
        copy("b/c/d"),
        delete("a.txt"),
    ];
    assert_eq!(steps(&here, &there, true), expected);
    let error = plan(&here, &there, false).unwrap_err().to_string();
    assert!(error.starts_with("a is a directory") && error.contains("--delete"));
    let there = with(files(&[("b/c", 1, 1)]), &[("b", Kind::Directory)]);
    let error = plan(&here, &there, false).unwrap_err().to_string();
    assert!(error.starts_with("b/c is a file"), "{error}");

    // Not with what nobody looked at.
    let there = with(
        files(&[]),
        &[("a", Kind::Directory), ("a/.git", Kind::Excluded)],
    );
    let error = plan(&here, &there, true).unwrap_err().to_string();
    assert!(error.contains("a/.git"), "{error}");
}

#[test]
fn links_are_neither_written_through_nor_replaced() {
    let here = files(&[("link", 1, 9), ("d/deep/f", 1, 9), ("g", 1, 9)]);
    let there = with(
        files(&[]),
        &[("link", Kind::Link), ("d", Kind::Link), ("g", Kind::Other)],
    );
    for delete in [false, true] {
        let plan = plan(&here, &there, delete).unwrap();
        assert_eq!(plan.steps, Vec::new());
        let named: Vec<_> = plan.left_out.keys().map(String::as_str).collect();
        assert_eq!(named, ["d", "g", "link"]);
    }
    // Nor does what the source has as a link take away what the target has there.
    let here = with(files(&[]), &[("d", Kind::Link)]);
    let there = with(files(&[("d/f", 1, 1)]), &[("d", Kind::Directory)]);
    assert_eq!(steps(&here, &there, true), Vec::new());
}

#[test]
fn names_are_left_out_at_any_depth() {
    let names = ["node_modules".to_owned()];
    assert_eq!(
        excluded("a/node_modules/b.js", &names),
        Some("a/node_modules")
    );
    assert_eq!(excluded(".git/config", &names), Some(".git"));
    assert_eq!(excluded("a/node_modules2/.gitignore", &names), None);
}

/// Trees as there are on disks: what is below something else is below a directory.
fn trees() -> impl Strategy<Value = Tree> {
    let path = prop::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        6 => Just(Kind::File),
        1 => Just(Kind::Link),
        1 => Just(Kind::Directory),
    ];
    prop::collection::vec((path, kind, 0..3_u64, 0..3_i64), 0..8).prop_map(|all| {
        let mut tree = Tree::new();
        for (path, kind, size, changed) in all {
            let is_free = prefixes(&path).all(|at| {
                tree.get(at)
                    .is_none_or(|meta: &Meta| at != path && meta.kind == Kind::Directory)
            });
            if !is_free {
                continue;
            }
            for at in prefixes(&path) {
                tree.insert(at.to_owned(), Meta::of(Kind::Directory));
            }
            let meta = Meta {
                kind,
                ..file(size, changed)
            };
            tree.insert(path, meta);
        }
        tree
    })
}

proptest! {
    /// A second run has nothing to do.
    #[test]
    fn it_settles(here in trees(), there in trees(), delete: bool) {
        if let Ok(first) = plan(&here, &there, delete) {
            let then = done(there, &here, &first.steps);
            let second = plan(&here, &then, delete).unwrap();
            prop_assert_eq!(second.steps, Vec::new());
        }
    }
}
