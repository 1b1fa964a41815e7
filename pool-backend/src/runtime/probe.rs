//! Whether a runtime works here: by running something in it.

use std::path::{Path, PathBuf};

use fleet::id::{ContainerId, Generation, InstanceId};

use super::{ContainerSpec, OciId, Rootfs, Runtime, RuntimeError, User};
use crate::config::Limits;
use crate::network::{Network, NetworkError};

/// Stands in for init: reads its one argument and ends.
const TRIVIAL: &str = "/usr/bin/cat";

/// Starts and removes a trivial container with everything that a real one has.
///
/// # Errors
/// What did not work.
pub async fn probe(
    runtime: &dyn Runtime,
    instance: &InstanceId,
    network: &Network,
    scratch: &Path,
) -> Result<(), RuntimeError> {
    let failed = |error: NetworkError| RuntimeError::Failed {
        action: "make a network",
        output: error.to_string(),
    };
    let id = OciId::new(instance, &ContainerId::mint(), Generation(0));
    for directory in ["volume", "jobs"] {
        std::fs::create_dir_all(scratch.join(directory)).map_err(|source| RuntimeError::Io {
            context: "make the probe's directory",
            source,
        })?;
    }
    let address = network.mint_address().await.map_err(failed)?;
    let netns = network.prepare(&id, address).await.map_err(failed)?;
    let spec = ContainerSpec {
        id: id.clone(),
        rootfs: Rootfs::Host,
        binds: Vec::new(),
        volume: scratch.join("volume"),
        jobs: scratch.join("jobs"),
        init: PathBuf::from(TRIVIAL),
        init_token: String::new(),
        netns: netns.path().to_owned(),
        address,
        hostname: "probe".to_owned(),
        environment: Vec::new(),
        user: User::default(),
        limits: Limits::default(),
    };
    let started = runtime.start(&spec).await;
    let removed = runtime.remove(&id).await;
    let released = network.release(&id).await.map_err(failed);
    network.free_address(address);
    started.and(removed).and(released)
}
