//! `fleeks files watch`: prints what changes. It looks again and again, until the platform tells
//! by itself.

use std::io::{self, Write as _};

use fleet::timing;
use serde_json::json;

use super::plan::Tree;
use super::sync;
use crate::session::{Failure, Session};
use crate::show::{faint, plain};

/// Runs the command, until Ctrl-C.
pub async fn run(session: &Session, name: &str, path: &str) -> Result<(), Failure> {
    tokio::select! {
        looking = look(session, name, path) => looking,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn look(session: &Session, name: &str, path: &str) -> Result<(), Failure> {
    let path = if path == "/" { "" } else { path };
    let mut before = sync::remote(session, name, path, &[]).await?;
    loop {
        tokio::time::sleep(timing::REMOTE_LOOK).await;
        let now = sync::remote(session, name, path, &[]).await?;
        for (what, path) in changes(&before, &now) {
            match session.json {
                true => writeln!(io::stdout(), "{}", json!({ "event": what, "path": path }))?,
                false => {
                    let what = faint(&format!("{what:8}"));
                    writeln!(anstream::stdout(), "{what}  {}", plain(path))?;
                }
            }
        }
        io::stdout().flush()?;
        before = now;
    }
}

/// In the words of the SDK.
fn changes<'a>(before: &'a Tree, now: &'a Tree) -> Vec<(&'static str, &'a str)> {
    let mut changes = Vec::new();
    for (path, meta) in now {
        match before.get(path) {
            None => changes.push(("created", path.as_str())),
            Some(known) if known != meta => changes.push(("modified", path.as_str())),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    changes.extend(gone.map(|path| ("deleted", path.as_str())));
    changes
}

#[cfg(test)]
mod tests {
    use super::super::plan::Meta;
    use super::*;

    #[test]
    fn changes_have_the_sdk_s_words() {
        let meta = |size| Meta {
            size,
            changed: 1,
            mode: 0o644,
        };
        let tree = |files: &[(&str, u64)]| -> Tree {
            let files = files
                .iter()
                .map(|(path, size)| ((*path).to_owned(), meta(*size)));
            files.collect()
        };
        let (before, now) = (tree(&[("a", 1), ("b", 1)]), tree(&[("b", 2), ("c", 1)]));
        let expected = [("modified", "b"), ("created", "c"), ("deleted", "a")];
        assert_eq!(changes(&before, &now), expected);
    }
}
