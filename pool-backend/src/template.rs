//! Templates: what a workspace starts from. Some are built in; an operator adds more as
//! `DIR/<name>/template.toml` with starter files under `DIR/<name>/files/`.
//!
//! Must never happen here: a field of a template silently ignored.

mod built_in;
mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::id::TemplateName;

use crate::config::Limits;
use crate::runtime::Rootfs;

/// A volume starts with this many files at most.
pub const MAX_STARTER_FILES: usize = 20;
/// Together they are this large at most.
pub const MAX_STARTER_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: TemplateName,
    /// One line for people.
    pub description: String,
    /// What the API calls the workspace's languages.
    pub languages: Vec<String>,
    /// What its containers see as `/`.
    pub rootfs: Rootfs,
    /// Ports that count as the main one, best first, before the well-known ones.
    pub main_ports: Vec<u16>,
    /// What starts the app, where the template knows.
    pub run: Option<String>,
    /// Environment of its containers.
    pub environment: Vec<(String, String)>,
    /// Limits where they differ from the node's.
    pub limits: LimitOverrides,
    /// What a new volume contains.
    pub files: Vec<StarterFile>,
}

/// See [`Template::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "as in `Limits`")]
pub struct LimitOverrides {
    pub memory_bytes: Option<u64>,
    pub cpu_millis: Option<u32>,
    pub pids: Option<u32>,
    pub open_files: Option<u64>,
}

impl LimitOverrides {
    /// `default` with what the template says.
    pub fn over(self, default: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.unwrap_or(default.memory_bytes),
            cpu_millis: self.cpu_millis.unwrap_or(default.cpu_millis),
            pids: self.pids.unwrap_or(default.pids),
            open_files: self.open_files.unwrap_or(default.open_files),
        }
    }
}

/// A file of a new volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct StarterFile {
    /// Relative to `/workspace`, plain components only.
    pub path: PathBuf,
    pub content: Vec<u8>,
    pub executable: bool,
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
#[error("template {template}: {problem}")]
pub struct TemplateError {
    /// Its name or directory.
    pub template: String,
    /// For the operator.
    pub problem: String,
}

/// All templates of a node.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    templates: BTreeMap<TemplateName, Arc<Template>>,
}

impl Templates {
    /// The built-in ones, and the operator's from `dir`, which win.
    ///
    /// # Errors
    /// [`TemplateError`] for the first bad one.
    pub fn load(dir: Option<&Path>) -> Result<Self, TemplateError> {
        let mut all = built_in::templates()?;
        if let Some(dir) = dir {
            all.extend(parse::directory(dir)?);
        }
        Ok(Self {
            templates: all
                .into_iter()
                .map(|template| (template.name.clone(), Arc::new(template)))
                .collect(),
        })
    }

    /// One of them.
    pub fn get(&self, name: &TemplateName) -> Option<Arc<Template>> {
        self.templates.get(name).cloned()
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<TemplateName> {
        self.templates.keys().cloned().collect()
    }
}
