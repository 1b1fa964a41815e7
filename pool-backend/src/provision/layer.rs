//! A template's dependencies as a directory: named by a digest of everything that they were made
//! from, complete or absent, read-only in every container.
//!
//! ```text
//! DATA/layers/<template>/<digest>/node_modules   at /node_modules
//! DATA/layers/<template>/<digest>/               at /opt/fleeks/layer
//!                                 python/        on Python's path, behind the user's own packages
//!                                 bin/, python/bin/   on PATH, behind the user's own
//! ```
//!
//! Must never happen here: a link that an installation left followed on the host.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::runtime::Rootfs;
use crate::template::language::{Language, Program};
use crate::template::{Dependencies, Template};
use crate::volume;

/// Where the layer is inside.
pub(crate) const INSIDE: &str = "/opt/fleeks/layer";
/// Where Node looks up to from every directory.
const NODE_MODULES: &str = "/node_modules";
/// Changes when layers are made otherwise than before.
const FORMAT: &str = "1";
/// A layer may be this large, and have this many entries.
const LARGEST: u64 = 8 << 30;
const MOST_ENTRIES: u64 = 1_000_000;

/// Puts the layer's packages before the system's and behind the user's own; virtual environments
/// stay what they are.
const PYTHON_START: &str = "\
import site
import sys

if sys.prefix == sys.base_prefix:
    _theirs = \"/opt/fleeks/layer/python\"
    site.addsitedir(_theirs)
    sys.path.remove(_theirs)
    _own = site.getusersitepackages()
    _places = [
        place
        for place, entry in enumerate(sys.path)
        if entry != _own and entry.endswith((\"dist-packages\", \"site-packages\"))
    ]
    sys.path.insert(_places[0] if _places else len(sys.path), _theirs)
";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
}

impl Layer {
    /// Where the layer of this template over this root is or would be.
    pub(super) fn of(
        data_dir: &Path,
        template: &Template,
        said: &Dependencies,
        rootfs: &Rootfs,
        programs: &[&(&'static Language, Program)],
    ) -> Self {
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        part(FORMAT.as_bytes());
        for line in &said.install {
            part(line.as_bytes());
        }
        for file in &said.files {
            part(file.path.as_os_str().as_encoded_bytes());
            part(&file.content);
        }
        for (name, value) in &template.environment {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        if let Rootfs::Directory(path) = rootfs {
            part(path.as_os_str().as_encoded_bytes());
        }
        // Another version of a language is another file.
        for (language, program) in programs {
            part(language.name.as_bytes());
            part(&program.size.to_le_bytes());
        }
        let name = data_encoding::HEXLOWER.encode(&digest.finalize()[..12]);
        let layers = data_dir.join("layers").join(template.name.as_str());
        Self {
            path: layers.join(name),
        }
    }

    /// Layers appear whole.
    pub(crate) fn is_there(&self) -> bool {
        self.path.is_dir()
    }

    /// Read-only binds: (on the host, inside).
    pub(crate) fn binds(&self) -> Vec<(PathBuf, PathBuf)> {
        let mut binds = vec![(self.path.clone(), PathBuf::from(INSIDE))];
        let modules = self.path.join("node_modules");
        if is_plain_directory(&modules) {
            binds.push((modules, PathBuf::from(NODE_MODULES)));
        }
        binds
    }

    /// Makes, in a root of ours, the places where its binds go that not every root has.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn make_places(&self, root: &Path) -> io::Result<()> {
        if !is_plain_directory(&self.path.join("node_modules")) {
            return Ok(());
        }
        match std::fs::create_dir(root.join("node_modules")) {
            Err(_) if is_plain_directory(&root.join("node_modules")) => Ok(()),
            made => made,
        }
    }

    /// What finds it inside: whole variables, and directories for the end of the user's own part
    /// of PATH.
    pub(crate) fn environment(&self) -> (Vec<(String, String)>, Vec<String>) {
        let (mut variables, mut path) = (Vec::new(), Vec::new());
        if is_plain_directory(&self.path.join("python")) {
            let start = format!("{INSIDE}/python-start");
            variables.push(("PYTHONPATH".to_owned(), start));
        }
        for bin in ["bin", "python/bin", "node_modules/.bin"] {
            if is_plain_directory(&self.path.join(bin)) {
                path.push(format!("{INSIDE}/{bin}"));
            }
        }
        (variables, path)
    }

    /// Makes `staged`, which an installation left, the layer. Blocks: a walk over all of it.
    ///
    /// # Errors
    /// What is wrong with it, or what the file system said.
    pub(super) fn commit(&self, staged: &Path) -> io::Result<volume::VolumeUsage> {
        if !is_plain_directory(staged) {
            return Err(io::Error::other("the commands left nothing in $LAYER"));
        }
        for name in ["node_modules", "python", "bin"] {
            let path = staged.join(name);
            let there = std::fs::symlink_metadata(&path);
            if there.is_ok_and(|metadata| !metadata.is_dir()) {
                return Err(io::Error::other(format!("{name} is no directory")));
            }
        }
        let usage = volume::usage_of(staged)?;
        if usage.bytes > LARGEST || usage.entries > MOST_ENTRIES {
            return Err(io::Error::other(format!(
                "{} bytes in {} files are too much",
                usage.bytes, usage.entries
            )));
        }
        if staged.join("python").is_dir() {
            let start = staged.join("python-start");
            // Whatever stands there is an installation's.
            volume::remove_tree(&start)?;
            std::fs::create_dir(&start)?;
            std::fs::write(start.join("sitecustomize.py"), PYTHON_START)?;
        }
        let parent = self.path.parent().unwrap_or(&self.path);
        std::fs::create_dir_all(parent)?;
        match std::fs::rename(staged, &self.path) {
            Err(_) if self.is_there() => Ok(usage),
            other => other.map(|()| usage),
        }
    }
}

/// Where installations work.
pub(super) fn staging(data_dir: &Path) -> PathBuf {
    data_dir.join("layers/.staging")
}

/// Takes away what installations left that were cut off.
pub(super) fn sweep(data_dir: &Path) {
    if let Err(error) = volume::remove_tree(&staging(data_dir)) {
        tracing::warn!(%error, "what is left of an installation stays");
    }
}

pub(super) fn is_plain_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_installation_left_is_looked_at_before_it_is_bound() {
        let directory = tempfile::tempdir().unwrap();
        let layer = Layer {
            path: directory.path().join("layers/t/digest"),
        };
        let staged = directory.path().join("staged");
        assert!(layer.commit(&staged).is_err());
        std::os::unix::fs::symlink("/etc", &staged).unwrap();
        assert!(layer.commit(&staged).is_err());
        std::fs::remove_file(&staged).unwrap();
        std::fs::create_dir(&staged).unwrap();
        std::os::unix::fs::symlink("/etc", staged.join("node_modules")).unwrap();
        assert!(layer.commit(&staged).is_err() && !layer.is_there());
        std::fs::remove_file(staged.join("node_modules")).unwrap();
        std::fs::create_dir_all(staged.join("python/bin")).unwrap();
        std::os::unix::fs::symlink("/etc", staged.join("python-start")).unwrap();
        layer.commit(&staged).unwrap();
        assert!(layer.is_there() && !staged.exists());
        let start = layer.path.join("python-start");
        assert!(!start.is_symlink() && start.join("sitecustomize.py").is_file());
        let (variables, path) = layer.environment();
        assert_eq!(variables[0].0, "PYTHONPATH");
        assert_eq!(path, ["/opt/fleeks/layer/python/bin"]);
        assert_eq!(layer.binds().len(), 1);
    }
}
