//! What every [`Directory`] must do, as tests that each implementation runs on itself:
//! `directory_conformance!(expression that makes an empty directory in an Arc)`.
//!
//! Must never happen here: a test that knows which implementation it runs on.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: each function is one test, named by what must hold"
)]

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::{Change, Directory, DirectoryError, Route, Row, WakeBegun, WakeCause};
use crate::id::{ContainerId, Generation, NodeId, OwnerId, Slug, WorkspaceId};
use crate::lifecycle::State;
use crate::timing;

/// Makes one `#[tokio::test]` of each check below.
#[macro_export]
macro_rules! directory_conformance {
    ($fresh:expr) => {
        $crate::directory_conformance!(@each $fresh,
            a_row_is_found_by_each_of_its_names,
            what_is_not_there_is_absent_and_not_an_error,
            names_ids_and_slugs_are_unique,
            a_name_is_taken_once_under_concurrency,
            an_owner_sees_only_its_own,
            a_list_is_oldest_first,
            five_hundred_callers_begin_one_wake,
            a_wake_keeps_or_gives_up_memory_by_state,
            a_running_one_is_ready_at_once,
            a_sleeping_one_in_memory_keeps_its_generation,
            a_wake_ends_with_a_report,
            a_failed_start_backs_off_and_then_may_try_again,
            success_ends_the_back_off,
            an_older_generation_is_refused,
            a_newer_generation_is_taken_over,
            a_start_cannot_be_reported_without_a_new_generation,
            a_generation_never_falls_under_concurrency,
            the_deleted_stay_deleted_and_free_their_name,
            removing_is_final_and_repeatable,
            work_is_what_its_node_must_start,
            every_change_is_announced_in_order,
            auto_wake_is_kept,
            who_may_see_it_is_kept_and_announced,
        );
    };
    (@each $fresh:expr, $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let directory: std::sync::Arc<dyn $crate::directory::Directory> = $fresh;
                $crate::directory::conformance::$name(directory).await;
            }
        )*
    };
}

type Any = Arc<dyn Directory>;

