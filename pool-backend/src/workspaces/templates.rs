//! Templates as the API shows them, and the installation of what they need: image, dependencies.
//!
//! Must never happen here: an installation waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::id::TemplateName;

use super::Workspaces;
use crate::error::{Error, ErrorKind};
use crate::provision::{self, Progress, Unavailable, Unused};
use crate::template::Template;
use crate::template::language::Version;

/// A template, and how it stands on this machine.
#[derive(Debug, Clone)]
pub struct TemplateInfo {
    /// What it says.
    pub template: Arc<Template>,
    /// Its languages, as found.
    pub languages: Vec<String>,
    /// Their versions, as far as they are known yet.
    pub versions: BTreeMap<String, Version>,
    /// Why no workspace can be made of it, if so.
    pub unavailable: Option<Unavailable>,
    /// What is installed for it.
    pub dependencies: Dependencies,
    /// What starts the app: its own line, or its image's.
    pub run: Option<String>,
    /// Its own main ports, or its image's.
    pub main_ports: Vec<u16>,
    /// The image that its root is made from.
    pub image: Option<ImageInfo>,
}

/// See [`TemplateInfo::image`].
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// As the template names it.
    pub reference: String,
    /// Of the manifest that it led to when it was pulled; none before.
    pub digest: Option<String>,
}

/// See [`TemplateInfo::dependencies`].
#[derive(Debug, Clone)]
pub enum Dependencies {
    /// It needs none.
    None,
    /// Its first workspace, or `fleeks template build`, installs them, and pulls its image.
    Missing,
    /// They are there.
    Ready,
    /// Of an installation that goes on or failed.
    Installing(Progress),
}

impl Workspaces {
    /// All templates by name.
    pub fn template_infos(&self) -> Vec<TemplateInfo> {
        let templates = self.node.engine().launcher.templates.all();
        templates.map(|template| self.info(template)).collect()
    }

    /// One template.
    ///
    /// # Errors
    /// `Invalid`, with the names that there are.
    pub fn template_info(&self, name: &TemplateName) -> Result<TemplateInfo, Error> {
        let template = self.node.engine().launcher.template(name)?;
        Ok(self.info(&template))
    }

    /// Begins to install what a template needs, unless it is there or that goes on. `afresh`: asks
    /// the registry for its image also if there is one.
    ///
    /// # Errors
    /// `Invalid` for a template that cannot be used here.
    pub fn build_template(&self, name: &TemplateName, afresh: bool) -> Result<TemplateInfo, Error> {
        let engine = self.node.engine();
        let template = engine.launcher.template(name)?;
        let info = self.info(&template);
        if let Some(why) = &info.unavailable {
            return Err(provision::unusable(&template, why));
        }
        let asks = afresh && info.image.is_some();
        if asks || !matches!(info.dependencies, Dependencies::None | Dependencies::Ready) {
            provision::start(engine, &template, asks)?;
        }
        Ok(self.info(&template))
    }

    /// What was made for templates and nobody uses any more; `removes`: it goes. Takes as
    /// long as it takes to look through it. A dropped call goes on.
    ///
    /// # Errors
    /// `Conflict` while something is installed, `Internal` for the disk.
    pub async fn prune_templates(&self, removes: bool) -> Result<Vec<Unused>, Error> {
        let engine = Arc::clone(self.node.engine());
        let pruned = tokio::task::spawn_blocking(move || {
            let launcher = &engine.launcher;
            launcher.provisioner.prune(&launcher.templates, removes)
        });
        pruned.await.unwrap_or_else(|error| {
            let message = "what is unused is not known";
            Err(Error::caused(ErrorKind::Internal, message, error))
        })
    }

    fn info(&self, template: &Arc<Template>) -> TemplateInfo {
        let engine = self.node.engine();
        let provisioner = &engine.launcher.provisioner;
        let look = provisioner.look(template);
        let found = look.as_ref().ok();
        let needs = |provision: &Arc<provision::Provision>| {
            provision.image.is_some() || provision.layer.is_some()
        };
        let progress = provision::progress(engine, &template.name);
        let dependencies = match (found, progress) {
            (Some(provision), _) if !needs(provision) => Dependencies::None,
            (_, Some(progress @ Progress::Working { .. })) => Dependencies::Installing(progress),
            (Some(provision), _) if provision.is_complete() => Dependencies::Ready,
            (_, Some(progress @ Progress::Failed { .. })) => Dependencies::Installing(progress),
            (None, _) if template.dependencies.is_none() => Dependencies::None,
            _ => Dependencies::Missing,
        };
        let image = found.and_then(|provision| {
            let image = provision.image.as_ref()?;
            Some(ImageInfo {
                reference: image.reference.to_string(),
                digest: image.there.as_ref().map(|there| there.digest.clone()),
            })
        });
        TemplateInfo {
            template: Arc::clone(template),
            languages: provisioner.languages(template),
            versions: provisioner.versions(template),
            run: provisioner.run_line(template),
            main_ports: provisioner.main_ports(template),
            unavailable: look.err(),
            dependencies,
            image,
        }
    }
}
