//! From a template to what its containers see: which root, the layer of installed dependencies
//! over it, and which languages are really there, in which versions.
//!
//! A look costs a few system calls and runs nothing. Versions are asked for in a sandbox, once for
//! each root; images are pulled and dependencies installed once for each template (see [`build`]).
//!
//! Must never happen here: a program of a template's root run on the host.

mod build;
mod layer;
mod prune;
mod versions;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use fleet::id::TemplateName;
use fleet::timing;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind};
use crate::image::{About, Image, Images, Reference};
use crate::oci;
use crate::runtime::Rootfs;
use crate::template::language::{LANGUAGES, Language, Program, Version};
use crate::template::{RootSource, Template};

pub use build::Progress;
pub(crate) use build::{progress, provide, start};
pub(crate) use layer::Layer;
pub use prune::{Unused, UnusedKind};
pub(crate) use versions::{check_pins, look_around};

/// See the module.
pub(crate) struct Provisioner {
    data_dir: PathBuf,
    looks: Mutex<HashMap<TemplateName, (Instant, Look)>>,
    /// All that may still be in somebody's hands.
    made: Mutex<Vec<Weak<Provision>>>,
    builds: Mutex<HashMap<TemplateName, build::Watcher>>,
    versions: versions::Cache,
    images: Images,
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
    /// The image that its root is made from.
    pub(crate) image: Option<FromImage>,
}

/// See [`Provision::image`].
#[derive(Debug, Clone)]
pub(crate) struct FromImage {
    pub(crate) reference: Reference,
    /// None until it was pulled: then nothing is known of the root yet.
    pub(crate) there: Option<Image>,
}

impl Provision {
    /// Whether containers can start on it.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_root() && self.layer.as_ref().is_none_or(Layer::is_there)
    }

    /// Whether its root is here.
    pub(crate) fn has_root(&self) -> bool {
        self.image
            .as_ref()
            .is_none_or(|image| image.there.is_some())
    }

    /// What the image says of itself.
    pub(crate) fn about(&self) -> Option<&About> {
        Some(&self.image.as_ref()?.there.as_ref()?.about)
    }

    /// What finds the programs of its root, and of its layer where that is meant.
    pub(crate) fn environment(&self, with_layer: bool) -> Vec<(String, String)> {
        let layer = self.layer.as_ref().filter(|_| with_layer);
        let (layers, mut path) = layer.map(Layer::environment).unwrap_or_default();
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        if let Some(about) = self.about() {
            variables.extend(about.environment.iter().cloned());
            path.extend(about.path.iter().cloned());
        }
        variables.extend(layers);
        if !path.is_empty() {
            variables.insert("PATH".to_owned(), oci::path_with(&path));
        }
        variables.into_iter().collect()
    }
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
            made: Mutex::default(),
            builds: Mutex::default(),
            versions: versions::Cache::default(),
            images: Images::new(data_dir),
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
        if let Ok(provision) = &look {
            let mut made = self.made.lock();
            made.retain(|one| one.strong_count() > 0);
            made.push(Arc::downgrade(provision));
        }
        let mut looks = self.looks.lock();
        looks.insert(template.name.clone(), (Instant::now(), look.clone()));
        look
    }

    /// Its container's root and layer, which stay where they are for as long as this is held: until
    /// its bundle says what it uses.
    ///
    /// # Errors
    /// `Invalid` for one that cannot be used here; `NotReady` while its dependencies are missing.
    pub(crate) fn ready(&self, template: &Template) -> Result<Arc<Provision>, Error> {
        let provision = self
            .look(template)
            .map_err(|why| unusable(template, &why))?;
        if provision.is_complete() {
            return Ok(provision);
        }
        let what = match provision.has_root() {
            true => "dependencies",
            false => "image",
        };
        let message = format!("the {what} of template '{}' is not here yet", template.name);
        Err(Error::new(ErrorKind::NotReady, message))
    }

    /// The shell line that starts its app: its own, or its image's.
    pub(crate) fn run_line(&self, template: &Template) -> Option<String> {
        template
            .run
            .clone()
            .or_else(|| self.look(template).ok()?.about()?.run.clone())
    }

    /// Ports that count as the main one, best first: its own, or its image's.
    pub(crate) fn main_ports(&self, template: &Template) -> Vec<u16> {
        if !template.main_ports.is_empty() || !matches!(template.root, RootSource::Image(_)) {
            return template.main_ports.clone();
        }
        let look = self.look(template).ok();
        let about = look.as_ref().and_then(|provision| provision.about());
        about.map(|about| about.ports.clone()).unwrap_or_default()
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
        let mut image = None;
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
                    fix: "`fleeks template build --root debian` makes one".to_owned(),
                });
            }
            RootSource::Debian => directory(template, debian, "the Debian root")?,
            RootSource::Directory(path) => directory(template, path.clone(), "its root")?,
            RootSource::Image(reference) => {
                let there = self.images.find(reference);
                let root = there.as_ref().map(|there| there.root.clone());
                image = Some(FromImage {
                    reference: reference.clone(),
                    there,
                });
                match root {
                    Some(root) => directory(template, root, &format!("the image {reference}"))?,
                    None => return Ok(Arc::new(not_pulled_yet(template, image))),
                }
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
            image,
        }))
    }
}

/// Its languages are what it hopes for.
fn not_pulled_yet(template: &Template, image: Option<FromImage>) -> Provision {
    Provision {
        rootfs: Rootfs::Directory(PathBuf::new()),
        languages: template
            .languages
            .iter()
            .map(|need| need.name.clone())
            .collect(),
        programs: Programs::new(),
        layer: None,
        image,
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
