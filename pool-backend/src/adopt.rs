//! After a start: what the records say meets what really runs, by the table of DESIGN §5.
//!
//! ```text
//! record                      container of its generation        becomes
//! deleted                     any                                deletion finished
//! claimed, Running            lives, its init answers            adopted, same generation
//! claimed, Running            paused                             thawed, then as above
//! claimed, Hibernated         any                                removed; Hibernated
//! claimed, Waking             lives, its init answers            adopted; Running, snapshot spent
//! claimed, Waking             anything else                      removed; Hibernated, and if it may
//!                                                                have written: without snapshot
//! claimed, anything           anything else                      removed; Stopped
//! warm, Running               lives, answers, pool has room      back into the pool
//! warm, anything else         any                                scrapped
//! none (or older generation)  any                                removed
//! ```
//!
//! Frozen and its neighbours are Running in the record, see `driver::sleep`. A snapshot counts only
//! where the record says Hibernated or Waking; others are removed before anything moves. Whoever was
//! restored may have written to its volume before the record said Running (`driver::restore`): then
//! its snapshot is put aside.
//!
//! Must never happen here: a container of another instance touched, one adopted that does not know
//! its token, or old memory left to be restored over a newer volume.

use std::collections::HashMap;
use std::sync::Arc;

use fleet::lifecycle::State;
use fleet::record::{Woken, WorkspaceRecord};
use fleet::timing;
use futures_util::{StreamExt as _, stream};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::driver::Driver;
use crate::driver::launch::Launcher;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::init_client::InitClient;
use crate::keeper::{self, Warm};
use crate::reconcile;
use crate::runtime::{ContainerStatus, OciId};

/// Records that are looked at together.
const AT_ONCE: usize = 16;

/// See the module. Afterwards every claimed workspace has a driver and a row.
///
/// # Errors
/// The runtime cannot be asked what runs.
pub(crate) async fn adopt(
    engine: &Arc<Engine>,
    records: Vec<WorkspaceRecord>,
) -> Result<(), Error> {
    let containers = engine.launcher.runtime.list().await.map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            "the runtime does not say what runs",
            error,
        )
    })?;
    let containers: HashMap<OciId, ContainerStatus> = containers.into_iter().collect();
    let count = records.len();
    let found = containers.len();
    stream::iter(records)
        .for_each_concurrent(AT_ONCE, |record| {
            let id = engine.launcher.id_of(&record);
            let status = containers.get(&id).copied();
            adopt_one(engine, record, id, status)
        })
        .await;
    // What nobody took charge of: older generations, unrecorded ones, lonely namespaces.
    reconcile::remove_orphans(engine).await;
    for workspace in engine.store.unrecorded() {
        tracing::info!(%workspace, "a volume that never had a record is removed");
        if let Err(error) = engine.store.remove_workspace(&workspace).await {
            tracing::warn!(%workspace, %error, "not removed");
        }
    }
    tracing::info!(records = count, containers = found, "adopted");
    Ok(())
}

async fn adopt_one(
    engine: &Arc<Engine>,
    mut record: WorkspaceRecord,
    id: OciId,
    status: Option<ContainerStatus>,
) {
    if record.deleted {
        let engine = Arc::clone(engine);
        engine
            .clone()
            .tasks
            .spawn(async move { engine.finish_deletion(record).await });
        return;
    }
    let waking = record.state == State::Waking;
    let mut asleep = waking || record.state == State::Hibernated;
    if !asleep && let Err(error) = engine.launcher.snapshots.give_up(&record.id).await {
        tracing::warn!(workspace = %record.id, %error, "a stale snapshot stays");
    }
    let ran = record.state == State::Running || record.state.is_still();
    let init = match status {
        Some(ContainerStatus::Running) if ran => greet(&record).await,
        Some(ContainerStatus::Paused) if ran => thaw(engine, &record, &id).await,
        Some(ContainerStatus::Running | ContainerStatus::Paused) if waking => {
            finish_wake(engine, &mut record, &id).await
        }
        _ => None,
    };
    if init.is_some() {
        engine.launcher.adopt(id);
    } else if status.is_some()
        && let Err(error) = engine.launcher.teardown(&id).await
    {
        tracing::warn!(workspace = %record.id, %error, "a container of before is not all gone");
    }
    if waking && init.is_none() {
        asleep = keep_true_snapshot(engine, &record).await;
    }
    match (&record.claim, init) {
        (None, Some(init)) => {
            keeper::lull(engine, &record).await;
            let surplus = match engine.shelves.get(&record.template) {
                Some(shelf) => shelf.adopt(Warm { record, init }).map(|warm| warm.record),
                None => Some(record),
            };
            if let Some(surplus) = surplus {
                engine.scrap_later(surplus);
            }
        }
        (None, None) => engine.scrap_later(record),
        (Some(_), init) => {
            let state = match init {
                Some(_) => State::Running,
                None if asleep => State::Hibernated,
                None => State::Stopped,
            };
            if record.state != state {
                record.state = state;
                if state != State::Running {
                    record.started_at = None;
                }
                if let Err(error) = engine.save(&record).await {
                    tracing::warn!(workspace = %record.id, %error, "its record stays behind");
                }
            }
            if let Err(error) = take_over(engine, record, init).await {
                tracing::error!(%error, cause = error.cause_text(), "a workspace is not served");
            }
        }
    }
}