/// A row of a new workspace of a new owner.
pub fn row(node: &NodeId, state: State) -> Row {
    Row {
        workspace: WorkspaceId::mint(),
        owner: OwnerId::mint(),
        project: "demo".parse().unwrap(),
        slug: Slug::mint(),
        container: ContainerId::mint(),
        template: "python".parse().unwrap(),
        node: node.clone(),
        state,
        generation: Generation(7),
        auto_wake: true,
        private: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

async fn inserted(directory: &Any, state: State) -> Row {
    let row = row(&NodeId::mint(), state);
    directory.insert(row.clone()).await.unwrap();
    row
}

async fn wake(directory: &Any, row: &Row) -> WakeBegun {
    let begun = directory.begin_wake(&row.workspace, WakeCause::Preview);
    begun.await.unwrap()
}

async fn now(directory: &Any, row: &Row) -> Row {
    directory.row(&row.workspace).await.unwrap().unwrap()
}

async fn next_change(changes: &mut tokio::sync::broadcast::Receiver<Change>) -> Change {
    let change = timeout(timing::ROUTE_POLL * 10, changes.recv());
    change.await.unwrap().unwrap()
}

pub async fn a_row_is_found_by_each_of_its_names(directory: Any) {
    let row = inserted(&directory, State::Running).await;
    assert_eq!(now(&directory, &row).await, row);
    let found = directory.find(&row.owner, &row.project).await.unwrap();
    assert_eq!(found.as_ref(), Some(&row));
    let route = directory.route(&row.slug).await.unwrap();
    assert_eq!(route, Some(Route::from(&row)));
    assert_eq!(directory.list(&row.owner).await.unwrap(), [row]);
}

pub async fn what_is_not_there_is_absent_and_not_an_error(directory: Any) {
    let (id, owner) = (WorkspaceId::mint(), OwnerId::mint());
    assert_eq!(directory.row(&id).await, Ok(None));
    assert_eq!(directory.route(&Slug::mint()).await, Ok(None));
    let project = "demo".parse().unwrap();
    assert_eq!(directory.find(&owner, &project).await, Ok(None));
    assert_eq!(directory.list(&owner).await, Ok(vec![]));
    assert_eq!(directory.work(&NodeId::mint()).await, Ok(vec![]));
    // Acting on what is not there is an error, and one that says so.
    let absent = Some(DirectoryError::Absent);
    let begun = directory.begin_wake(&id, WakeCause::Api).await;
    assert_eq!(begun.err(), absent);
    let reported = directory.report(&id, Generation(1), State::Running).await;
    assert_eq!(reported.err(), absent);
    assert_eq!(directory.set_auto_wake(&id, true).await.err(), absent);
    assert_eq!(directory.remove(&id).await, Ok(()));
}

pub async fn names_ids_and_slugs_are_unique(directory: Any) {
    let first = inserted(&directory, State::Running).await;
    let taken = Err(DirectoryError::Taken(first.workspace.clone()));
    let same = |change: fn(&mut Row, &Row)| {
        let mut other = row(&NodeId::mint(), State::Running);
        change(&mut other, &first);
        other
    };
    let same_id = same(|row, first| row.workspace = first.workspace.clone());
    let same_slug = same(|row, first| row.slug = first.slug.clone());
    let same_name = same(|row, first| row.owner = first.owner.clone());
    for clash in [same_id, same_slug, same_name] {
        assert_eq!(directory.insert(clash).await, taken);
    }
    // Two owners may use one name; a refused row left nothing behind.
    directory
        .insert(row(&NodeId::mint(), State::Running))
        .await
        .unwrap();
    assert_eq!(directory.list(&first.owner).await.unwrap(), [first]);
}

pub async fn a_name_is_taken_once_under_concurrency(directory: Any) {
    let owner = OwnerId::mint();
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (directory, mut row) = (directory.clone(), row(&NodeId::mint(), State::Running));
        row.owner = owner.clone();
        tries.spawn(async move { (row.workspace.clone(), directory.insert(row).await) });
    }
    let outcomes = tries.join_all().await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, got)| got.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let winner = &winners[0].0;
    for (id, outcome) in &outcomes {
        if id != winner {
            assert_eq!(*outcome, Err(DirectoryError::Taken(winner.clone())));
            assert_eq!(directory.row(id).await, Ok(None));
        }
    }
}

pub async fn an_owner_sees_only_its_own(directory: Any) {
    let one = inserted(&directory, State::Running).await;
    let other = inserted(&directory, State::Running).await;
    assert_eq!(
        directory.list(&one.owner).await.unwrap(),
        std::slice::from_ref(&one)
    );
    let found = directory.find(&other.owner, &one.project).await.unwrap();
    assert_eq!(found.map(|row| row.workspace), Some(other.workspace));
}

pub async fn a_list_is_oldest_first(directory: Any) {
    let owner = OwnerId::mint();
    let mut all = Vec::new();
    for number in [3_i64, 1, 2, 2] {
        let mut row = row(&NodeId::mint(), State::Stopped);
        row.owner = owner.clone();
        row.project = format!("p{}", all.len()).parse().unwrap();
        row.created_at += time::Duration::seconds(number);
        directory.insert(row.clone()).await.unwrap();
        all.push(row);
    }
    all.sort_by_key(|row| (row.created_at, row.workspace.clone()));
    assert_eq!(directory.list(&owner).await.unwrap(), all);
}

pub async fn five_hundred_callers_begin_one_wake(directory: Any) {
    for (from, to) in [
        (State::Stopped, State::Starting),
        (State::Hibernated, State::Waking),
    ] {
        let row = inserted(&directory, from).await;
        let mut changes = directory.changes();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..500 {
            let (directory, row) = (directory.clone(), row.clone());
            callers.spawn(async move { wake(&directory, &row).await });
        }
        for begun in callers.join_all().await {
            let WakeBegun::Underway(route) = begun else {
                panic!("{begun:?}")
            };
            assert_eq!((route.state, route.generation), (to, row.generation.next()));
        }
        let change = next_change(&mut changes).await;
        assert_eq!(change.route.unwrap().generation, row.generation.next());
        assert!(changes.try_recv().is_err(), "one wake is announced once");
        assert_eq!(
            now(&directory, &row).await.generation,
            row.generation.next()
        );
    }
}

