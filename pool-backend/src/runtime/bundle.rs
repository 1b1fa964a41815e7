//! A container's bundle: the directory with its `config.json` and its own small files.
//!
//! Must never happen here: a secret that others than the container's user may read.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use fleet::id::InstanceId;
use serde_json::{Value, json};

use super::{ContainerSpec, OciId, RuntimeKind, User};
use crate::oci::{self, Plan};

/// The runtime's own words about what it does for this container.
const LOG: &str = "runtime.log";
/// What the runtime reads.
const CONFIG: &str = "config.json";
/// Of a runtime's directory.
pub(super) const BUNDLES: &str = "bundles";
/// How much of them goes into an error.
const LOG_TAIL: usize = 2000;

/// How CRIU is to go about it; runc itself has no options for these. In this order: half-made
/// connections are dropped, their clients ask again; the network is not shut, as the node holds
/// all packets meanwhile ([`crate::network::Network::hold`]); deleted files that are still open are part of the images, up to this size, or
/// get a hidden name if they have another; cgroups are neither written down nor made again, for runc
/// puts CRIU, and so what it restores, into the new generation's.
const CRIU_OPTIONS: &str = "\
skip-in-flight
network-lock skip
ghost-limit 268435456
link-remap
manage-cgroups=ignore
";

/// All bundles of a runtime.
#[derive(Debug, Clone)]
pub struct Bundles {
    directory: PathBuf,
}

impl Bundles {
    /// Bundles under `directory`, which is made.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Where a container's is, or would be.
    pub fn path(&self, id: &OciId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    /// The file for the runtime's log.
    pub fn log(&self, id: &OciId) -> PathBuf {
        self.path(id).join(LOG)
    }

    /// Writes a container's bundle.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, spec: &ContainerSpec, plan: &Plan) -> io::Result<()> {
        std::fs::create_dir_all(&plan.bundle)?;
        let file = |name: &str, content: &str, mode: u32, owner: User| {
            write_new(&plan.bundle.join(name), content.as_bytes(), mode, owner)
        };
        let nobody_special = User::default();
        file(
            "hostname",
            &format!("{}\n", spec.hostname),
            0o644,
            nobody_special,
        )?;
        file(
            "hosts",
            &hosts(&spec.hostname, spec.address),
            0o644,
            nobody_special,
        )?;
        let init = json!({
            "token": spec.init_token, "workspace": oci::WORKSPACE, "jobs": oci::JOBS,
        });
        file("init.json", &init.to_string(), 0o400, spec.user)?;
        if plan.kind == RuntimeKind::Runc {
            file(oci::CRIU_CONFIG, CRIU_OPTIONS, 0o600, nobody_special)?;
        }
        file(
            CONFIG,
            &oci::config(spec, plan).to_string(),
            0o600,
            nobody_special,
        )
    }

    /// Removes a container's bundle. Idempotent.
    ///
    /// # Errors
    /// What the file system said.
    pub fn remove(&self, id: &OciId) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whose bundles are there.
    pub fn list(&self, instance: &InstanceId) -> Vec<OciId> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| OciId::of(instance, entry.file_name().to_str()?))
            .collect()
    }

    /// The end of the runtime's log for a container.
    pub fn log_tail(&self, id: &OciId) -> String {
        let text = std::fs::read(self.log(id)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

fn hosts(hostname: &str, address: Ipv4Addr) -> String {
    format!("127.0.0.1 localhost\n{address} {hostname}\n")
}

/// What the containers of a data dir see of the host, those of either runtime: the roots and mounts of
/// their bundles.
///
/// # Errors
/// A bundle that cannot be read: then nobody knows what is in use.
pub(crate) fn seen_by_containers(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut seen = Vec::new();
    for kind in [RuntimeKind::Runc, RuntimeKind::Runsc] {
        let bundles = data_dir.join("runtime").join(kind.name()).join(BUNDLES);
        let entries = match std::fs::read_dir(bundles) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let config = match std::fs::read(entry?.path().join(CONFIG)) {
                // Not begun yet, or just removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                config => config?,
            };
            let config: Value = serde_json::from_slice(&config)?;
            let mounts = config["mounts"].as_array().into_iter().flatten();
            let sources = mounts.map(|mount| &mount["source"]);
            let all = sources.chain([&config["root"]["path"]]);
            seen.extend(all.filter_map(Value::as_str).map(PathBuf::from));
        }
    }
    Ok(seen)
}

fn write_new(path: &Path, content: &[u8], mode: u32, owner: User) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    if owner != User::default() {
        chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    file.write_all(content)
}
