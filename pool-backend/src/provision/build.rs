//! Making what a template's containers need: its image is pulled (see [`crate::image`]), and its
//! dependencies are installed once, in a sandbox of ours with a way to the outside, in a directory
//! beside the layers that becomes the layer by one rename.
//!
//! Must never happen here: two installations of one template at once, or a caller that waits
//! longer than its bound.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::id::TemplateName;
use fleet::timing;
use tokio::sync::watch;

use super::{Layer, unusable, versions};
use crate::driver::workshop::{Errand, Workshop};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::image::{Image, Pulling};
use crate::template::{Dependencies, StarterFile, Template};
use crate::volume;

/// How much of what a failed command complained about is shown, from either end.
const SHOWN: usize = 500;
/// What the machine's own package clients are told by its environment; they are told it too.
const CLIENTS: [&str; 8] = [
    "GOPROXY",
    "NPM_CONFIG_REGISTRY",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "http_proxy",
    "https_proxy",
    "npm_config_registry",
];

/// How an installation goes.
#[derive(Debug, Clone)]
pub enum Progress {
    /// It works, since when and at what.
    Working {
        /// When it began.
        since: Instant,
        /// Its step, for people.
        step: String,
        /// Bytes that came, of those that will.
        bytes: Option<(u64, u64)>,
    },
    /// It is done.
    Done {
        /// How long it took.
        took: Duration,
        /// How large it is.
        bytes: u64,
    },
    /// It failed.
    Failed {
        /// When.
        at: Instant,
        /// Why; safe to show.
        problem: String,
    },
}

pub(super) type Watcher = watch::Receiver<Progress>;

/// Returns when workspaces of the template can start; begins what is necessary for that, and lets
/// it go on when it takes longer than [`timing::TEMPLATE_WAIT`].
///
/// # Errors
/// `Invalid` for a template that cannot be used on this machine; `NotReady` while its dependencies
/// are being installed, and with the reason if that failed.
pub(crate) async fn provide(engine: &Arc<Engine>, name: &TemplateName) -> Result<(), Error> {
    let template = engine.launcher.template(name)?;
    let provisioner = &engine.launcher.provisioner;
    let provision = provisioner
        .look(&template)
        .map_err(|why| unusable(&template, &why))?;
    // What is installed was found good before; another version of a language is another layer.
    if provision.is_complete() && (provision.layer.is_some() || !is_picky(&template)) {
        return Ok(());
    }
    let waiting = async {
        if provision.has_root() {
            versions::check_versions(engine, &template, &provision).await?;
        }
        if provision.is_complete() {
            return Ok(());
        }
        let mut progress = start(engine, &template, false)?;
        loop {
            match &*progress.borrow_and_update() {
                Progress::Done { .. } => return Ok(()),
                Progress::Failed { problem, .. } => {
                    return Err(Error::new(ErrorKind::NotReady, problem.clone()));
                }
                Progress::Working { .. } => {}
            }
            if progress.changed().await.is_err() {
                return Err(Error::new(ErrorKind::NotReady, "shutting down"));
            }
        }
    };
    let waited = tokio::time::timeout(timing::TEMPLATE_WAIT, waiting).await;
    waited.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::NotReady,
            format!("what template '{name}' needs is being installed; try again soon"),
        ))
    })
}

fn is_picky(template: &Template) -> bool {
    let any = crate::template::language::Wanted::Any;
    template.languages.iter().any(|need| need.wanted != any)
}

/// How the template's last installation in this process goes or went.
pub(crate) fn progress(engine: &Engine, name: &TemplateName) -> Option<Progress> {
    let builds = engine.launcher.provisioner.builds.lock();
    builds.get(name).map(|watcher| watcher.borrow().clone())
}

