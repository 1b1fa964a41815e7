//! When a workspace that nobody uses is put to sleep: a pure decision, and the node's one task
//! that acts on it.
//!
//! Two steps. Soon its processes are frozen, if they compute nothing: that costs nothing to undo,
//! and nobody notices. After the time that its owner set, its `idle_action` follows, whatever it
//! computes.
//!
//! Must never happen here: a container changed. Its driver does that, or refuses.

mod keeper;

use std::time::Duration;

use fleet::lifecycle::State;
use fleet::record::{IdleAction, LifecycleSettings};
use fleet::timing;

use crate::driver::Handle;
pub(crate) use keeper::run;

/// What the decision is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Else it runs.
    pub(crate) frozen: bool,
    /// Nobody has used it for this long.
    pub(crate) idle: Duration,
    /// Since its container started or woke.
    pub(crate) up: Duration,
    /// Requests and calls that are being answered.
    pub(crate) in_flight: u32,
    /// Websockets and event streams that sleep would end; where they outlive it, none.
    pub(crate) attached: u32,
    /// The app has said nothing for this long to those who listen: on websockets, in event streams.
    pub(crate) silent: Duration,
    /// It computes, though nobody asked.
    pub(crate) busy: bool,
    /// What is left of an extension of its idle time.
    pub(crate) extension_left: Duration,
    /// How long a client's next heartbeat may still come.
    pub(crate) heartbeat_left: Duration,
    /// Its longest uptime is over, and it has been tried for this long to end it gently.
    pub(crate) overdue_for: Duration,
    /// Connections to the outside that a checkpoint would break, if they were counted: when it was
    /// frozen.
    pub(crate) outside: Option<u32>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Let it be.
    Nothing,
    /// Stop its processes in memory.
    Freeze,
    /// Put them on disk.
    Hibernate,
    /// End them.
    Stop,
}

impl Facts {
    /// None while it has no container. Whether it is `busy` is as last measured; for how long it is
    /// overdue is for the keeper to fill in.
    pub(crate) fn of(handle: &Handle) -> Option<Self> {
        let (status, gate) = (handle.status(), handle.gate()?);
        let frozen = match status.state {
            State::Running => false,
            State::Frozen => true,
            _ => return None,
        };
        let inside = gate.inside();
        Some(Self {
            frozen,
            idle: handle.activity.idle(),
            up: handle.uptime().unwrap_or_default(),
            in_flight: inside.in_flight,
            attached: gate.would_lose(),
            silent: handle.activity.silent(),
            busy: handle.is_busy(),
            extension_left: handle.activity.extension_left(),
            heartbeat_left: handle.activity.heartbeat_left(),
            overdue_for: Duration::ZERO,
            outside: gate.outside().filter(|_| frozen),
        })
    }
}

/// The owner's idle time.
pub(crate) fn timeout(settings: &LifecycleSettings) -> Duration {
    Duration::from_secs(u64::from(settings.idle_timeout_minutes) * 60)
}

/// See the module.
pub(crate) fn decide(
    settings: &LifecycleSettings,
    freeze_after: Duration,
    facts: &Facts,
) -> Decision {
    if is_overdue(settings, facts) {
        return match settings.idle_action {
            // A longest time is one for those, too, who are never left alone.
            _ if facts.overdue_for >= timing::OVERDUE => Decision::Stop,
            _ if facts.in_flight > 0 => Decision::Nothing,
            IdleAction::Hibernate => Decision::Hibernate,
            IdleAction::Shutdown | IdleAction::KeepAlive => Decision::Stop,
        };
    }
    if facts.in_flight > 0 || never_idles(settings) || is_watched(settings, facts) {
        return Decision::Nothing;
    }
    if !facts.extension_left.is_zero() {
        return Decision::Nothing;
    }
    if facts.idle >= timeout(settings) {
        return match settings.idle_action {
            IdleAction::Hibernate => Decision::Hibernate,
            IdleAction::Shutdown => Decision::Stop,
            IdleAction::KeepAlive => Decision::Nothing,
        };
    }
    let quiet = !facts.busy && facts.heartbeat_left.is_zero();
    if !facts.frozen && quiet && facts.idle.min(facts.silent) >= freeze_after {
        return Decision::Freeze;
    }
    Decision::Nothing
}

