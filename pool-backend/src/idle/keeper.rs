//! Looks at every workspace every few seconds and does what was decided.
//!
//! Must never happen here: a workspace that could not be put to sleep tried again at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::id::WorkspaceId;
use fleet::lifecycle::State;
use fleet::timing;
use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::{Decision, Facts, decide, is_overdue, without_breaking};
use crate::driver::{Handle, Order};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::runtime::{OciId, RuntimeKind};

/// Workspaces that are put to sleep together.
const AT_ONCE: usize = 4;
/// More CPU time than this part of the time is computing.
fn quiet(runtime: RuntimeKind) -> f64 {
    match runtime {
        RuntimeKind::Runc => 0.01,
        // gVisor's kernel not counted, a server at rest was seen at 0.002, a shell that starts a
        // `sleep 1` again and again at 0.03.
        RuntimeKind::Runsc => 0.05,
    }
}

/// What is remembered of a workspace between looks.
#[derive(Default)]
struct Seen {
    /// Its CPU time at some moment of its idleness, and which idleness that was.
    sample: Option<(u64, Instant, u64)>,
    /// It failed to fall asleep: not before then.
    not_before: Option<Instant>,
    /// Its longest uptime was over then.
    overdue_since: Option<Instant>,
}

/// Runs until the engine rests.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut seen: HashMap<WorkspaceId, Seen> = HashMap::new();
    loop {
        let (look_again, longest) = match is_crowded(&engine) {
            true => (timing::IDLE_LOOK_CROWDED, timing::FREEZE_AFTER_CROWDED),
            false => (timing::IDLE_LOOK, engine.freeze_after),
        };
        let freeze_after = engine.freeze_after.min(longest);
        tokio::select! {
            () = engine.resting.cancelled() => return,
            () = sleep(look_again.min(freeze_after)) => {}
        }
        let handles = engine.table.all();
        seen.retain(|id, _| engine.table.by_id(id).is_some());
        let mut decided = Vec::new();
        for handle in handles {
            if handle.activity.is_unrecorded() {
                // Whether it could be recorded is seen at the next look.
                engine.tasks.spawn(remember(Arc::clone(&handle)));
            }
            let entry = seen.entry(handle.id().clone()).or_default();
            match look(&engine, &handle, freeze_after, entry).await {
                Decision::Nothing => {}
                decision => decided.push((handle, decision)),
            }
        }
        let failed: Vec<WorkspaceId> = stream::iter(decided)
            .map(|(handle, decision)| act(handle, decision))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        for id in failed {
            let entry = seen.entry(id).or_default();
            entry.not_before = Some(Instant::now() + timing::SLEEP_RETRY);
        }
    }
}

async fn remember(handle: Arc<Handle>) {
    if let Err(error) = handle.order(Order::Remember).await {
        tracing::debug!(workspace = %handle.id(), %error, "when it was used is not recorded");
    }
}

/// Whether those who idle stand in the way of those who want to start.
fn is_crowded(engine: &Engine) -> bool {
    engine.launcher.runtime.sleep().idles_at_cost && engine.launcher.is_crowded()
}

async fn look(
    engine: &Engine,
    handle: &Handle,
    freeze_after: Duration,
    seen: &mut Seen,
) -> Decision {
    let Some(facts) = Facts::of(handle) else {
        *seen = Seen::default();
        return Decision::Nothing;
    };
    let settings = handle.settings();
    match is_overdue(&settings, &facts) {
        true => _ = seen.overdue_since.get_or_insert_with(Instant::now),
        false => seen.overdue_since = None,
    }
    let overdue_for = seen.overdue_since.map(|since| since.elapsed());
    let overdue_for = overdue_for.unwrap_or_default();
    let too_early = seen.not_before.is_some_and(|at| Instant::now() < at);
    if too_early && overdue_for < timing::OVERDUE {
        return Decision::Nothing;
    }
    let idling = !facts.frozen && facts.idle >= freeze_after / 2;
    // Measured from early on, so that it is known when it matters.
    let busy = idling && is_busy(engine, handle, freeze_after, seen).await;
    handle.measured(busy);
    let facts = Facts {
        busy,
        overdue_for,
        ..facts
    };
    let decision = decide(&settings, freeze_after, &facts);
    match engine.launcher.runtime.sleep().keeps_connections {
        true => decision,
        false => without_breaking(decision, &facts),
    }
}

/// Whether it has computed since it fell idle; unknown counts as yes.
async fn is_busy(
    engine: &Engine,
    handle: &Handle,
    freeze_after: Duration,
    seen: &mut Seen,
) -> bool {
    let launcher = &engine.launcher;
    let generation = handle.status().generation;
    let id = OciId::new(&launcher.instance, &handle.identity().container, generation);
    let Ok(usage) = launcher.usage(&id).await else {
        return true;
    };
    let computed = usage.cpu_micros.saturating_sub(usage.own_micros);
    let (mark, now) = (handle.activity.mark(), Instant::now());
    match seen.sample {
        Some((of, at, before)) if of == mark => {
            let used = Duration::from_micros(computed.saturating_sub(before));
            let passed = now.duration_since(at);
            let quiet = quiet(launcher.runtime.kind());
            let busy = used.as_secs_f64() > passed.as_secs_f64() * quiet;
            // Begin again from time to time: what computed once may be quiet by now.
            if busy && passed >= freeze_after {
                seen.sample = Some((mark, now, computed));
            }
            busy
        }
        _ => {
            seen.sample = Some((mark, now, computed));
            true
        }
    }
}

/// The workspace, if that did not work.
async fn act(handle: Arc<Handle>, decision: Decision) -> Option<WorkspaceId> {
    let done = match decision {
        Decision::Nothing => return None,
        Decision::Freeze => handle.order(Order::Freeze).await,
        Decision::Hibernate => handle.order(Order::Hibernate).await,
        Decision::Stop => handle.order(Order::Stop).await,
    };
    let error = done.err()?;
    // In memory it costs no CPU at least.
    if error.kind == ErrorKind::NoSpace && handle.status().state == State::Running {
        let frozen = handle.order(Order::Freeze).await;
        tracing::warn!(workspace = %handle.id(), %error, ?frozen, "frozen, not hibernated");
        return Some(handle.id().clone());
    }
    let used = matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound);
    if !used {
        tracing::warn!(workspace = %handle.id(), ?decision, %error, "it does not fall asleep");
    }
    (!used).then(|| handle.id().clone())
}
