//! Every minute: what is there is compared with what somebody is in charge of. Orphans of this
//! instance go, spent snapshots as well; workspaces and warm containers whose container ended are
//! noticed, and those that stand still though they should run.
//!
//! Must never happen here: anything of another instance touched, or a container removed that is
//! just being started.

use std::collections::HashMap;
use std::sync::Arc;

use fleet::lifecycle::State;
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::Order;
use crate::engine::Engine;
use crate::runtime::{ContainerStatus, OciId};
use crate::uploads;

/// Runs until the engine rests.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut tick = interval(engine.reconcile_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await; // The first is now: adoption has just been.
    loop {
        tokio::select! {
            () = engine.resting.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(running) = remove_orphans(&engine).await else {
            continue;
        };
        notice_deaths(&engine, &running).await;
        spent_snapshots(&engine).await;
        forgotten_uploads(&engine).await;
    }
}

/// Those that nobody went on with.
async fn forgotten_uploads(engine: &Engine) {
    for handle in engine.table.all() {
        let volume = engine.launcher.volume(handle.id());
        let swept = tokio::task::spawn_blocking(move || uploads::sweep(&volume));
        if let Err(error) = swept.await {
            tracing::warn!(%error, "forgotten uploads stay");
        }
    }
}

/// Those of workspaces that do not sleep: their drivers could not remove them, or died before.
async fn spent_snapshots(engine: &Engine) {
    for workspace in engine.launcher.snapshots.workspaces().await {
        let Some(handle) = engine.table.by_id(&workspace) else {
            continue;
        };
        let sleeps = matches!(
            handle.status().state,
            State::Hibernating | State::Hibernated | State::Waking
        );
        if !sleeps && let Err(error) = handle.order(Order::Tidy).await {
            tracing::warn!(%workspace, %error, "a spent snapshot stays");
        }
    }
}

/// Removes what nobody is in charge of; returns what the runtime knows, if it says.
pub(crate) async fn remove_orphans(
    engine: &Arc<Engine>,
) -> Option<HashMap<OciId, ContainerStatus>> {
    let launcher = &engine.launcher;
    let containers = match launcher.runtime.list().await {
        Ok(containers) => containers,
        Err(error) => {
            tracing::warn!(%error, "the runtime does not say what runs");
            return None;
        }
    };
    let networks = launcher.network.list().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the namespaces cannot be listed");
        Vec::new()
    });
    // Who starts a container owns it before it exists, so what is listed and not owned is nobody's.
    let ids = containers.iter().map(|(id, _)| id).chain(&networks);
    let mut orphans: Vec<OciId> = ids.filter(|id| !launcher.owns(id)).cloned().collect();
    orphans.sort();
    orphans.dedup();
    for id in orphans {
        // Looked at again: one that a driver began to remove meanwhile is its business.
        if launcher.owns(&id) {
            continue;
        }
        tracing::info!(container = id.as_str(), "an orphan is removed");
        if let Err(error) = launcher.teardown(&id).await {
            tracing::warn!(container = id.as_str(), %error, "the orphan is not all gone");
        }
    }
    Some(containers.into_iter().collect())
}

async fn notice_deaths(engine: &Arc<Engine>, running: &HashMap<OciId, ContainerStatus>) {
    let dead = |id: &OciId| {
        !matches!(
            running.get(id),
            Some(ContainerStatus::Running | ContainerStatus::Paused | ContainerStatus::Created)
        )
    };
    for handle in engine.table.all() {
        let status = handle.status();
        let container = &handle.identity().container;
        let id = OciId::new(&engine.launcher.instance, container, status.generation);
        let stands =
            status.state == State::Running && running.get(&id) == Some(&ContainerStatus::Paused);
        if stands || matches!(status.state, State::Running | State::Frozen) && dead(&id) {
            // The driver looks again, and decides.
            handle.check(status.generation).await;
        }
    }
    for shelf in engine.shelves.values() {
        // A container that became warm after the list was made is not in it.
        let listed = |id: &OciId| running.get(id) == Some(&ContainerStatus::Stopped);
        for warm in shelf.evict(|record| listed(&engine.launcher.id_of(record))) {
            tracing::warn!(container = %warm.record.container, "a warm container died");
            engine.scrap_later(warm.record);
        }
    }
}
