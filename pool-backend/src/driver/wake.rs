//! Waiting until a workspace runs, and beginning that if nobody has: a start, a wake or a thaw.
//!
//! Must never happen here: a wait without a deadline.

use std::sync::Arc;

use fleet::directory::{DirectoryError, WakeBegun, WakeCause};
use fleet::lifecycle::State;
use fleet::timing;
use tokio::time::timeout;

use super::Handle;
use super::gate::Gate;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};

/// The gate of the running container; costs nothing while it runs.
///
/// # Errors
/// `NotReady` when it does not start in time or its starts fail; `NotFound` when it is gone.
pub(crate) async fn ensure_running(
    engine: &Engine,
    handle: &Handle,
    cause: WakeCause,
) -> Result<Arc<Gate>, Error> {
    if let Some(gate) = open_gate(handle) {
        return Ok(gate);
    }
    timeout(timing::WAKE_DEADLINE, wait(engine, handle, cause))
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::NotReady,
                "the workspace did not start in time",
            ))
        })
}

async fn wait(engine: &Engine, handle: &Handle, cause: WakeCause) -> Result<Arc<Gate>, Error> {
    let mut status = handle.watch();
    loop {
        // Seen before the question: whatever changes from here on wakes us.
        let problem = status.borrow_and_update().problem.clone();
        if let Some(gate) = open_gate(handle) {
            // Woken before the driver knew for whom: not for the next one's account.
            handle.was_wanted_by();
            return Ok(gate);
        }
        if may_not_be_woken(handle, cause) {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the workspace sleeps and auto_wake is off; call wake() first",
            ));
        }
        // Refused in its own words here; the driver has the last one.
        if !is_underway(handle) {
            drop(engine.place_to_run(handle)?);
        }
        handle.wanted_by(cause);
        if !knocks(handle) {
            match engine.directory.begin_wake(handle.id(), cause).await {
                Ok(WakeBegun::Ready(route) | WakeBegun::Underway(route)) => {
                    handle.nudge(route.generation);
                }
                Ok(WakeBegun::Failed(text)) => {
                    let message = problem.unwrap_or(text);
                    return Err(Error::new(ErrorKind::NotReady, message));
                }
                Err(DirectoryError::Absent) => {
                    return Err(Error::new(ErrorKind::NotFound, "no such workspace"));
                }
                Err(error) => tracing::warn!(workspace = %handle.id(), %error, "no wake begun"),
            }
        }
        // The driver's word, or a look at the row again.
        match timeout(timing::ROUTE_POLL, status.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => return Err(Error::new(ErrorKind::NotFound, "no such workspace")),
        }
    }
}

/// Whether its container stands still: then it is thawed now, and the directory need not be asked.
fn knocks(handle: &Handle) -> bool {
    handle.gate().is_some_and(|gate| {
        gate.knock();
        gate.is_knocked()
    })
}

fn may_not_be_woken(handle: &Handle, cause: WakeCause) -> bool {
    let asleep = matches!(
        handle.status().state,
        State::Hibernated | State::Stopped | State::Failed
    );
    let meant = matches!(cause, WakeCause::Lifecycle | WakeCause::Create);
    asleep && !meant && !handle.settings().auto_wake
}

/// Whether it has a container, or will have one soon.
fn is_underway(handle: &Handle) -> bool {
    !matches!(
        handle.status().state,
        State::Hibernated | State::Stopped | State::Failed
    )
}

fn open_gate(handle: &Handle) -> Option<Arc<Gate>> {
    handle.gate().filter(|gate| gate.is_open())
}
