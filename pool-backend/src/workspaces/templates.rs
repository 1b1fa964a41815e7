//! Templates as the API shows them, and the installation of their dependencies.
//!
//! Must never happen here: an installation waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::id::TemplateName;

use super::Workspaces;
use crate::error::Error;
use crate::provision::{self, Layer, Progress, Unavailable};
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
}

/// See [`TemplateInfo::dependencies`].
#[derive(Debug, Clone)]
pub enum Dependencies {
    /// It has none.
    None,
    /// Its first workspace, or `fleeks template build`, installs them.
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

    /// Begins to install a template's dependencies, unless they are there or that goes on.
    ///
    /// # Errors
    /// `Invalid` for a template that cannot be used here.
    pub fn build_template(&self, name: &TemplateName) -> Result<TemplateInfo, Error> {
        let engine = self.node.engine();
        let template = engine.launcher.template(name)?;
        let info = self.info(&template);
        if let Some(why) = &info.unavailable {
            return Err(provision::unusable(&template, why));
        }
        if !matches!(info.dependencies, Dependencies::None | Dependencies::Ready) {
            provision::start(engine, &template)?;
        }
        Ok(self.info(&template))
    }

    fn info(&self, template: &Arc<Template>) -> TemplateInfo {
        let engine = self.node.engine();
        let provisioner = &engine.launcher.provisioner;
        let look = provisioner.look(template);
        let layer = look
            .as_ref()
            .ok()
            .and_then(|provision| provision.layer.clone());
        let dependencies = match layer {
            _ if template.dependencies.is_none() => Dependencies::None,
            Some(layer) if Layer::is_there(&layer) => Dependencies::Ready,
            _ => match provision::progress(engine, &template.name) {
                Some(Progress::Done { .. }) | None => Dependencies::Missing,
                Some(progress) => Dependencies::Installing(progress),
            },
        };
        TemplateInfo {
            template: Arc::clone(template),
            languages: provisioner.languages(template),
            versions: provisioner.versions(template),
            unavailable: look.err(),
            dependencies,
        }
    }
}
