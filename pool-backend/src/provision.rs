//! From a template to what its containers see: which root, the layer of installed dependencies
//! over it, and which languages are really there, in which versions.
//!
//! A look costs a few system calls and runs nothing. Versions are asked for in a sandbox, once for
//! each root; dependencies are installed in one, once for each template (see [`build`]).
//!
//! Must never happen here: a program of a template's root run on the host.

mod build;
mod layer;
mod versions;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fleet::id::TemplateName;
use fleet::timing;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind};
use crate::runtime::Rootfs;
use crate::template::language::{LANGUAGES, Language, Program, Version};
use crate::template::{RootSource, Template};

pub use build::Progress;
pub(crate) use build::{progress, provide, start};
pub(crate) use layer::Layer;
pub(crate) use versions::{check_pins, look_around};

/// See the module.
pub(crate) struct Provisioner {
    data_dir: PathBuf,
    looks: Mutex<HashMap<TemplateName, (Instant, Look)>>,
    builds: Mutex<HashMap<TemplateName, build::Watcher>>,
    versions: versions::Cache,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

/// What a template's containers see, or why there can be none.
type Look = Result<Arc<Provision>, Unavailable>;

/// What a template's containers see.
#[derive(Debug, Clone)]
pub(crate) struct Provision {
    pub(crate) rootfs: Rootfs,
    /// Of the languages that the template needs, or all if it names none.
    pub(crate) languages: Vec<String>,
    /// All languages that the root has, and their programs.
    programs: Programs,
    /// Its dependencies, installed or not.
    pub(crate) layer: Option<Layer>,
}

type Programs = Vec<(&'static Language, Program)>;

/// Why a template cannot be used on this machine, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {fix}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub fix: String,
}

impl Provisioner {
    pub(crate) fn new(data_dir: &Path) -> Self {
        layer::sweep(data_dir);
        Self {
            data_dir: data_dir.to_owned(),
            looks: Mutex::default(),
            builds: Mutex::default(),
            versions: versions::Cache::default(),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        }
    }

    /// Ends what is being built, and returns when its sandboxes are gone.
    pub(crate) async fn close(&self) {
        self.cancelled.cancel();
        self.tasks.close();
        if tokio::time::timeout(timing::DRAIN, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("a template is still being built");
        }
    }

    /// Returns when it is being closed.
    pub(crate) async fn closing(&self) {
        self.cancelled.cancelled().await;
    }

    /// What the template's containers would see now. Remembered for a moment.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub(crate) fn look(&self, template: &Template) -> Look {
        let remembered = self.looks.lock().get(&template.name).cloned();
        if let Some((at, look)) = remembered
            && at.elapsed() < timing::TEMPLATE_LOOK
        {
            return look;
        }
        let look = self.look_again(template);
        let mut looks = self.looks.lock();
        looks.insert(template.name.clone(), (Instant::now(), look.clone()));
        look
    }

    /// Its container's root and layer.
    ///
    /// # Errors
    /// `Invalid` for one that cannot be used here; `NotReady` while its dependencies are missing.
    pub(crate) fn ready(&self, template: &Template) -> Result<Arc<Provision>, Error> {
        let provision = self
            .look(template)
            .map_err(|why| unusable(template, &why))?;
        match &provision.layer {
            Some(layer) if !layer.is_there() => Err(Error::new(
                ErrorKind::NotReady,
                format!(
                    "the dependencies of template '{}' are not installed yet",
                    template.name
                ),
            )),
            _ => Ok(provision),
        }
    }

    /// Its languages: as found, or as it calls them where it cannot be used any more.
    pub(crate) fn languages(&self, template: &Template) -> Vec<String> {
        match self.look(template) {
            Ok(provision) => provision.languages.clone(),
            Err(_) => template
                .languages
                .iter()
                .map(|need| need.name.clone())
                .collect(),
        }
    }

    /// Versions of its languages, as far as they are known by now.
    pub(crate) fn versions(&self, template: &Template) -> BTreeMap<String, Version> {
        let Ok(provision) = self.look(template) else {
            return BTreeMap::new();
        };
        let mut versions = self.versions.known(&provision);
        versions.retain(|name, _| provision.languages.contains(name));
        versions
    }

    fn forget_looks(&self) {
        self.looks.lock().clear();
    }

    fn look_again(&self, template: &Template) -> Look {
        let debian = self.data_dir.join("roots/debian");
        // A link to the newest one: what was made over another must not be taken for the same.
        let debian = debian.canonicalize().unwrap_or(debian);
        let (rootfs, programs) = match &template.root {
            RootSource::Host => host(template)?,
            RootSource::Any => match host(template) {
                Ok(found) => found,
                Err(why) if !debian.is_dir() => return Err(why),
                Err(_) => directory(template, debian, "the Debian root")?,
            },
            RootSource::Debian if !debian.is_dir() => {
                return Err(Unavailable {
                    reason: "there is no Debian root".to_owned(),
                    fix: "put one at roots/debian in the data dir".to_owned(),
                });
            }
            RootSource::Debian => directory(template, debian, "the Debian root")?,
            RootSource::Directory(path) => directory(template, path.clone(), "its root")?,
            RootSource::Image(reference) => {
                return Err(Unavailable {
                    reason: format!("the image {reference} cannot be pulled by this version"),
                    fix: "unpack it into a directory, and name that as rootfs".to_owned(),
                });
            }
        };
        let labels = template
            .languages
            .iter()
            .filter(|need| need.language.is_none());
        let mut languages: Vec<String> = labels.map(|need| need.name.clone()).collect();
        let needs = |language: &Language| {
            let mut needed = template.languages.iter().filter_map(|need| need.language);
            template.languages.is_empty() || needed.any(|need| need == language)
        };
        let used: Vec<_> = programs
            .iter()
            .filter(|(language, _)| needs(language))
            .collect();
        languages.extend(used.iter().map(|(language, _)| language.name.to_owned()));
        let layer = template
            .dependencies
            .as_ref()
            .map(|said| Layer::of(&self.data_dir, template, said, &rootfs, &used));
        Ok(Arc::new(Provision {
            rootfs,
            languages,
            programs,
            layer,
        }))
    }
}

pub(crate) fn unusable(template: &Template, why: &Unavailable) -> Error {
    let message = format!("template '{}' cannot be used here: {why}", template.name);
    Error::new(ErrorKind::Invalid, message)
}

type Found = (Rootfs, Programs);

fn host(template: &Template) -> Result<Found, Unavailable> {
    let programs = programs(template, Path::new("/")).map_err(|missing| Unavailable {
        reason: format!("{} is not installed on this machine", missing.name),
        fix: format!("`apt-get install {}` brings it", missing.packages),
    })?;
    Ok((Rootfs::Host, programs))
}

fn directory(template: &Template, path: PathBuf, called: &str) -> Result<Found, Unavailable> {
    let programs = programs(template, &path).map_err(|missing| Unavailable {
        reason: format!("{called} has no {}", missing.name),
        fix: format!("install there what Debian calls {}", missing.packages),
    })?;
    Ok((Rootfs::Directory(path), programs))
}

/// All languages of the root, or the first one missing that the template needs.
fn programs(template: &Template, root: &Path) -> Result<Programs, &'static Language> {
    let all = LANGUAGES.iter();
    let there: Programs = all.filter_map(|one| Some((one, one.find(root)?))).collect();
    let mut needed = template.languages.iter().filter_map(|need| need.language);
    match needed.find(|language| !there.iter().any(|(one, _)| one == language)) {
        Some(missing) => Err(missing),
        None => Ok(there),
    }
}