pub async fn a_wake_keeps_or_gives_up_memory_by_state(directory: Any) {
    for (from, to) in [
        (State::Stopped, State::Starting),
        (State::Failed, State::Starting),
        (State::Hibernated, State::Waking),
    ] {
        let row = inserted(&directory, from).await;
        let WakeBegun::Underway(route) = wake(&directory, &row).await else {
            panic!("not underway from {from:?}")
        };
        assert_eq!(route.state, to);
    }
}

pub async fn a_running_one_is_ready_at_once(directory: Any) {
    let row = inserted(&directory, State::Running).await;
    let begun = wake(&directory, &row).await;
    assert_eq!(begun, WakeBegun::Ready(Route::from(&row)));
    assert_eq!(now(&directory, &row).await, row);
}

pub async fn a_sleeping_one_in_memory_keeps_its_generation(directory: Any) {
    for state in [State::Freezing, State::Frozen, State::Hibernating] {
        let row = inserted(&directory, state).await;
        let mut changes = directory.changes();
        let begun = wake(&directory, &row).await;
        assert_eq!(begun, WakeBegun::Underway(Route::from(&row)));
        let nudge = next_change(&mut changes).await;
        assert_eq!(nudge.route, Some(Route::from(&row)));
        assert_eq!(now(&directory, &row).await, row);
    }
}

pub async fn a_wake_ends_with_a_report(directory: Any) {
    let row = inserted(&directory, State::Hibernated).await;
    let mut changes = directory.changes();
    wake(&directory, &row).await;
    next_change(&mut changes).await;
    let begun = row.generation.next();
    let reported = directory.report(&row.workspace, begun, State::Running);
    reported.await.unwrap();
    let route = next_change(&mut changes).await.route.unwrap();
    assert_eq!((route.state, route.generation), (State::Running, begun));
    assert_eq!(wake(&directory, &row).await, WakeBegun::Ready(route));
}

/// Begins a start and lets it fail, `times` times; waits out the pauses between.
async fn fail(directory: &Any, row: &Row, state: State, times: u32) {
    for _ in 0..times {
        let generation = begin(directory, row).await;
        let reported = directory.report(&row.workspace, generation, state);
        reported.await.unwrap();
    }
}

