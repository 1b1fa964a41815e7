//! Templates: what a workspace starts from. Some are built in; an operator adds more as
//! `DIR/<name>/template.toml` with starter files under `DIR/<name>/files/`, and what the
//! installation of dependencies reads besides under `DIR/<name>/lock/`.
//!
//! Must never happen here: a field of a template silently ignored.

mod built_in;
mod directory;
pub mod language;
mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::id::TemplateName;

use crate::config::Limits;
use crate::image::Reference;
use language::Need;
pub(crate) use parse::is_variable;

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
    /// Languages that its root must have.
    pub languages: Vec<Need>,
    /// Where what its containers see as `/` comes from.
    pub root: RootSource,
    /// Ports that count as the main one, best first, before the well-known ones.
    pub main_ports: Vec<u16>,
    /// What starts the app, where the template knows.
    pub run: Option<String>,
    /// What makes it ready for production, or checks it.
    pub build: Option<String>,
    /// Whether the running app follows changes of its files.
    pub hot_reload: bool,
    /// What is installed once for all its workspaces.
    pub dependencies: Option<Dependencies>,
    /// Environment of its containers.
    pub environment: Vec<(String, String)>,
    /// Limits where they differ from the node's.
    pub limits: LimitOverrides,
    /// What a new volume contains.
    pub files: Vec<StarterFile>,
}

/// See [`Template::root`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// The host's, if it has what the template needs, else the Debian root.
    Any,
    /// The host's programs.
    Host,
    /// The root file system at `roots/debian` of the data dir, which the operator puts there.
    Debian,
    /// This directory.
    Directory(PathBuf),
    /// An OCI image, pulled before the template's first workspace.
    Image(Reference),
}

/// See [`Template::dependencies`]. The commands run once, in a sandbox with these files at
/// `/workspace`; what they leave under `$LAYER` becomes a read-only part of the template's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// Shell lines, one after another.
    pub install: Vec<String>,
    /// What they read: lock files, and starter files that were named.
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {template}: {}{problem}", self.place())]
pub struct TemplateError {
    /// Its name, or where it was looked for.
    pub template: String,
    /// Which file is to blame.
    pub file: Option<String>,
    /// And which line of it, counted from 1.
    pub line: Option<usize>,
    /// For the operator.
    pub problem: String,
}

impl TemplateError {
    /// `FILE:LINE: `, as far as it is known.
    pub fn place(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            (None, _) => String::new(),
        }
    }
}

/// A template that was looked at.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its name, or where it was looked for.
    pub name: String,
    /// The template, or everything that is wrong with it.
    pub outcome: Result<Template, Vec<TemplateError>>,
    /// What is allowed and hardly meant.
    pub doubts: Vec<String>,
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
            all.extend(directory::all(dir)?);
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

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.templates.values()
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<TemplateName> {
        self.templates.keys().cloned().collect()
    }
}

/// Every template of a directory with what is wrong with it: for `fleeks template check`. `path`
/// is one template's directory, or one that holds several.
///
/// # Errors
/// The directory cannot be read, or holds none.
pub fn check(path: &Path) -> Result<Vec<Checked>, TemplateError> {
    directory::check(path)
}