/// Whether its longest uptime is over.
pub(crate) fn is_overdue(settings: &LifecycleSettings, facts: &Facts) -> bool {
    longest(settings).is_some_and(|longest| facts.up >= longest)
}

/// Where a checkpoint breaks connections (docs/sleep.md), nobody who did not ask for it is put at
/// that risk: a workspace with connections to the outside stays frozen instead, until its longest
/// uptime. They are counted when it is frozen.
pub(crate) fn without_breaking(decision: Decision, facts: &Facts) -> Decision {
    match decision {
        Decision::Hibernate if !facts.frozen => Decision::Freeze,
        Decision::Hibernate if !facts.overdue_for.is_zero() => decision,
        Decision::Hibernate if facts.outside.is_some_and(|count| count > 0) => Decision::Nothing,
        decision => decision,
    }
}

/// Until its `idle_action`, or its longest uptime; none if neither will come as things are.
pub(crate) fn time_left(settings: &LifecycleSettings, facts: &Facts) -> Option<Duration> {
    let idles = !never_idles(settings) && !is_watched(settings, facts);
    let idle = idles.then(|| {
        let left = timeout(settings).saturating_sub(facts.idle);
        left.max(facts.extension_left)
    });
    let up = longest(settings).map(|longest| longest.saturating_sub(facts.up));
    [idle, up].into_iter().flatten().min()
}

/// What keeps it from standing still, for its owner.
pub(crate) fn being_answered(requests: u32) -> String {
    match requests {
        1 => "a request is being answered".to_owned(),
        many => format!("{many} requests are being answered"),
    }
}

/// Why it does not sleep now, for its owner.
pub(crate) fn kept_awake_by(settings: &LifecycleSettings, facts: &Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut because = |holds: bool, text: String| {
        if holds {
            reasons.push(text);
        }
    };
    because(settings.keep_alive, "keep_alive is on".to_owned());
    let action = settings.idle_action == IdleAction::KeepAlive;
    because(action, "idle_action is keep_alive".to_owned());
    because(facts.in_flight > 0, being_answered(facts.in_flight));
    let attached = match facts.attached {
        1 => "a websocket or event stream is open, and would be closed".to_owned(),
        many => format!("{many} websockets or event streams are open, and would be closed"),
    };
    because(is_watched(settings, facts), attached);
    let extended = facts.extension_left.as_secs();
    because(
        extended > 0,
        format!("its timeout was extended: {extended} s are left"),
    );
    let heartbeat = facts.heartbeat_left.as_secs();
    let expected = format!("a heartbeat is expected within {heartbeat} s: not frozen");
    because(heartbeat > 0, expected);
    because(facts.busy, "its processes compute: not frozen".to_owned());
    let outside = facts.outside.unwrap_or_default();
    let open = match outside {
        1 => "a connection to the outside is open: not hibernated".to_owned(),
        many => format!("{many} connections to the outside are open: not hibernated"),
    };
    because(outside > 0, open);
    let says = facts.silent < timing::FREEZE_AFTER && facts.idle >= timing::FREEZE_AFTER;
    because(says, "it sends to visitors: not frozen".to_owned());
    let recent = facts.idle < timing::FREEZE_AFTER;
    let used = format!("it was used {} s ago", facts.idle.as_secs());
    because(recent, used);
    reasons
}

fn never_idles(settings: &LifecycleSettings) -> bool {
    settings.keep_alive || settings.idle_action == IdleAction::KeepAlive
}

/// Somebody's websocket or event stream would be ended, and its owner counts visits.
fn is_watched(settings: &LifecycleSettings, facts: &Facts) -> bool {
    facts.attached > 0 && settings.keep_alive_on_preview
}

fn longest(settings: &LifecycleSettings) -> Option<Duration> {
    let hours = settings.max_duration_hours?;
    Some(Duration::from_secs(u64::from(hours) * 3600))
}

#[cfg(test)]
mod tests;
