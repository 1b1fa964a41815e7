//! The lifecycle of a workspace as a pure machine.
//!
//! ```text
//!            start             started            freeze           frozen
//! Stopped ─────────▶ Starting ─────────▶ Running ─────────▶ Freezing ───▶ Frozen
//!    ▲  ▲               │                 ▲  ▲ ▲  thaw ◀───────┘            │ │
//!    │  └── start failed┘                 │  │ └────────────── thaw ────────┘ │ hibernate
//!    │                                    │  └── thaw (abort) ── Hibernating ◀┘
//!    │ stop (volume only)          woken  │                          │ committed
//!    └── Running | Frozen                 Waking ◀───── wake ── Hibernated
//! ```
//! `Failed` is entered when a start or wake failed too often and is left by `start`;
//! `Deleted` is final. Every start and wake raises the generation.
//!
//! Must never happen here: I/O, locks, time.

use serde::{Deserialize, Serialize};

/// Where a workspace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No container; the volume is there. Left by `Start`.
    Stopped,
    /// A container is being made around the volume. Left by `Started` or `StartFailed`.
    Starting,
    /// Serving. Left by `Freeze`, `Stop`, `Died`.
    Running,
    /// The gate is closed, the cgroup is being frozen. Left by `FrozenNow` or `Thaw`.
    Freezing,
    /// Paused in memory. Left by `Thaw`, `Hibernate`, `Stop`, `Died`.
    Frozen,
    /// A checkpoint is being written; still revocable. Left by `Committed` or `Thaw`.
    Hibernating,
    /// Only volume and snapshot. Left by `Wake`, or `Start` (gives up the snapshot).
    Hibernated,
    /// A snapshot is being restored. Left by `Woken`, `WakeFailed`.
    Waking,
    /// Could not be started. Left by `Start`.
    Failed,
    /// Final.
    Deleted,
}

/// What the outside world knows of a state (SDK contract §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiStatus {
    /// Serving, or frozen (which a request undoes unnoticed).
    Ready,
    /// On its way to serving.
    Starting,
    /// Needs a wake or start.
    Stopped,
}

impl State {
    /// The API's word for this state.
    pub fn api_status(self) -> ApiStatus {
        match self {
            Self::Running | Self::Freezing | Self::Frozen => ApiStatus::Ready,
            Self::Starting | Self::Waking => ApiStatus::Starting,
            Self::Stopped | Self::Hibernating | Self::Hibernated | Self::Failed | Self::Deleted => {
                ApiStatus::Stopped
            }
        }
    }
}

/// What happens to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the chart of the module says what each does")]
pub enum Event {
    Start,
    Started,
    StartFailed,
    Freeze,
    FrozenNow,
    Thaw,
    Hibernate,
    Committed,
    Wake,
    Woken,
    WakeFailed,
    Stop,
    /// The container ended by itself.
    Died,
    /// Too many failures in a row.
    GiveUp,
    Delete,
}

/// The event has no place in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible while {state:?}")]
pub struct Denied {
    /// The state that the event met.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// The next state, or why not.
///
/// # Errors
/// [`Denied`] when the chart has no such edge; the state is then unchanged.
pub fn step(state: State, event: Event) -> Result<State, Denied> {
    use Event as E;
    use State as S;
    Ok(match (state, event) {
        (S::Deleted, _) => return Err(Denied { state, event }),
        (_, E::Delete) => S::Deleted,
        (S::Stopped | S::Hibernated | S::Failed, E::Start) => S::Starting,
        (S::Starting, E::Started) => S::Running,
        (S::Starting, E::StartFailed) => S::Stopped,
        (S::Running, E::Freeze) => S::Freezing,
        (S::Freezing, E::FrozenNow) => S::Frozen,
        (S::Freezing | S::Frozen | S::Hibernating, E::Thaw) => S::Running,
        (S::Frozen, E::Hibernate) => S::Hibernating,
        (S::Hibernating, E::Committed) => S::Hibernated,
        (S::Hibernated, E::Wake) => S::Waking,
        (S::Waking, E::Woken) => S::Running,
        (S::Waking, E::WakeFailed) => S::Hibernated,
        (S::Running | S::Frozen, E::Stop) => S::Stopped,
        (S::Running | S::Freezing | S::Frozen | S::Hibernating, E::Died) => S::Stopped,
        (S::Stopped | S::Starting | S::Hibernated | S::Waking, E::GiveUp) => S::Failed,
        _ => return Err(Denied { state, event }),
    })
}

/// Whether the event begins a new generation.
pub fn raises_generation(event: Event) -> bool {
    matches!(event, Event::Start | Event::Wake)
}
