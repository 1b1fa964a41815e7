//! What a container sees as `/`.
//!
//! The `host` root is a skeleton of our own (made-up `/etc`, empty mount points) over which the
//! host's `/usr` is bound read-only: whatever is installed on the host can be used inside, and
//! nothing else of the host can be seen.
//!
//! Must never happen here: a file of the host's copied that not everybody may read, or one of its
//! names, accounts or keys.

mod etc;
mod fit;

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::runtime::Rootfs;
pub use fit::fit;

/// Where mounts go; a template's own root directory must have them too.
const MOUNT_POINTS: [&str; 7] = ["dev", "proc", "run", "sys", "tmp", "var/tmp", "workspace"];
/// Files that are bound over; likewise.
const FILE_MOUNT_POINTS: [&str; 2] = ["etc/hostname", "etc/hosts"];
/// Directories that programs expect to exist.
const EMPTY: [&str; 11] = [
    "home",
    "media",
    "mnt",
    "opt/fleeks/bin",
    // Where templates' dependencies are bound.
    "opt/fleeks/layer",
    "root",
    "srv",
    "usr",
    "var/cache",
    "var/lib",
    "var/log",
];
/// Where Node packages of a template are bound. Only roots that are given some have it: npm takes the
/// first directory upwards with such a name for the project's.
const NODE_MODULES: &str = "node_modules";
/// What a root that others made gets where it has it not; without one for Node packages, which is
/// made when a layer has some.
const IMAGE_DIRECTORIES: [&str; 8] = [
    "dev",
    "opt/fleeks/layer",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "workspace",
];
/// Likewise.
const IMAGE_FILES: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", CERTIFICATES];
/// The host's are what counts, with an operator's own ones.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Debian calls them otherwise, or leaves the plain name to the user.
const COMMANDS: [(&str, &[&str]); 4] = [
    (
        "python",
        &[
            "/usr/local/bin/python",
            "/usr/bin/python",
            "/usr/bin/python3",
        ],
    ),
    (
        "pip",
        &["/usr/local/bin/pip", "/usr/bin/pip", "/usr/bin/pip3"],
    ),
    (
        "node",
        &["/usr/local/bin/node", "/usr/bin/node", "/usr/bin/nodejs"],
    ),
    ("npm", &["/usr/local/bin/npm", "/usr/bin/npm"]),
];

/// A root as the runtime needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What becomes `/`.
    pub directory: PathBuf,
    /// Read-only binds over it: (on the host, inside).
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// The made-up root of a data dir.
#[derive(Debug, Clone)]
pub struct HostRoot {
    directory: PathBuf,
    /// The same, with a place for Node packages; `/etc` is bound from the other.
    with_modules: PathBuf,
}

impl HostRoot {
    /// Makes the skeleton, or brings an old one up to date. Files are replaced by rename, so that
    /// containers that run notice nothing. Blocks: some hundred small files the first time.
    ///
    /// # Errors
    /// What the file system said.
    pub fn make(directory: PathBuf, resolvers: &[Ipv4Addr]) -> io::Result<Self> {
        Self::skeleton(&directory)?;
        etc::make(&directory.join("etc"), resolvers)?;
        let with_modules = directory.with_extension("modules");
        Self::skeleton(&with_modules)?;
        for place in ["etc", NODE_MODULES] {
            std::fs::create_dir_all(with_modules.join(place))?;
        }
        Ok(Self {
            directory,
            with_modules,
        })
    }