async fn take_over(
    engine: &Arc<Engine>,
    record: WorkspaceRecord,
    init: Option<InitClient>,
) -> Result<(), Error> {
    engine.announce(&record).await?;
    let handle = Driver::engage(engine, record, init)?;
    engine.table.insert(&handle);
    Ok(())
}

/// It was being woken when the one before us ended, and is there. Recorded as running before
/// anything else, as its driver would have.
async fn finish_wake(
    engine: &Arc<Engine>,
    record: &mut WorkspaceRecord,
    id: &OciId,
) -> Option<InitClient> {
    let launcher = &engine.launcher;
    if let Err(error) = launcher.runtime.resume(id).await {
        tracing::warn!(workspace = %record.id, %error, "it cannot be thawed");
        return None;
    }
    let init = greet(record).await?;
    // Where its snapshot had been given up, it was started from its volume.
    let snapshot = launcher.snapshots.glance(&record.id).await;
    let running = WorkspaceRecord {
        state: State::Running,
        started_at: Some(OffsetDateTime::now_utc()),
        woken: Some(snapshot.map_or(Woken::Volume, |_| Woken::Memory)),
        ..record.clone()
    };
    if let Err(error) = engine.save(&running).await {
        tracing::warn!(workspace = %record.id, %error, "woken, but not recorded");
        return None;
    }
    *record = running;
    if let Err(error) = launcher.snapshots.give_up(&record.id).await {
        tracing::warn!(workspace = %record.id, %error, "a spent snapshot stays");
    }
    Some(init)
}

/// Whether it may be woken from what there is: false if there is a snapshot that the volume may be
/// ahead of, and that cannot be put aside.
async fn keep_true_snapshot(engine: &Arc<Engine>, record: &WorkspaceRecord) -> bool {
    let launcher = &engine.launcher;
    let Some(manifest) = launcher.snapshots.glance(&record.id).await else {
        return true;
    };
    if launcher.is_still_true(record, &manifest).await {
        return true;
    }
    tracing::warn!(
        workspace = %record.id,
        "what was being woken may have changed the volume: it starts from that",
    );
    let aside = launcher
        .snapshots
        .put_aside(&record.id, manifest.generation);
    match aside.await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(workspace = %record.id, %error, "a bad snapshot is not put aside");
            false
        }
    }
}

/// Its processes stood still when the one before us ended.
async fn thaw(engine: &Arc<Engine>, record: &WorkspaceRecord, id: &OciId) -> Option<InitClient> {
    match engine.launcher.runtime.resume(id).await {
        Ok(()) => greet(record).await,
        Err(error) => {
            tracing::warn!(workspace = %record.id, %error, "it cannot be thawed");
            None
        }
    }
}

/// The client of an init that answers with the record's token. On a machine that just came up many
/// are asked at once, so it has a while.
async fn greet(record: &WorkspaceRecord) -> Option<InitClient> {
    let init = Launcher::init_of(record);
    match init.wait_ready(Instant::now() + timing::INIT_AWAKE).await {
        Ok(()) => Some(init),
        Err(error) => {
            tracing::warn!(workspace = %record.id, %error, "its init does not answer, or not us");
            None
        }
    }
}
