//! Takes away what a data dir has in the kernel while no node runs: for `fleeks down`, and for a
//! node that starts with another runtime than the last one. Records and volumes stay.
//!
//! Must never happen here: a container removed that a running node is in charge of — the caller
//! holds the data dir's lock.

use std::path::Path;
use std::sync::Arc;

use fleet::instance::DataDir;

use crate::error::{Error, ErrorKind};
use crate::network::Network;
use crate::runtime::runc::Runc;
use crate::runtime::runsc::Runsc;
use crate::runtime::{Runtime, RuntimeError, RuntimeKind, Settings, inflight};

/// Removes every container, namespace, link, cgroup and rule of this data dir's instance; says
/// how many containers there were.
///
/// # Errors
/// What could not be removed; the rest is gone all the same when called again.
pub async fn sweep(data: &DataDir, prefix: &Path) -> Result<usize, Error> {
    inflight::settle(data.instance()).await;
    let network = Network::open(data.instance().clone(), data.path(), Vec::new())
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, error.to_string(), error))?;
    let settings = Settings {
        instance: data.instance().clone(),
        data_dir: data.path().to_owned(),
        prefix: prefix.to_owned(),
        resolvers: Vec::new(),
    };
    let mut removed = 0;
    for kind in [RuntimeKind::Runc, RuntimeKind::Runsc] {
        removed += remove_all(kind, &settings).await?;
    }
    network
        .close()
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, error.to_string(), error))?;
    Ok(removed)
}

/// Removes all containers of the instance that `kind` ever started. A runtime that was never used
/// here is not asked, so it need not be installed.
pub(crate) async fn remove_all(kind: RuntimeKind, settings: &Settings) -> Result<usize, Error> {
    if !settings.data_dir.join("runtime").join(kind.name()).exists() {
        return Ok(0);
    }
    let failed = |error: RuntimeError| Error::caused(ErrorKind::Internal, error.to_string(), error);
    let runtime: Arc<dyn Runtime> = match kind {
        RuntimeKind::Runc => Arc::new(Runc::open(settings.clone()).await.map_err(failed)?),
        RuntimeKind::Runsc => Arc::new(Runsc::open(settings.clone()).await.map_err(failed)?),
    };
    let containers = runtime.list().await.map_err(failed)?;
    for (id, _) in &containers {
        runtime.remove(id).await.map_err(failed)?;
    }
    runtime.close();
    Ok(containers.len())
}
