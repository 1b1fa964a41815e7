//! The lifecycle of a workspace as a pure machine.
//!
//! ```text
//!           start            started           freeze            frozen
//! Stopped ────────▶ Starting ────────▶ Running ────────▶ Freezing ──────▶ Frozen
//!                                         ▲                                 │ hibernate
//!                                         │ woken                           ▼
//!                                       Waking ◀──────── Hibernated ◀── Hibernating
//!                                                  wake           committed
//!
//! thaw          Freezing, Frozen, Hibernating → Running: nothing happened, the generation stays
//! stop          Running, Frozen, Hibernated → Stopped: only the volume stays
//! died          Running, Freezing, Frozen, Hibernating → Stopped
//! start failed  Starting → Stopped
//! wake failed   Waking → Hibernated: the snapshot is kept
//! start         Hibernated, Failed → Starting: a snapshot is given up
//! give up       Stopped, Starting, Hibernated, Waking → Failed: it failed too often
//! delete        any → Deleted, which is final
//! ```
//! Every start and wake raises the generation; nothing else does.
//!
//! Must never happen here: I/O, locks, time.

use serde::{Deserialize, Serialize};

/// Where a workspace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No container; the volume is there. Left by `Start`, `GiveUp`.
    Stopped,
    /// A container is being made around the volume. Left by `Started`,
    /// `StartFailed`, `GiveUp`.
    Starting,
    /// Serving. Left by `Freeze`, `Stop`, `Died`.
    Running,
    /// The gate is closed, the cgroup is being frozen. Left by `FrozenNow`, `Thaw`,
    /// `Died`.
    Freezing,
    /// Paused in memory. Left by `Thaw`, `Hibernate`, `Stop`, `Died`.
    Frozen,
    /// A checkpoint is being written; still revocable. Left by `Committed`, `Thaw`,
    /// `Died`.
    Hibernating,
    /// Only volume and snapshot. Left by `Wake`, `GiveUp`, or by `Start` and `Stop`, which give up
    /// the snapshot.
    Hibernated,
    /// A snapshot is being restored. Left by `Woken`, `WakeFailed`, `GiveUp`.
    Waking,
    /// Could not be started. Left by `Start`.
    Failed,
    /// Final. Every other state is left for it by `Delete`.
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
    /// Whether its processes are in memory and stand still: a thaw brings them back, with the same
    /// generation.
    pub fn is_still(self) -> bool {
        matches!(self, Self::Freezing | Self::Frozen | Self::Hibernating)
    }

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
        (S::Running | S::Frozen | S::Hibernated, E::Stop) => S::Stopped,
        (S::Running | S::Freezing | S::Frozen | S::Hibernating, E::Died) => S::Stopped,
        (S::Stopped | S::Starting | S::Hibernated | S::Waking, E::GiveUp) => S::Failed,
        _ => return Err(Denied { state, event }),
    })
}

