//! `fleeks files sync`: one directory like another, in one direction.
//!
//! What has another size or is newer at its source is copied; contents are not compared. Links are
//! left out.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fleet::timing;
use futures_util::{TryStreamExt as _, stream};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::plan::{Meta, Step, Tree, is_excluded, plan};
use super::{End, copy, files_path};
use crate::session::{Failure, Session};
use crate::show::{faint, field, plain};

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
        (End::Here(from), End::There { name, path }) => push(session, from, name, path, wish).await,
        (End::There { .. }, End::Here(_)) if wish.watch => Err(Failure::Usage(
            "--watch is for DIR NAME:PATH; see also `fleeks files watch`".to_owned(),
        )),
        (End::There { name, path }, End::Here(to)) => pull(session, name, path, to, wish).await,
        _ => Err(Failure::Usage(
            "one is a directory here, the other NAME:PATH, e.g. fleeks files sync . demo:app"
                .to_owned(),
        )),
    }
}

async fn push(
    session: &Session,
    from: &str,
    name: &str,
    path: &str,
    wish: &Wish<'_>,
) -> Result<(), Failure> {
    let root = Path::new(from);
    let mut sent = None;
    loop {
        let here = local(root, wish.exclude)?;
        // While nobody else is asked, what was sent is what is there.
        let there = match sent.take() {
            Some(sent) => sent,
            None => remote(session, name, path, wish.exclude).await?,
        };
        let steps = plan(&here, &there, wish.delete);
        if !wish.dry_run {
            let copies = steps.iter().filter_map(|step| match step {
                Step::Copy(file) => Some(Ok(file)),
                Step::Delete(_) => None,
            });
            let work = stream::iter(copies).try_for_each_concurrent(AT_ONCE, |file| {
                send(session, root, name, path, file, &here)
            });
            session
                .patiently(&format!("sending to {}", plain(name)), work)
                .await?;
            for step in &steps {
                if let Step::Delete(file) = step {
                    let path = files_path(name, "/content", &join(path, file));
                    session.delete(&path).await?;
                }
            }
        }
        tell(session, &steps, wish)?;
        if !wish.watch || wish.dry_run {
            return Ok(());
        }
        tokio::time::sleep(timing::LOCAL_LOOK).await;
        sent = Some(here);
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
    copy::send(session, content, name, &join(path, file), mode).await?;
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
    let there = remote(session, name, path, wish.exclude).await?;
    let here = match root.exists() {
        true => local(root, wish.exclude)?,
        false => Tree::new(),
    };
    let steps = plan(&there, &here, wish.delete);
    if !wish.dry_run {
        for step in &steps {
            match step {
                Step::Copy(file) => fetch(session, name, path, file, root, &there).await?,
                Step::Delete(file) => {
                    let target = root.join(file);
                    std::fs::remove_file(&target).map_err(at(&target))?;
                }
            }
        }
    }
    tell(session, &steps, wish)
}

async fn fetch(
    session: &Session,
    name: &str,
    path: &str,
    file: &str,
    root: &Path,
    there: &Tree,
) -> Result<(), Failure> {
    let target = root.join(file);
    copy::receive_file(session, name, &join(path, file), &target).await?;
    if let Some(meta) = there.get(file) {
        let mode = std::fs::Permissions::from_mode(meta.mode);
        std::fs::set_permissions(&target, mode).map_err(at(&target))?;
        // So that it does not look newer here than there.
        let changed = OffsetDateTime::from_unix_timestamp(meta.changed);
        let changed = changed.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let opened = std::fs::File::options().write(true).open(&target);
        opened
            .and_then(|opened| opened.set_modified(changed.into()))
            .map_err(at(&target))?;
    }
    Ok(())
}

fn tell(session: &Session, steps: &[Step], wish: &Wish<'_>) -> Result<(), Failure> {
    let word = |step: &Step| match step {
        Step::Copy(file) => ("copied", plain(file)),
        Step::Delete(file) => ("deleted", plain(file)),
    };
    if session.json {
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| {
                let (what, path) = word(step);
                json!({ "what": what, "path": path })
            })
            .collect();
        let told = json!({ "changes": steps, "dry_run": wish.dry_run });
        // One line each while it goes on.
        return match wish.watch {
            true if steps.is_empty() => Ok(()),
            true => Ok(writeln!(io::stdout(), "{told}")?),
            false => session.document(&told),
        };
    }
    let out = &mut anstream::stdout();
    for step in steps {
        let (what, path) = word(step);
        writeln!(out, "{}  {path}", faint(&format!("{what:7}")))?;
    }
    if !wish.watch {
        let would = if wish.dry_run { " would be made" } else { "" };
        writeln!(out, "{} changes{would}", steps.len())?;
    }
    Ok(())
}

/// A path of a workspace.
fn join(path: &str, file: &str) -> String {
    match path.trim_end_matches('/') {
        "" => file.to_owned(),
        path => format!("{path}/{file}"),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.display().to_string();
    move |source| Failure::File {
        path: path.clone(),
        source,
    }
}

/// What is below a directory of this machine.
fn local(root: &Path, exclude: &[String]) -> Result<Tree, Failure> {
    let mut tree = Tree::new();
    let mut left = vec![String::new()];
    while let Some(below) = left.pop() {
        let directory = root.join(&below);
        for entry in std::fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = join(&below, &name);
            if is_excluded(&path, exclude) {
                continue;
            }
            // Gone since it was listed, mostly.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                left.push(path);
            } else if found.is_file() {
                let meta = Meta {
                    size: found.len(),
                    changed: found.mtime(),
                    mode: found.permissions().mode() & 0o777,
                };
                tree.insert(path, meta);
            }
        }
    }
    Ok(tree)
}

/// What is below a directory of a workspace; nothing if it is not there.
pub(super) async fn remote(
    session: &Session,
    name: &str,
    path: &str,
    exclude: &[String],
) -> Result<Tree, Failure> {
    use crate::client::ClientError::Refused;
    let directory = if path.is_empty() { "/" } else { path };
    let call = files_path(name, "", directory) + "&recursive=true&include_hidden=true";
    let listed = match session.get(&call).await {
        // The workspace itself must be there.
        Err(Failure::Client(Refused { status: 404, .. })) if !path.is_empty() => {
            session.workspace(name).await?;
            return Ok(Tree::new());
        }
        listed => listed?,
    };
    let files = listed["files"].as_array().ok_or(Failure::Answer("files"))?;
    let prefix = path.trim_start_matches("/workspace").trim_matches('/');
    let mut unsafe_names = BTreeSet::new();
    let mut tree = Tree::new();
    for file in files.iter().filter(|file| file["type"] == "file") {
        let whole = field(file, "path");
        let below = whole
            .strip_prefix(prefix)
            .unwrap_or(whole)
            .trim_start_matches('/');
        // It becomes a path of this machine.
        if below.is_empty() || below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            unsafe_names.insert(plain(whole));
            continue;
        }
        if is_excluded(below, exclude) {
            continue;
        }
        let changed = OffsetDateTime::parse(field(file, "modified_at"), &Rfc3339);
        let mode = u32::from_str_radix(field(file, "permissions"), 8);
        let meta = Meta {
            size: file["size_bytes"].as_u64().unwrap_or_default(),
            changed: changed.map_or(0, OffsetDateTime::unix_timestamp),
            mode: mode.unwrap_or(0o644) & 0o777,
        };
        tree.insert(below.to_owned(), meta);
    }
    for name in unsafe_names {
        writeln!(anstream::stderr(), "left out: {name}")?;
    }
    Ok(tree)
}
