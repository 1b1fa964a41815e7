//! Taking away what was made for templates and nobody uses any more: layers of dependencies, images,
//! Debian roots.
//!
//! In use is what a template comes to now, what somebody is about to start with, and what stands in
//! the bundle of a container: those that wait warm, stand still or run keep what they started with.
//! A hibernated workspace does not: it wakes on what its template comes to now, or from its volume.
//!
//! Must never happen here: anything removed in the place where a container may see it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::id::ContainerId;
use rustix::fs::FlockOperation;

use super::{Progress, Provision, Provisioner, layer};
use crate::error::{Error, ErrorKind};
use crate::runtime::{self, Rootfs};
use crate::template::{RootSource, Templates};
use crate::volume;

/// What can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnusedKind {
    /// Installed dependencies of a template.
    Layer,
    /// An unpacked OCI image.
    Image,
    /// A Debian root.
    Root,
}

impl UnusedKind {
    /// One word, for people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Root => "root",
        }
    }
}

/// Something that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Of which kind.
    pub kind: UnusedKind,
    /// As it is called below the data dir, e.g. `layers/flask/0123…`.
    pub name: String,
    /// Its disk space.
    pub bytes: u64,
}

/// Something that nobody uses, where it stands or was put aside.
struct Found {
    kind: UnusedKind,
    name: String,
    path: PathBuf,
}