/// Whether the event begins a new generation.
pub fn raises_generation(event: Event) -> bool {
    matches!(event, Event::Start | Event::Wake)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Event as E;
    use super::State as S;
    use super::*;
    use crate::id::Generation;

    const STATES: [S; 10] = [
        S::Stopped,
        S::Starting,
        S::Running,
        S::Freezing,
        S::Frozen,
        S::Hibernating,
        S::Hibernated,
        S::Waking,
        S::Failed,
        S::Deleted,
    ];
    const EVENTS: [E; 15] = [
        E::Start,
        E::Started,
        E::StartFailed,
        E::Freeze,
        E::FrozenNow,
        E::Thaw,
        E::Hibernate,
        E::Committed,
        E::Wake,
        E::Woken,
        E::WakeFailed,
        E::Stop,
        E::Died,
        E::GiveUp,
        E::Delete,
    ];

    /// The chart of the module, edge by edge; `Delete` leads from everywhere.
    const CHART: &[(E, &[S], S)] = &[
        (
            E::Start,
            &[S::Stopped, S::Hibernated, S::Failed],
            S::Starting,
        ),
        (E::Started, &[S::Starting], S::Running),
        (E::StartFailed, &[S::Starting], S::Stopped),
        (E::Freeze, &[S::Running], S::Freezing),
        (E::FrozenNow, &[S::Freezing], S::Frozen),
        (
            E::Thaw,
            &[S::Freezing, S::Frozen, S::Hibernating],
            S::Running,
        ),
        (E::Hibernate, &[S::Frozen], S::Hibernating),
        (E::Committed, &[S::Hibernating], S::Hibernated),
        (E::Wake, &[S::Hibernated], S::Waking),
        (E::Woken, &[S::Waking], S::Running),
        (E::WakeFailed, &[S::Waking], S::Hibernated),
        (E::Stop, &[S::Running, S::Frozen, S::Hibernated], S::Stopped),
        (
            E::Died,
            &[S::Running, S::Freezing, S::Frozen, S::Hibernating],
            S::Stopped,
        ),
        (
            E::GiveUp,
            &[S::Stopped, S::Starting, S::Hibernated, S::Waking],
            S::Failed,
        ),
    ];

    #[test]
    fn the_machine_is_the_chart_and_nothing_else() {
        for state in STATES {
            for event in EVENTS {
                let edge = CHART
                    .iter()
                    .find(|(on, from, _)| *on == event && from.contains(&state));
                let expected = match edge {
                    Some((_, _, to)) => Ok(*to),
                    None if event == E::Delete && state != S::Deleted => Ok(S::Deleted),
                    None => Err(Denied { state, event }),
                };
                assert_eq!(step(state, event), expected, "{event:?} while {state:?}");
            }
        }
    }

    #[test]
    fn every_state_can_come_to_run_and_to_an_end() {
        for from in STATES {
            let mut reached = vec![from];
            let mut next = 0;
            while let Some(&state) = reached.get(next) {
                for event in EVENTS {
                    match step(state, event) {
                        Ok(to) if !reached.contains(&to) => reached.push(to),
                        _ => {}
                    }
                }
                next += 1;
            }
            assert!(reached.contains(&S::Deleted), "no end from {from:?}");
            assert_eq!(
                reached.contains(&S::Running),
                from != S::Deleted,
                "{from:?}"
            );
        }
    }

    #[test]
    fn memory_is_served_again_only_through_a_wake_or_a_thaw() {
        let into_running: Vec<_> = CHART.iter().filter(|edge| edge.2 == S::Running).collect();
        let events: Vec<_> = into_running.iter().map(|edge| edge.0).collect();
        assert_eq!(events, [E::Started, E::Thaw, E::Woken]);
    }

    #[test]
    fn exactly_the_states_of_a_start_are_entered_with_a_new_generation() {
        for state in STATES {
            for event in EVENTS {
                if let Ok(to) = step(state, event) {
                    let starts = matches!(to, S::Starting | S::Waking);
                    assert_eq!(starts, raises_generation(event), "{event:?} to {to:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn along_any_life_generations_never_fall_and_deletion_is_final(
            events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..200)
        ) {
            let (mut state, mut generation) = (S::Stopped, Generation::default());
            for event in events {
                let (was, before) = (state, generation);
                match step(state, event) {
                    Ok(to) => {
                        state = to;
                        if raises_generation(event) {
                            generation = generation.next();
                        }
                        prop_assert_ne!(was, S::Deleted);
                        prop_assert_ne!(was, state, "an edge leads elsewhere");
                    }
                    Err(denied) => prop_assert_eq!(denied, Denied { state: was, event }),
                }
                prop_assert!(generation >= before);
                if state == S::Running {
                    prop_assert!(generation > Generation::default());
                }
            }
        }

        #[test]
        fn states_are_stored_under_one_name(state in prop::sample::select(&STATES[..])) {
            let text = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        }
    }
}