/// Begins the installation, or joins one that goes on or failed a moment ago. `afresh`: the
/// registry is asked for the image, also if there is one.
///
/// # Errors
/// `Invalid` for a template that cannot be used on this machine, or needs nothing.
pub(crate) fn start(
    engine: &Arc<Engine>,
    template: &Arc<Template>,
    afresh: bool,
) -> Result<Watcher, Error> {
    let provisioner = &engine.launcher.provisioner;
    let provision = provisioner
        .look(template)
        .map_err(|why| unusable(template, &why))?;
    if provision.image.is_none() && provision.layer.is_none() {
        let message = format!("template '{}' needs nothing installed", template.name);
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut builds = provisioner.builds.lock();
    let entry = builds.entry(template.name.clone());
    if let Entry::Occupied(there) = &entry {
        let joins = match &*there.get().borrow() {
            Progress::Working { .. } => true,
            Progress::Failed { at, .. } => at.elapsed() < timing::TEMPLATE_RETRY,
            Progress::Done { .. } => provision.is_complete() && !afresh,
        };
        if joins {
            return Ok(there.get().clone());
        }
    }
    let since = Instant::now();
    let step = "begins".to_owned();
    let (teller, watcher) = watch::channel(Progress::Working {
        since,
        step,
        bytes: None,
    });
    entry.insert_entry(watcher.clone());
    let (engine, template) = (Arc::clone(engine), Arc::clone(template));
    let work = async move {
        let name = &template.name;
        tracing::info!(template = %name, "what it needs is being installed");
        let outcome = make(&engine, &template, afresh, &teller).await;
        engine.launcher.provisioner.forget_looks();
        match outcome {
            Ok(bytes) => {
                let took = since.elapsed();
                tracing::info!(template = %name, ?took, bytes, "what it needs is there");
                teller.send_replace(Progress::Done { took, bytes });
            }
            Err(error) => {
                let cause = error.cause_text();
                tracing::error!(template = %name, %error, cause, "what it needs is not there");
                let problem = format!("what template '{name}' needs is not there: {error}");
                let at = Instant::now();
                teller.send_replace(Progress::Failed { at, problem });
            }
        }
    };
    provisioner.tasks.spawn(work);
    Ok(watcher)
}

/// Root first, layer then; says how large the layer is.
async fn make(
    engine: &Arc<Engine>,
    template: &Arc<Template>,
    afresh: bool,
    teller: &watch::Sender<Progress>,
) -> Result<u64, Error> {
    let provisioner = &engine.launcher.provisioner;
    let look = || {
        let look = provisioner.look(template);
        look.map_err(|why| unusable(template, &why))
    };
    let mut provision = look()?;
    if let Some(image) = &provision.image
        && (afresh || image.there.is_none())
    {
        let tell = |pulling: Pulling| say(teller, pulling.step, pulling.bytes);
        let pulled = provisioner
            .images
            .pull(&image.reference, &provisioner.cancelled, &tell);
        let pulled = tokio::time::timeout(timing::TEMPLATE_BUILD, pulled).await;
        let pulled = pulled.map_err(|_| {
            Error::new(ErrorKind::TimedOut, "the image could not be pulled in time")
        })??;
        tracing::info!(template = %template.name, digest = pulled.digest, "its image is here");
        provisioner.forget_looks();
        provision = look()?;
        versions::check_versions(engine, template, &provision).await?;
    }
    let (Some(layer), Some(said)) = (&provision.layer, &template.dependencies) else {
        return Ok(0);
    };
    if layer.is_there() {
        return Ok(0);
    }
    let mut environment = provision.environment(false);
    environment.extend(told(template));
    let errand = Errand {
        rootfs: provision.rootfs.clone(),
        environment,
        ..Errand::new(template.name.as_str(), &engine.launcher)
    };
    let directory = errand.directory.clone();
    let outcome = install(engine, errand, layer, said.clone(), teller).await;
    let removed = tokio::task::spawn_blocking(move || volume::remove_tree(&directory)).await;
    if !matches!(removed, Ok(Ok(()))) {
        let name = &template.name;
        tracing::warn!(template = %name, ?removed, "what an installation left stays");
    }
    if let Some(Image { root, .. }) = provision.image.as_ref().and_then(|i| i.there.as_ref()) {
        layer
            .make_places(root)
            .map_err(|error| Error::from_io("the image could not be written", error))?;
    }
    outcome
}

fn say(teller: &watch::Sender<Progress>, now: String, came: Option<(u64, u64)>) {
    teller.send_modify(|progress| {
        if let Progress::Working { step, bytes, .. } = progress {
            *step = now;
            *bytes = came;
        }
    });
}

async fn install(
    engine: &Arc<Engine>,
    errand: Errand,
    layer: &Layer,
    said: Dependencies,
    teller: &watch::Sender<Progress>,
) -> Result<u64, Error> {
    let say = |step: String| say(teller, step, None);
    let data = errand.directory.join("data");
    let staged = data.join(".layer");
    write_files(&data, &said.files)
        .and_then(|()| std::fs::create_dir_all(&staged))
        .map_err(|error| Error::from_io("its files could not be written", error))?;
    let layer = layer.clone();
    let install = &said.install;
    let say = &say;
    let deadline = Instant::now() + timing::TEMPLATE_BUILD;
    engine
        .launcher
        .at_workshop(errand, |workshop| async move {
            for line in install {
                say(line.clone());
                run(&workshop, line, deadline).await?;
            }
            Ok(())
        })
        .await?;
    say("is checked and put in place".to_owned());
    let committed = tokio::task::spawn_blocking(move || layer.commit(&staged));
    let committed = committed
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let usage = committed.map_err(|error| {
        let message = format!("what was installed cannot be used: {error}");
        match error.kind() {
            std::io::ErrorKind::Other => Error::new(ErrorKind::Internal, message),
            _ => Error::from_io("what was installed cannot be used", error),
        }
    })?;
    Ok(usage.bytes)
}

async fn run(workshop: &Workshop, line: &str, deadline: Instant) -> Result<(), Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    let said = workshop.run(line, left).await;
    let said =
        said.map_err(|error| Error::caused(error.kind, format!("`{line}` did not end"), error))?;
    if said.succeeded() {
        return Ok(());
    }
    let complaint = shortened(said.stderr.to_text().trim());
    let message = format!("`{line}` failed: {complaint}");
    Err(Error::new(ErrorKind::NotReady, message))
}

/// Its start and its end: some programs say what went wrong first, some last.
fn shortened(text: &str) -> String {
    let Some((head, _)) = text.char_indices().nth(SHOWN) else {
        return text.to_owned();
    };
    let tail = text.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    if tail <= head {
        return text.to_owned();
    }
    format!("{} … {}", &text[..head], &text[tail..])
}

fn told(template: &Template) -> Vec<(String, String)> {
    let mut environment = template.environment.clone();
    environment.push(("LAYER".to_owned(), "/workspace/.layer".to_owned()));
    for name in CLIENTS {
        if let Ok(value) = std::env::var(name) {
            environment.push((name.to_owned(), value));
        }
    }
    environment
}

fn write_files(into: &std::path::Path, files: &[StarterFile]) -> std::io::Result<()> {
    for file in files {
        let path = into.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, &file.content)?;
    }
    Ok(())
}