/// Asks until a wake begins.
async fn begin(directory: &Any, row: &Row) -> Generation {
    let deadline = Instant::now() + timing::START_BACKOFF_MAX;
    loop {
        match wake(directory, row).await {
            WakeBegun::Underway(route) => return route.generation,
            WakeBegun::Failed(_) if Instant::now() < deadline => {
                tokio::time::sleep(timing::START_BACKOFF / 10).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub async fn a_failed_start_backs_off_and_then_may_try_again(directory: Any) {
    for (from, failed) in [
        (State::Stopped, State::Stopped),
        (State::Stopped, State::Failed),
        (State::Hibernated, State::Hibernated),
    ] {
        let row = inserted(&directory, from).await;
        let mut pauses = Vec::new();
        for _ in 0..2 {
            fail(&directory, &row, failed, 1).await;
            let since = Instant::now();
            let WakeBegun::Failed(text) = wake(&directory, &row).await else {
                panic!("no back-off after a failure")
            };
            assert!(text.contains("could not be started"), "{text}");
            let at_rest = now(&directory, &row).await;
            assert_eq!(at_rest.state, failed, "a refused wake changes nothing");
            let generation = begin(&directory, &row).await;
            assert_eq!(generation, at_rest.generation.next());
            pauses.push(since.elapsed());
            let reported = directory.report(&row.workspace, generation, failed);
            reported.await.unwrap();
        }
        // Two failures lie between the two pauses, so the second is four times the first; only
        // lower bounds, because the machine may be slow.
        assert!(pauses[0] >= timing::START_BACKOFF / 2, "{pauses:?}");
        assert!(pauses[1] >= timing::START_BACKOFF * 2, "{pauses:?}");
    }
}

pub async fn success_ends_the_back_off(directory: Any) {
    let row = inserted(&directory, State::Stopped).await;
    fail(&directory, &row, State::Stopped, 1).await;
    let generation = begin(&directory, &row).await;
    for state in [State::Running, State::Stopped] {
        let reported = directory.report(&row.workspace, generation, state);
        reported.await.unwrap();
    }
    assert!(matches!(
        wake(&directory, &row).await,
        WakeBegun::Underway(_)
    ));
}

pub async fn an_older_generation_is_refused(directory: Any) {
    let row = inserted(&directory, State::Stopped).await;
    wake(&directory, &row).await;
    let before = now(&directory, &row).await;
    for state in [State::Running, State::Stopped, State::Deleted] {
        let late = directory.report(&row.workspace, row.generation, state);
        let refused = DirectoryError::Superseded {
            current: before.generation,
            state: before.state,
        };
        assert_eq!(late.await, Err(refused));
    }
    assert_eq!(now(&directory, &row).await, before);
}

pub async fn a_newer_generation_is_taken_over(directory: Any) {
    let row = inserted(&directory, State::Stopped).await;
    let newer = Generation(row.generation.0 + 5);
    let reported = directory.report(&row.workspace, newer, State::Running);
    reported.await.unwrap();
    let after = now(&directory, &row).await;
    assert_eq!((after.generation, after.state), (newer, State::Running));
}

pub async fn a_start_cannot_be_reported_without_a_new_generation(directory: Any) {
    let row = inserted(&directory, State::Running).await;
    for state in [State::Starting, State::Waking] {
        let again = directory.report(&row.workspace, row.generation, state);
        assert!(matches!(
            again.await,
            Err(DirectoryError::Superseded { .. })
        ));
        let next = now(&directory, &row).await.generation.next();
        let raised = directory.report(&row.workspace, next, state).await;
        raised.unwrap();
        let running = directory.report(&row.workspace, next, State::Running);
        running.await.unwrap();
    }
}

pub async fn a_generation_never_falls_under_concurrency(directory: Any) {
    let row = inserted(&directory, State::Stopped).await;
    let mut reports = tokio::task::JoinSet::new();
    for generation in 1..=60 {
        let (directory, id) = (directory.clone(), row.workspace.clone());
        reports.spawn(async move {
            let generation = Generation(generation);
            let seen = directory.row(&id).await.unwrap().unwrap().generation;
            let _ = directory.report(&id, generation, State::Running).await;
            let _ = directory.report(&id, generation, State::Hibernated).await;
            let _ = directory.begin_wake(&id, WakeCause::Preview).await;
            let after = directory.row(&id).await.unwrap().unwrap().generation;
            assert!(after >= seen, "{after} after {seen}");
        });
    }
    reports.join_all().await;
    assert!(now(&directory, &row).await.generation >= Generation(60));
}

pub async fn the_deleted_stay_deleted_and_free_their_name(directory: Any) {
    let old = inserted(&directory, State::Running).await;
    let deleted = directory.report(&old.workspace, old.generation, State::Deleted);
    deleted.await.unwrap();
    assert_eq!(directory.route(&old.slug).await, Ok(None));
    assert_eq!(directory.find(&old.owner, &old.project).await, Ok(None));
    assert_eq!(directory.list(&old.owner).await, Ok(vec![]));
    let begun = directory.begin_wake(&old.workspace, WakeCause::Api).await;
    assert_eq!(begun, Err(DirectoryError::Absent));
    for generation in [old.generation, old.generation.next()] {
        let late = directory.report(&old.workspace, generation, State::Running);
        assert!(matches!(late.await, Err(DirectoryError::Superseded { .. })));
    }
    // A new workspace takes the name while the old volume is still being removed.
    let mut new = row(&NodeId::mint(), State::Running);
    new.owner = old.owner.clone();
    directory.insert(new.clone()).await.unwrap();
    directory.remove(&old.workspace).await.unwrap();
    let found = directory.find(&new.owner, &new.project).await.unwrap();
    assert_eq!(found, Some(new));
}

pub async fn removing_is_final_and_repeatable(directory: Any) {
    let row = inserted(&directory, State::Running).await;
    let mut changes = directory.changes();
    directory.remove(&row.workspace).await.unwrap();
    directory.remove(&row.workspace).await.unwrap();
    let change = next_change(&mut changes).await;
    assert_eq!((change.slug, change.route), (row.slug.clone(), None));
    assert!(changes.try_recv().is_err());
    assert_eq!(directory.row(&row.workspace).await, Ok(None));
    assert_eq!(directory.route(&row.slug).await, Ok(None));
    assert_eq!(directory.find(&row.owner, &row.project).await, Ok(None));
    directory.insert(row).await.unwrap();
}

pub async fn work_is_what_its_node_must_start(directory: Any) {
    let asleep = inserted(&directory, State::Hibernated).await;
    let WakeBegun::Underway(route) = wake(&directory, &asleep).await else {
        panic!("not underway")
    };
    let work = directory.work(&route.node).await.unwrap();
    assert_eq!(work, [now(&directory, &asleep).await]);
    assert_eq!(directory.work(&NodeId::mint()).await, Ok(vec![]));
    let done = directory.report(&asleep.workspace, route.generation, State::Running);
    done.await.unwrap();
    assert_eq!(directory.work(&route.node).await, Ok(vec![]));
    // A row that was rebuilt in the middle of a start is work as well.
    let rebuilt = inserted(&directory, State::Starting).await;
    let work = directory.work(&rebuilt.node).await.unwrap();
    assert_eq!(work, std::slice::from_ref(&rebuilt));
    directory.remove(&rebuilt.workspace).await.unwrap();
    assert_eq!(directory.work(&rebuilt.node).await, Ok(vec![]));
    // And so is one to be thawed, until it runs, however deep it sleeps meanwhile.
    let still = inserted(&directory, State::Freezing).await;
    assert_eq!(directory.work(&still.node).await, Ok(vec![]));
    wake(&directory, &still).await;
    let report = |state| directory.report(&still.workspace, still.generation, state);
    report(State::Frozen).await.unwrap();
    let work = directory.work(&still.node).await.unwrap();
    assert_eq!(work, [now(&directory, &still).await]);
    report(State::Running).await.unwrap();
    assert_eq!(directory.work(&still.node).await, Ok(vec![]));
}

pub async fn every_change_is_announced_in_order(directory: Any) {
    let mut changes = directory.changes();
    let row = inserted(&directory, State::Running).await;
    let states = [
        State::Freezing,
        State::Frozen,
        State::Hibernating,
        State::Hibernated,
    ];
    for state in states {
        let reported = directory.report(&row.workspace, row.generation, state);
        reported.await.unwrap();
        // Saying it again changes nothing and is not announced.
        let again = directory.report(&row.workspace, row.generation, state);
        again.await.unwrap();
    }
    for state in [State::Running].into_iter().chain(states) {
        let change = next_change(&mut changes).await;
        assert_eq!(change.slug, row.slug);
        assert_eq!(change.route.unwrap().state, state);
    }
    assert!(changes.try_recv().is_err());
}

pub async fn auto_wake_is_kept(directory: Any) {
    let row = inserted(&directory, State::Hibernated).await;
    let mut changes = directory.changes();
    directory
        .set_auto_wake(&row.workspace, false)
        .await
        .unwrap();
    let route = next_change(&mut changes).await.route.unwrap();
    assert!(!route.auto_wake);
    assert_eq!(directory.route(&row.slug).await, Ok(Some(route)));
}

pub async fn who_may_see_it_is_kept_and_announced(directory: Any) {
    let row = row(&NodeId::mint(), State::Running);
    directory.insert(row.clone()).await.unwrap();
    let mut changes = directory.changes();
    let link = crate::id::LinkId::mint();
    let private = Some(Arc::new(crate::record::Private { links: vec![link] }));
    directory
        .set_private(&row.workspace, private.clone())
        .await
        .unwrap();
    assert_eq!(
        directory
            .row(&row.workspace)
            .await
            .unwrap()
            .unwrap()
            .private,
        private
    );
    let told = timeout(timing::ROUTE_POLL, changes.recv()).await.unwrap();
    assert_eq!(told.unwrap().route.unwrap().private, private);
    directory.set_private(&row.workspace, None).await.unwrap();
    let route = directory.route(&row.slug).await.unwrap().unwrap();
    assert_eq!(route.private, None);
    let nobody = directory.set_private(&WorkspaceId::mint(), None).await;
    assert_eq!(nobody.err(), Some(DirectoryError::Absent));
}
