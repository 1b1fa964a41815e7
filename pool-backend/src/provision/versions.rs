//! Which versions of its languages a root has: said by the programs themselves, in a sandbox over
//! that root, once for as long as the programs stay the same.
//!
//! Must never happen here: what a sandbox said taken for more than the text of a version.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use fleet::timing;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::Provision;
use crate::driver::workshop::Errand;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::template::Template;
use crate::template::language::{LANGUAGES, Need, Version, Wanted, by_name};

/// By root and programs.
type Key = (crate::runtime::Rootfs, Vec<(&'static str, u64)>);
type Known = Arc<BTreeMap<String, Version>>;

/// What is known so far.
#[derive(Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<Key, Arc<OnceCell<Known>>>>,
}

impl Cache {
    pub(super) fn known(&self, provision: &Provision) -> BTreeMap<String, Version> {
        let known = self.known.lock();
        let cell = known.get(&key(provision));
        let found = cell.and_then(|cell| cell.get().cloned());
        found.map(|found| (*found).clone()).unwrap_or_default()
    }
}

fn key(provision: &Provision) -> Key {
    let programs = provision.programs.iter();
    let programs = programs.map(|(language, program)| (language.name, program.size));
    (provision.rootfs.clone(), programs.collect())
}

/// Asks every root of a template for its versions, so that nobody has to wait for them later.
pub(crate) async fn look_around(engine: Arc<Engine>) {
    for template in engine.launcher.templates.all() {
        let Ok(provision) = engine.launcher.provisioner.look(template) else {
            continue;
        };
        if engine.resting.is_cancelled() {
            return;
        }
        if let Err(error) = probe(&engine, &provision).await {
            let cause = error.cause_text();
            tracing::warn!(template = %template.name, %error, cause, "its versions are not known");
        }
    }
}

/// Asks, unless it is known; any number of equal questions at once are one.
///
/// # Errors
/// `NotReady` when the sandbox does not start or says nothing.
async fn probe(engine: &Arc<Engine>, provision: &Provision) -> Result<Known, Error> {
    let cell = {
        let mut known = engine.launcher.provisioner.versions.known.lock();
        Arc::clone(known.entry(key(provision)).or_default())
    };
    let asking = || {
        let (engine, provision) = (Arc::clone(engine), provision.clone());
        let tasks = engine.launcher.provisioner.tasks.clone();
        // A task of its own: a caller that goes away must not leave half a sandbox.
        let asking = tasks.spawn(async move { ask(&engine, &provision).await });
        async move {
            asking.await.unwrap_or_else(|error| {
                let message = "the versions were not asked for";
                Err(Error::caused(ErrorKind::Internal, message, error))
            })
        }
    };
    let found = cell.get_or_try_init(asking).await?;
    Ok(Arc::clone(found))
}

async fn ask(engine: &Engine, provision: &Provision) -> Result<Known, Error> {
    if provision.programs.is_empty() {
        return Ok(Known::default());
    }
    let mut script = String::new();
    for (language, _) in &provision.programs {
        let _ = writeln!(
            script,
            "echo \"{} $({} 2>&1 | head -n 1)\"",
            language.name, language.version
        );
    }
    let errand = Errand {
        rootfs: provision.rootfs.clone(),
        environment: provision.environment(false),
        ..Errand::new("versions", &engine.launcher)
    };
    let directory = errand.directory.clone();
    let said = engine
        .launcher
        .at_workshop(errand, |workshop| async move {
            workshop.run(&script, timing::VERSION_PROBE).await
        })
        .await;
    drop(crate::volume::remove_tree(&directory));
    let said = said?;
    let text = said.stdout.to_text();
    let mut versions = BTreeMap::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ') else {
            continue;
        };
        if let (Some(language), Some(version)) = (
            LANGUAGES.iter().find(|language| language.name == name),
            Version::in_text(rest),
        ) {
            versions.insert(language.name.to_owned(), version);
        }
    }
    Ok(Arc::new(versions))
}

/// Whether the versions that are there will do for the template.
///
/// # Errors
/// `Invalid`, with what is there.
pub(crate) async fn check_versions(
    engine: &Arc<Engine>,
    template: &Template,
    provision: &Provision,
) -> Result<(), Error> {
    let picky = |need: &Need| need.wanted != Wanted::Any;
    if !template.languages.iter().any(picky) {
        return Ok(());
    }
    let versions = probe(engine, provision).await?;
    for need in template.languages.iter().filter(|need| picky(need)) {
        match versions.get(&need.name) {
            Some(version) if need.wanted.accepts(version) => {}
            Some(version) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "template '{}' cannot be used here: it needs {} {}, and {version} is there",
                        template.name, need.name, need.wanted
                    ),
                ));
            }
            None => {
                let message = format!("{} does not say its version", need.name);
                return Err(Error::new(ErrorKind::NotReady, message));
            }
        }
    }
    Ok(())
}

/// Whether a customer's pins can be honoured.
///
/// # Errors
/// `Invalid`, with what is there.
pub(crate) async fn check_pins(
    engine: &Arc<Engine>,
    template: &Template,
    provision: &Provision,
    pins: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    if pins.is_empty() {
        return Ok(());
    }
    let versions = probe(engine, provision).await?;
    let there: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let there = there.join(", ");
    for (name, wish) in pins {
        let lower = name.to_ascii_lowercase();
        let Some(language) = by_name(&lower) else {
            let known: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
            return refuse(format!(
                "pinned_versions: {name:?} is no language that is known; those are: {}",
                known.join(", ")
            ));
        };
        let wanted: Wanted = match wish.parse() {
            Ok(wanted) => wanted,
            Err(problem) => return refuse(format!("pinned_versions: {name}: {problem}")),
        };
        match versions.get(language.name) {
            Some(version) if wanted.accepts(version) => {}
            _ => {
                return refuse(format!(
                    "pinned_versions: {} {wanted} is not in template '{}'; it has {there}",
                    language.name, template.name
                ));
            }
        }
    }
    Ok(())
}
