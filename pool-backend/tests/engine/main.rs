//! Scenarios of the engine over real containers. They need root, runc, and the static PID 1
//! (`make init`). Those of sleep run on both runtimes; `FLEEKS_TEST_RUNTIME=runsc` runs the others
//! on gVisor.
//!
//! Each test has a data dir of its own, hence an instance of its own: they run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "all of it is test code"
)]

mod corruption;
mod counter;
mod door;
mod files;
mod life;
mod numbers;
mod pools;
mod races;
mod rig;
mod sleep;
mod trouble;

/// Each case runs once per runtime.
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod runc {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::$module::$name(pool_backend::config::RuntimeChoice::Runc).await;
            })*
        }
        mod runsc {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::$module::$name(pool_backend::config::RuntimeChoice::Runsc).await;
            })*
        }
    };
}

cases!(
    sleep::what_runs_goes_on_after_sleep,
    sleep::who_comes_to_a_frozen_one_notices_nothing,
    sleep::idle_ones_fall_asleep_by_themselves,
    sleep::a_sleeper_can_be_restarted_stopped_and_deleted,
    sleep::idle_connections_harm_nobody,
    races::any_number_of_callers_wake_it_once,
    races::callers_that_race_with_sleep_are_all_served,
    races::a_request_that_is_answered_is_not_put_to_sleep,
    corruption::a_failed_checkpoint_leaves_it_running,
    corruption::a_snapshot_of_no_use_is_not_the_end,
    corruption::sleep_outlives_the_node,
    corruption::a_frozen_one_outlives_a_killed_node,
);
