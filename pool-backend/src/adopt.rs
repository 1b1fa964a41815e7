//! After a start: what the records say meets what really runs, by the table of DESIGN §5.
//!
//! ```text
//! record                      container of its generation        becomes
//! deleted                     any                                deletion finished
//! claimed, Running            lives, its init answers            adopted, same generation
//! claimed, Running            paused                             thawed, then as above
//! claimed, Hibernated         any                                removed; Hibernated
//! claimed, Waking             any                                removed; Hibernated, same snapshot
//! claimed, anything           anything else                      removed; Stopped
//! warm, Running               lives, answers, pool has room      back into the pool
//! warm, anything else         any                                scrapped
//! none (or older generation)  any                                removed
//! ```
//!
//! Frozen and its neighbours are Running in the record, see `driver::sleep`. A snapshot counts only
//! where the record says Hibernated or Waking; others are removed before anything moves.
//!
//! Must never happen here: a container of another instance touched, or one adopted that does not
//! know its token.

use std::collections::HashMap;
use std::sync::Arc;

use fleet::lifecycle::State;
use fleet::record::WorkspaceRecord;
use fleet::timing;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

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
    let asleep = matches!(record.state, State::Hibernated | State::Waking);
    if !asleep && let Err(error) = engine.launcher.snapshots.remove_all(&record.id).await {
        tracing::warn!(workspace = %record.id, %error, "a stale snapshot stays");
    }
    let ran = record.state == State::Running || record.state.is_still();
    if record.claim.is_none() && status.is_some() {
        // A warm one was lulled; if it is no more, that shows next.
        drop(engine.launcher.runtime.rouse(&id));
    }
    let init = match status {
        Some(ContainerStatus::Running) if ran => greet(&record).await,
        Some(ContainerStatus::Paused) if ran => thaw(engine, &record, &id).await,
        _ => None,
    };
    if init.is_some() {
        engine.launcher.adopt(id);
    } else if status.is_some()
        && let Err(error) = engine.launcher.teardown(&id).await
    {
        tracing::warn!(workspace = %record.id, %error, "a container of before is not all gone");
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

/// The client of an init that answers with the record's token.
async fn greet(record: &WorkspaceRecord) -> Option<InitClient> {
    let init = Launcher::init_of(record);
    match timeout(timing::INIT_CALL, init.ping()).await {
        Ok(Ok(())) => Some(init),
        Ok(Err(error)) => {
            tracing::warn!(workspace = %record.id, %error, "its init does not know us");
            None
        }
        Err(_) => {
            tracing::warn!(workspace = %record.id, "its init does not answer");
            None
        }
    }
}