    /// All but `/etc`.
    fn skeleton(directory: &Path) -> io::Result<()> {
        for name in MOUNT_POINTS.iter().chain(&EMPTY) {
            std::fs::create_dir_all(directory.join(name))?;
        }
        for (name, mode) in [("tmp", 0o1777), ("var/tmp", 0o1777), ("", 0o755)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(directory.join(name), permissions)?;
        }
        for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
            if Path::new("/usr").join(name).is_dir() {
                replace_link(&Path::new("usr").join(name), &directory.join(name))?;
            }
        }
        replace_link(Path::new("/run"), &directory.join("var/run"))?;
        for (name, candidates) in COMMANDS {
            let found = candidates.iter().find(|path| Path::new(path).exists());
            if let Some(target) = found {
                replace_link(
                    Path::new(target),
                    &directory.join("opt/fleeks/bin").join(name),
                )?;
            }
        }
        Ok(())
    }

    /// The root that a template asks for, with `further` read-only binds.
    ///
    /// # Errors
    /// The template's directory lacks a mount point: `NotFound`, with its name.
    pub fn resolve(&self, rootfs: &Rootfs, further: &[(PathBuf, PathBuf)]) -> io::Result<Root> {
        let mut root = match rootfs {
            Rootfs::Host => {
                let modules = Path::new("/").join(NODE_MODULES);
                let has_modules = further.iter().any(|(_, inside)| *inside == modules);
                let usr = ("/usr".into(), "/usr".into());
                let etc = (self.directory.join("etc"), "/etc".into());
                match has_modules {
                    true => Root {
                        directory: self.with_modules.clone(),
                        binds: vec![usr, etc],
                    },
                    false => Root {
                        directory: self.directory.clone(),
                        binds: vec![usr],
                    },
                }
            }
            Rootfs::Directory(directory) => {
                let fixed = MOUNT_POINTS.iter().chain(&FILE_MOUNT_POINTS).map(Path::new);
                let bound = further.iter().map(|(_, inside)| inside.as_path());
                for name in fixed.chain(bound) {
                    let path = directory.join(name.strip_prefix("/").unwrap_or(name));
                    if !path.exists() {
                        let problem = format!("the template's root lacks {}", path.display());
                        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
                    }
                }
                let mut names = vec!["etc/resolv.conf"];
                let certificates = self.directory.join(CERTIFICATES);
                if is_plain_file(&directory.join(CERTIFICATES)) && certificates.is_file() {
                    names.push(CERTIFICATES);
                }
                let bind = |name: &&str| (self.directory.join(name), Path::new("/").join(name));
                Root {
                    directory: directory.clone(),
                    binds: names.iter().map(bind).collect(),
                }
            }
        };
        root.binds.extend_from_slice(further);
        Ok(root)
    }
}

fn is_plain_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Writes a file for everybody to read, unless it is like that already.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let temporary = path.with_extension("fleeks-new");
    std::fs::write(&temporary, content)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&temporary, path)
}

/// Makes a symbolic link, unless it is like that already.
fn replace_link(target: &Path, path: &Path) -> io::Result<()> {
    if std::fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_is_complete_and_can_be_made_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host");
        for _ in 0..2 {
            let root = HostRoot::make(path.clone(), &[Ipv4Addr::new(9, 9, 9, 9)]).unwrap();
            for name in MOUNT_POINTS.iter().chain(&FILE_MOUNT_POINTS) {
                assert!(path.join(name).exists(), "{name}");
            }
            assert_eq!(root.resolve(&Rootfs::Host, &[]).unwrap().directory, path);
        }
        let root = HostRoot::make(path.clone(), &[Ipv4Addr::new(9, 9, 9, 9)]).unwrap();
        let modules = [(PathBuf::from("/some"), PathBuf::from("/node_modules"))];
        let bound = root.resolve(&Rootfs::Host, &modules).unwrap();
        assert!(bound.directory.join("node_modules").is_dir());
        assert!(!path.join("node_modules").exists());
        assert!(bound.binds.contains(&(path.join("etc"), "/etc".into())));
        let resolv_conf = std::fs::read_to_string(path.join("etc/resolv.conf")).unwrap();
        assert!(resolv_conf.contains("nameserver 9.9.9.9\n"));
    }

    #[test]
    fn a_directory_without_mount_points_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::make(directory.path().join("host"), &[]).unwrap();
        let error = root
            .resolve(&Rootfs::Directory(directory.path().to_owned()), &[])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
