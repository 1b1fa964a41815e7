//! The scenarios: each story is a readable function, told on every runtime.
//!
//! Stories share one running platform per runtime unless they break or measure it. The long ones
//! are ignored tests (`make soak`); `FLEEKS_RUNTIMES=runc` leaves the other runtime out. A story's
//! name filters as with any test binary.

mod apps;
mod article;
mod bad_input;
mod cli;
mod console;
mod contained;
mod described;
mod durable;
mod faults;
mod files;
mod held;
mod hosts;
mod images;
mod isolation;
mod operators;
mod owners;
mod pools;
mod previews;
mod roots;
mod sharing;
mod sleep;
mod sockets;
mod stage;
mod streams;
mod templates;
mod terminals;
mod terms;
mod trouble;
mod volume;
mod waiting;
mod watch;
mod watching;

use std::process::ExitCode;

use fleeks_tests::world::Runtime;
use libtest_mimic::Arguments;

use crate::stage::{Story, tell};

/// A story on the platform that a runtime's stories share, named by its path.
macro_rules! calm {
    ($story:path) => {
        stage::calm(stringify!($story), $story)
    };
}

/// A story on platforms of its own.
macro_rules! own {
    ($story:path) => {
        stage::own(stringify!($story), $story)
    };
}

fn stories() -> Vec<Story> {
    vec![
        calm!(article::fifty_iterations),
        calm!(article::quick_example),
        calm!(article::a_polyglot_workspace),
        calm!(article::it_can_be_benchmarked).everyday(&[Runtime::Runc]),
        calm!(article::an_agent_remembers),
        calm!(article::the_sdk_gets_what_it_expects),
        calm!(article::the_whole_sdk_is_walked),
        calm!(article::an_agent_improves),
        calm!(article::an_agent_improves_fifty_times).soak(),
        calm!(article::a_monitor_heals),
        calm!(article::a_crowd_is_served).everyday(&[Runtime::Runsc]),
        calm!(article::posts_may_come_twice),
        calm!(article::the_documentation_runs).everyday(&[Runtime::Runc]),
        calm!(apps::python_on_all_addresses),
        calm!(apps::python_on_localhost),
        calm!(apps::node_on_all_addresses),
        calm!(apps::node_on_localhost),
        calm!(apps::one_url_many_services),
        calm!(apps::same_port_apart),
        calm!(apps::headers_are_true),
        calm!(apps::nothing_listens),
        calm!(streams::websocket_echoes),
        calm!(streams::events_arrive_one_by_one),
        calm!(watching::changes_are_told_and_gone_on_with),
        calm!(watching::a_watch_sleeps_and_wakes),
        calm!(watching::who_reads_slowly_hears_of_it).everyday(&[Runtime::Runc]),
        calm!(watching::a_job_is_followed),
        calm!(sockets::the_sdk_streams),
        calm!(sockets::strangers_and_junk).everyday(&[Runtime::Runc]),
        own!(sockets::the_end_is_told).everyday(&[Runtime::Runc]),
        own!(streams::bodies_pass_through).everyday(&[Runtime::Runc]),
        own!(streams::a_gib_passes_through).soak(),
        own!(durable::files_outlive_everything),
        own!(durable::a_job_outlives_a_kill),
        own!(durable::a_kill_in_a_burst_leaves_nothing).everyday(&[Runtime::Runc]),
        own!(durable::many_kills).soak(),
        own!(durable::down_takes_everything_away),
        calm!(durable::one_platform_per_data_dir),
        calm!(sleep::the_sdk_steers_a_life),
        calm!(sleep::a_background_job_survives),
        own!(sleep::a_learning_agent_forgets_nothing),
        calm!(sleep::a_visit_wakes_what_sleeps).everyday(&[Runtime::Runc]),
        calm!(sleep::what_may_not_be_woken_says_so),
        calm!(sleep::what_counts_as_use),
        own!(sleep::a_crash_forgets_no_settings).everyday(&[Runtime::Runc]),
        own!(sleep::a_dozen_wake_at_once),
        own!(sleep::a_hundred_wake_at_once).soak(),
        calm!(cli::a_workspace_lives_and_dies),
        calm!(cli::exec_is_like_being_there),
        calm!(cli::exec_keeps_awake).soak(),
        calm!(cli::logs_follow),
        calm!(cli::files_go_in_and_out),
        calm!(cli::sync_is_careful),
        calm!(cli::a_platform_elsewhere).everyday(&[Runtime::Runc]),
        calm!(cli::help_helps).everyday(&[Runtime::Runc]),
        own!(console::an_owner_walks_through_it).everyday(&[Runtime::Runc]),
        own!(operators::metrics_tell_what_happened),
        own!(faults::the_worst_moments),
        own!(faults::killed_at_every_step).soak(),
        own!(faults::killed_at_any_moment).soak(),
        own!(faults::stopped_at_every_step).soak(),
        own!(faults::failing_at_every_step).soak(),
        own!(trouble::a_full_disk).everyday(&[Runtime::Runc]),
        own!(trouble::snapshots_are_bounded).everyday(&[Runtime::Runc]),
        own!(trouble::the_clock_is_set).everyday(&[Runtime::Runc]),
        own!(trouble::visitors_at_any_moment).everyday(&[Runtime::Runc]),
        own!(trouble::visitors_for_long).soak(),
        own!(waiting::a_person_sees_a_page_and_all_are_served).everyday(&[Runtime::Runc]),
        own!(waiting::nobody_waits_for_ever).soak(),
        own!(pools::a_few),
        own!(pools::hundreds).soak(),
        calm!(isolation::no_way_to_neighbours_host_or_metadata),
        calm!(isolation::nothing_of_the_host_is_seen),
        calm!(isolation::pip_install_flask).everyday(&[Runtime::Runsc]),
        calm!(isolation::npm_install_express).everyday(&[Runtime::Runc]),
        calm!(held::websockets_outlive_hibernation).only(&[Runtime::Runc]),
        calm!(held::lost_connections_are_said).only(&[Runtime::Runsc]),
        calm!(held::a_restart_is_said),
        own!(held::an_idle_one_freezes_and_thaws_at_a_word).only(&[Runtime::Runc]),
        calm!(held::events_outlive_hibernation).only(&[Runtime::Runc]),
        calm!(held::who_leaves_a_sleeper_is_announced).only(&[Runtime::Runc]),
        calm!(held::plain_upgrades_are_held).only(&[Runtime::Runc]),
        calm!(held::what_may_not_be_woken_sleeps_on).only(&[Runtime::Runc]),
        own!(held::five_hundred_wake_one_sleeper_once),
        own!(held::held_websockets_are_small).only(&[Runtime::Runc]),
        calm!(hosts::strange_hosts_are_refused),
        calm!(hosts::broken_requests_are_refused),
        calm!(hosts::sni_and_host_must_agree),
        calm!(owners::keys_are_checked),
        calm!(owners::others_see_nothing),
        calm!(bad_input::project_ids),
        calm!(bad_input::page_numbers),
        calm!(bad_input::bodies),
        calm!(bad_input::unknown_paths),
        calm!(files::nothing_escapes),
        calm!(files::strange_files_do_not_hang),
        calm!(files::bytes_are_exact),
        calm!(volume::archives_pages_ranges_and_parts),
        calm!(volume::ten_thousand_files_and_more_races).soak(),
        own!(volume::an_upload_outlives_a_kill).everyday(&[Runtime::Runc]),
        calm!(volume::quotas_end_uploads),
        calm!(templates::python),
        calm!(templates::node),
        calm!(templates::static_files),
        calm!(templates::flask).everyday(&[Runtime::Runsc]),
        calm!(templates::react).everyday(&[Runtime::Runc]),
        calm!(templates::every_one).soak(),
        calm!(templates::versions_are_true),
        own!(templates::an_operators_own).everyday(&[Runtime::Runc]),
        calm!(templates::several_languages),
        own!(roots::a_small_debian_root).everyday(&[Runtime::Runc]),
        own!(roots::a_whole_debian_root).soak(),
        own!(images::a_workspace_on_an_image),
        own!(images::what_a_registry_may_not_do).everyday(&[Runtime::Runc]),
        calm!(contained::background_returns_at_once),
        calm!(contained::a_deaf_command_times_out),
        own!(contained::a_gib_of_output).everyday(&[Runtime::Runc]),
        calm!(contained::a_fork_bomb),
        calm!(contained::a_memory_hog),
        calm!(previews::the_sdk_shows_an_app),
        own!(previews::an_app_is_there_again),
        calm!(previews::usage_is_measured),
        own!(sharing::a_link_outlives_sleep_and_restarts),
        calm!(sharing::a_link_expires),
        calm!(terminals::several_sit_at_one),
        calm!(terminals::a_shell_outlives_hibernation),
        calm!(terminals::reconnecting_goes_on),
        calm!(terminals::a_slow_reader_holds_nobody_up),
        calm!(terminals::strangers_get_nothing),
        calm!(terminals::a_person_sits_at_one),
        calm!(terms::scopes_hold),
        calm!(terms::limits_hold),
        calm!(terms::quotas_hold),
        own!(terms::usage_is_counted),
        calm!(terms::the_sdk_looks_around),
        own!(described::calls_and_answers_agree).everyday(&[Runtime::Runc]),
        own!(described::calls_and_answers_agree_for_long).soak(),
    ]
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Stories wait as much as they work.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(processors + 1);
    tell(&arguments, stories())
}