impl Provisioner {
    /// What nobody uses. `removes`: it is put aside at once, and gone from the disk soon after;
    /// what a crash leaves of it goes with the next start. Blocks.
    ///
    /// # Errors
    /// `Conflict` while something is installed or a root is made; `Internal` for the disk.
    pub(crate) fn prune(&self, templates: &Templates, removes: bool) -> Result<Vec<Unused>, Error> {
        let failed = |error| Error::from_io("what is unused could not be taken away", error);
        let mut found = {
            // Nothing can begin to be installed meanwhile.
            let builds = self.builds.lock();
            let working = |progress: &Progress| matches!(progress, Progress::Working { .. });
            if builds.values().any(|build| working(&build.borrow())) {
                let message = "a template is being installed; try again when it is ready";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let _roots = self.lock_roots()?;
            let mut found = self.unused(templates).map_err(failed)?;
            if removes {
                self.put_aside(&mut found).map_err(failed)?;
            }
            found
        };
        found.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        let measured = found.iter().map(|one| {
            Ok(Unused {
                kind: one.kind,
                name: one.name.clone(),
                bytes: volume::usage_of(&one.path)?.bytes,
            })
        });
        let measured = measured.collect::<io::Result<_>>().map_err(failed)?;
        if removes {
            self.tasks.spawn_blocking(move || {
                for one in found {
                    if let Err(error) = volume::remove_tree(&one.path) {
                        tracing::warn!(name = one.name, %error, "stays until the next start");
                    }
                }
            });
        }
        Ok(measured)
    }

    /// So that none is being made; see `fleeks template build --root`.
    fn lock_roots(&self) -> Result<Option<File>, Error> {
        let Ok(lock) = File::open(self.data_dir.join("roots/.lock")) else {
            return Ok(None);
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(error) => Err(Error::caused(
                ErrorKind::Conflict,
                "a root is being made; try again when it is ready",
                error,
            )),
        }
    }

    fn unused(&self, templates: &Templates) -> io::Result<Vec<Found>> {
        let used = self.used(templates)?;
        let is_used = |path: &Path| {
            let place = real(path);
            used.iter().any(|used| used.starts_with(&place))
        };
        let mut found = self.candidates()?;
        found.retain(|one| !is_used(&one.path));
        Ok(found)
    }

    /// Directories that somebody uses, or may at any moment.
    fn used(&self, templates: &Templates) -> io::Result<BTreeSet<PathBuf>> {
        self.forget_looks();
        let mut used = BTreeSet::new();
        for template in templates.all() {
            // Also what a template cannot be used with as it is.
            if let RootSource::Image(reference) = &template.root
                && let Some(image) = self.images.find(reference)
            {
                used.insert(real(&image.root));
            }
            // From now on nobody finds what is not in use now.
            drop(self.look(template));
        }
        used.insert(real(&self.data_dir.join("roots/debian")));
        for provision in self.held() {
            if let Rootfs::Directory(root) = &provision.rootfs {
                used.insert(real(root));
            }
            used.extend(provision.layer.iter().map(|layer| real(&layer.path)));
        }
        for path in runtime::seen_by_containers(&self.data_dir)? {
            used.insert(real(&path));
        }
        Ok(used)
    }

    /// All that somebody holds in hands.
    fn held(&self) -> Vec<Arc<Provision>> {
        let made = self.made.lock();
        made.iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    fn candidates(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut add = |kind, within: &str, belongs: &dyn Fn(&str) -> bool| {
            for name in names_in(&self.data_dir.join(within))? {
                let name = format!("{within}/{name}");
                let path = self.data_dir.join(&name);
                let last = name.rsplit('/').next().unwrap_or(&name);
                if belongs(last) && layer::is_plain_directory(&path) {
                    found.push(Found { kind, name, path });
                }
            }
            io::Result::Ok(())
        };
        for template in names_in(&self.data_dir.join("layers"))? {
            if !template.starts_with('.') {
                add(UnusedKind::Layer, &format!("layers/{template}"), &|_| true)?;
            }
        }
        let is_digest = |name: &str| crate::image::hex_of(&format!("sha256:{name}")).is_some();
        add(UnusedKind::Image, "images", &is_digest)?;
        // An operator's own directories are left alone.
        add(UnusedKind::Root, "roots", &|name| {
            name.starts_with("debian-")
        })?;
        Ok(found)
    }

    fn put_aside(&self, found: &mut [Found]) -> io::Result<()> {
        let aside = layer::staging(&self.data_dir);
        fs::create_dir_all(&aside)?;
        for one in &mut *found {
            let place = aside.join(format!("unused-{}", ContainerId::mint()));
            fs::rename(&one.path, &place)?;
            one.path = place;
        }
        self.forget_looks();
        if found.iter().any(|one| one.kind == UnusedKind::Image) {
            self.images.forget_missing()?;
        }
        Ok(())
    }
}

/// None for a directory that is not there.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names?.into_iter().flatten().collect())
}

/// Without links, if it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    fn names(found: &[Unused]) -> Vec<&str> {
        found.iter().map(|one| one.name.as_str()).collect()
    }

    struct Place {
        directory: tempfile::TempDir,
        provisioner: Provisioner,
        templates: Templates,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                provisioner: Provisioner::new(directory.path()),
                directory,
                templates: Templates::load(None).unwrap(),
            }
        }

        fn make(&self, name: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            path
        }

        fn template(&self, name: &str) -> &Arc<Template> {
            let mut all = self.templates.all();
            all.find(|one| one.name.as_str() == name).unwrap()
        }

        fn prune(&self, removes: bool) -> Vec<Unused> {
            self.provisioner.prune(&self.templates, removes).unwrap()
        }
    }

    #[tokio::test]
    async fn what_is_used_stays_and_the_rest_goes() {
        let place = Place::new();
        let look = place.provisioner.look(place.template("flask")).unwrap();
        let layer = look.layer.as_ref().unwrap().path.clone();
        let layer = layer
            .strip_prefix(place.directory.path())
            .unwrap()
            .to_owned();
        place.make(layer.to_str().unwrap());
        place.make("layers/flask/old");
        place.make("layers/of-no-template/any");
        place.make("layers/.staging/working");
        let digest = "a".repeat(64);
        place.make(&format!("images/{digest}/root"));
        place.make("images/refs");
        place.make("roots/debian-1");
        place.make("roots/debian-2");
        place.make("roots/mine");
        let link = place.directory.path().join("roots/debian");
        std::os::unix::fs::symlink("debian-2", link).unwrap();

        let expected = [
            "layers/flask/old".to_owned(),
            "layers/of-no-template/any".to_owned(),
            format!("images/{digest}"),
            "roots/debian-1".to_owned(),
        ];
        let told = place.prune(false);
        assert_eq!(names(&told), expected);
        assert!(told.iter().all(|one| one.bytes > 0));
        assert!(place.directory.path().join("layers/flask/old").is_dir());
        assert_eq!(place.prune(true), told);
        assert!(!place.directory.path().join("layers/flask/old").exists());
        assert!(place.directory.path().join(layer).is_dir());
        assert!(place.directory.path().join("roots/mine").is_dir());
        assert!(
            place
                .directory
                .path()
                .join("roots/debian")
                .join("file")
                .is_file()
        );
        assert_eq!(place.prune(true), []);
    }

    #[tokio::test]
    async fn what_a_container_started_with_stays() {
        let place = Place::new();
        let layer = place.make("layers/flask/old");
        let root = place.make("roots/debian-1");
        let bundle = place.make("runtime/runsc/bundles/one");
        let config = serde_json::json!({
            "root": {"path": root}, "mounts": [{"source": layer.join("node_modules")}],
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        assert_eq!(place.prune(true), []);
        fs::remove_dir_all(bundle).unwrap();
        assert_eq!(
            names(&place.prune(true)),
            ["layers/flask/old", "roots/debian-1"]
        );
    }

    #[tokio::test]
    async fn what_somebody_is_about_to_start_with_stays() {
        let place = Place::new();
        place.make("roots/debian-1");
        let link = place.directory.path().join("roots/debian");
        std::os::unix::fs::symlink("debian-1", &link).unwrap();
        let held = Arc::new(Provision {
            rootfs: Rootfs::Directory(link.canonicalize().unwrap()),
            languages: Vec::new(),
            programs: Vec::new(),
            layer: None,
            image: None,
        });
        place.provisioner.made.lock().push(Arc::downgrade(&held));
        fs::remove_file(&link).unwrap();
        assert_eq!(place.prune(true), []);
        drop(held);
        assert_eq!(names(&place.prune(true)), ["roots/debian-1"]);
    }

    #[tokio::test]
    async fn nothing_goes_while_something_is_being_made() {
        let place = Place::new();
        place.make("layers/flask/old");
        place.make("roots");
        let lock = File::create(place.directory.path().join("roots/.lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let refused = place.provisioner.prune(&place.templates, true);
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
        drop(lock);
        let working = Progress::Working {
            since: std::time::Instant::now(),
            step: String::new(),
            bytes: None,
        };
        let (teller, watcher) = tokio::sync::watch::channel(working);
        let name = place.template("flask").name.clone();
        place.provisioner.builds.lock().insert(name, watcher);
        let refused = place.provisioner.prune(&place.templates, true);
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
        teller.send_replace(Progress::Failed {
            at: std::time::Instant::now(),
            problem: String::new(),
        });
        assert_eq!(names(&place.prune(true)), ["layers/flask/old"]);
    }
}
