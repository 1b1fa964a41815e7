//! `fleeks files sync`: one directory like another, in one direction.
//!
//! What has another size or is newer at its source is copied; contents are not compared. Links are
//! left out, and at the target left alone.
//!
//! Must never happen here: a deletion because the source could not be looked at.

use std::io::{self, Write as _};
use std::path::Path;

use fleet::timing;
use futures_util::{TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::path::{clean, join};
use super::plan::{InTheWay, LeftOut, Plan, Step, Tree, done, plan};
use super::tree::{Role, local, remote};
use super::{End, at, copy, files_path, named};
use crate::client::ClientError;
use crate::session::{Failure, Session};
use crate::show::{faint, plain};

/// Files that are copied together.
const AT_ONCE: usize = 8;

/// How.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// What is not at the source goes.
    pub delete: bool,
    /// Only say it.
    pub dry_run: bool,
    /// Names to leave out.
    pub exclude: &'a [String],
    /// Go on.
    pub watch: bool,
}

/// Runs the command.
pub async fn run(
    session: &Session,
    source: &str,
    target: &str,
    wish: &Wish<'_>,
) -> Result<(), Failure> {
    match (End::parse(source), End::parse(target)) {
        (End::Here(from), End::There { name, path }) => {
            push(session, from, name, &inside(path)?, wish).await
        }
        (End::There { .. }, End::Here(_)) if wish.watch => Err(Failure::Usage(
            "--watch is for DIR NAME:PATH; see also `fleeks files watch`".to_owned(),
        )),
        (End::There { name, path }, End::Here(to)) => {
            pull(session, name, &inside(path)?, to, wish).await
        }
        _ => Err(Failure::Usage(
            "one is a directory here, the other NAME:PATH, e.g. fleeks files sync . demo:app"
                .to_owned(),
        )),
    }
}

fn inside(path: &str) -> Result<String, Failure> {
    clean(path).ok_or_else(|| {
        let path = plain(path);
        Failure::Usage(format!("{path}: the path leads out of the workspace"))
    })
}

async fn push(
    session: &Session,
    from: &str,
    name: &str,
    path: &str,
    wish: &Wish<'_>,
) -> Result<(), Failure> {
    let root = Path::new(from);
    let mut known: Option<Tree> = None;
    let mut told = LeftOut::new();
    loop {
        let mut here = local(root, wish.exclude, Role::Source)?;
        let mut left_out = std::mem::take(&mut here.left_out);
        // While nobody else is asked, what was sent is what is there.
        let there = match known.take() {
            Some(known) => known,
            None => {
                let there = remote(session, name, path, wish.exclude, Role::Target).await?;
                left_out.extend(there.left_out);
                there.tree
            }
        };
        let mut plan = plan(&here.tree, &there, wish.delete).map_err(stuck)?;
        if !wish.dry_run {
            send_all(session, root, name, path, &here.tree, &plan.steps).await?;
        }
        plan.left_out.extend(left_out);
        // Once is enough.
        plan.left_out.retain(|path, _| !told.contains_key(path));
        tell(session, &plan, wish)?;
        if !wish.watch || wish.dry_run {
            return Ok(());
        }
        told.append(&mut plan.left_out);
        known = Some(done(there, &here.tree, &plan.steps));
        tokio::time::sleep(timing::LOCAL_LOOK).await;
    }
}

fn stuck(error: InTheWay) -> Failure {
    Failure::Other(plain(&error.to_string()))
}

async fn send_all(
    session: &Session,
    root: &Path,
    name: &str,
    path: &str,
    here: &Tree,
    steps: &[Step],
) -> Result<(), Failure> {
    for step in steps {
        if let Step::Clear(file) = step {
            remove(session, name, &join(path, file)).await?;
        }
    }
    let copies = steps.iter().filter_map(|step| match step {
        Step::Copy(file) => Some(Ok(file)),
        Step::Clear(_) | Step::Delete(_) => None,
    });
    let work = stream::iter(copies)
        .try_for_each_concurrent(AT_ONCE, |file| send(session, root, name, path, file, here));
    session
        .patiently(&format!("sending to {}", plain(name)), work)
        .await?;
    for step in steps {
        if let Step::Delete(file) = step {
            remove(session, name, &join(path, file)).await?;
        }
    }
    Ok(())
}

