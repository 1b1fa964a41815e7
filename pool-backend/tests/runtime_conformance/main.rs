//! One suite over both runtimes: real containers, real networks, real limits. Needs root.
//!
//! Each case has an instance of its own, so cases run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

mod cycles;
mod egress;
mod inner;
mod inside;
mod life;
mod limits;
mod measure;
mod rig;
mod sleep;
mod sleeper;
mod workloads;
mod world;

/// Each case runs once per runtime.
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod runc {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let choice = pool_backend::config::RuntimeChoice::Runc;
                crate::$module::$name(crate::rig::Rig::new(choice).await).await;
            })*
        }
        mod runsc {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let choice = pool_backend::config::RuntimeChoice::Runsc;
                crate::$module::$name(crate::rig::Rig::new(choice).await).await;
            })*
        }
    };
}

cases!(
    life::a_container_comes_and_goes,
    life::others_are_not_seen,
    life::a_directory_is_a_root,
    life::another_user_can_be_configured,
    life::a_failed_start_leaves_nothing,
    life::what_a_killed_node_left_is_found,
    inside::only_the_volume_can_be_written,
    inside::nothing_else_of_the_host_is_seen,
    inside::there_is_no_privilege,
    inside::low_ports_and_names_work,
    inside::packages_install,
    limits::memory_is_bounded,
    limits::temporary_files_are_memory,
    limits::a_fork_bomb_stays_inside,
    limits::cpu_is_bounded,
    egress::only_the_world_is_reachable,
    egress::only_the_host_gets_in,
    sleep::a_paused_one_goes_on,
    sleep::state_is_as_it_was,
    sleep::much_memory_is_as_it_was,
    sleep::connections_do_what_is_said_of_them,
    sleep::a_failed_checkpoint_harms_nobody,
    sleep::a_failed_restore_leaves_nothing,
    workloads::jobs_go_on,
    cycles::init_answers_after_each_sleep,
    cycles::servers_answer_after_each_sleep,
    cycles::connections_to_the_outside_are_counted,
);