async fn remove(session: &Session, name: &str, path: &str) -> Result<(), Failure> {
    match session.delete(&files_path(name, "/content", path)).await {
        // Gone since it was listed.
        Err(Failure::Client(ClientError::Refused { status: 404, .. })) => Ok(()),
        removed => {
            removed.map_err(named(path))?;
            Ok(())
        }
    }
}

async fn send(
    session: &Session,
    root: &Path,
    name: &str,
    path: &str,
    file: &str,
    here: &Tree,
) -> Result<(), Failure> {
    let source = root.join(file);
    let opened = tokio::fs::File::open(&source).await;
    let content = match opened {
        Ok(content) => content,
        // Gone since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(&source)(error)),
    };
    let mode = here.get(file).map(|meta| meta.mode);
    let target = join(path, file);
    let sent = copy::send(session, content, name, &target, mode).await;
    sent.map_err(named(&target))?;
    Ok(())
}

async fn pull(
    session: &Session,
    name: &str,
    path: &str,
    to: &str,
    wish: &Wish<'_>,
) -> Result<(), Failure> {
    let root = Path::new(to);
    let there = remote(session, name, path, wish.exclude, Role::Source).await?;
    let here = local(root, wish.exclude, Role::Target)?;
    let mut plan = plan(&there.tree, &here.tree, wish.delete).map_err(stuck)?;
    if !wish.dry_run {
        for step in &plan.steps {
            match step {
                Step::Copy(file) => {
                    let (source, target) = (join(path, file), root.join(file));
                    let known = there.tree.get(file);
                    copy::receive_file(session, name, &source, &target, known)
                        .await
                        .map_err(named(&source))?;
                }
                Step::Clear(file) | Step::Delete(file) => {
                    let target = root.join(file);
                    let removed = match std::fs::symlink_metadata(&target) {
                        Ok(found) if found.is_dir() => std::fs::remove_dir_all(&target),
                        _ => std::fs::remove_file(&target),
                    };
                    removed.map_err(at(&target))?;
                }
            }
        }
    }
    plan.left_out.extend(there.left_out);
    plan.left_out.extend(here.left_out);
    tell(session, &plan, wish)
}

/// What a step is called, and of what.
fn word(step: &Step, dry_run: bool) -> (&'static str, &str) {
    match (step, dry_run) {
        (Step::Copy(file), false) => ("copied", file),
        (Step::Copy(file), true) => ("would copy", file),
        (Step::Clear(file) | Step::Delete(file), false) => ("deleted", file),
        (Step::Clear(file) | Step::Delete(file), true) => ("would delete", file),
    }
}

/// For scripts: names as they are.
fn document(plan: &Plan, dry_run: bool) -> Value {
    let steps = plan.steps.iter().map(|step| {
        let (what, path) = word(step, dry_run);
        json!({ "what": what, "path": path })
    });
    let left_out = plan.left_out.iter();
    let left_out = left_out.map(|(path, why)| json!({ "path": path, "why": why }));
    json!({
        "changes": steps.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "dry_run": dry_run,
    })
}

fn tell(session: &Session, plan: &Plan, wish: &Wish<'_>) -> Result<(), Failure> {
    if session.json {
        let told = document(plan, wish.dry_run);
        // One line each while it goes on.
        return match wish.watch {
            true if plan.steps.is_empty() && plan.left_out.is_empty() => Ok(()),
            true => Ok(writeln!(io::stdout(), "{told}")?),
            false => session.document(&told),
        };
    }
    let out = &mut anstream::stdout();
    for step in &plan.steps {
        let (what, path) = word(step, wish.dry_run);
        writeln!(out, "{}  {}", faint(&format!("{what:7}")), plain(path))?;
    }
    for (path, why) in &plan.left_out {
        writeln!(anstream::stderr(), "left out: {} ({why})", plain(path))?;
    }
    if !wish.watch {
        let would = if wish.dry_run { " would be made" } else { "" };
        writeln!(out, "{} changes{would}", plan.steps.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_get_names_as_they_are() {
        let plan = Plan {
            steps: vec![Step::Copy("n\nl".to_owned()), Step::Delete("d".to_owned())],
            left_out: LeftOut::from([("l".to_owned(), "a link at the target")]),
        };
        let told = document(&plan, false);
        assert_eq!(told["changes"][0]["path"], "n\nl");
        assert_eq!(told["changes"][1]["what"], "deleted");
        assert_eq!(told["left_out"][0]["path"], "l");
        let would = document(&plan, true);
        assert_eq!(would["changes"][0]["what"], "would copy");
        assert_eq!(would["changes"][1]["what"], "would delete");
    }
}
