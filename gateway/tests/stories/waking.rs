//! Visits to workspaces that sleep, moved, or do not wake.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use fleet::directory::Directory as _;
use fleet::lifecycle::State;
use gateway::Limits;

use crate::app;
use crate::client::{Client, request};
use crate::house::House;

#[tokio::test]
async fn five_hundred_visitors_of_a_sleeper_cause_one_wake_and_are_all_served() {
    let house = House::new().await;
    let app = app::says("awake").await;
    let workspace = house
        .workspace_in(State::Hibernated, true, app.address)
        .await;
    // No wake may finish until all are waiting.
    house.node.wakes.forget_permits(1000);
    let mut visits = Vec::new();
    for _ in 0..5 {
        let client = Client::h2(&house).await;
        let Client::H2(sender) = client else {
            unreachable!()
        };
        for _ in 0..100 {
            let mut client = Client::H2(sender.clone());
            let host = workspace.host();
            visits.push(tokio::spawn(async move { client.get(&host, "/").await }));
        }
    }
    let all_waiting = async {
        while house.metrics.in_flight.get() < 500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::client::PATIENCE, all_waiting)
        .await
        .unwrap();
    house.node.wakes.add_permits(1);
    for visit in visits {
        let answer = visit.await.unwrap();
        assert_eq!(answer.text, "awake", "{}", answer.status);
    }
    assert_eq!(house.node.woken.load(SeqCst), 1);
    let row = house.directory.row(&workspace.id).await.unwrap().unwrap();
    assert_eq!((row.generation.0, row.state), (2, State::Running));
}

#[tokio::test]
async fn more_waiters_than_allowed_are_told_to_come_back() {
    let limits = Limits {
        waiters_per_workspace: 3,
        ..Limits::default()
    };
    let house = House::with_limits(limits).await;
    let app = app::says("awake").await;
    let workspace = house.workspace_in(State::Stopped, true, app.address).await;
    house.node.wakes.forget_permits(1000);
    let Client::H2(sender) = Client::h2(&house).await else {
        unreachable!()
    };
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let mut client = Client::H2(sender.clone());
        let host = workspace.host();
        visits.spawn(async move { client.get(&host, "/").await });
    }
    // Two are turned away at once; only then may the others' wake finish.
    for _ in 0..2 {
        let answer = visits.join_next().await.unwrap().unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "2");
        assert!(answer.text.contains("\"busy\""), "{}", answer.text);
    }
    house.node.wakes.add_permits(1);
    while let Some(answer) = visits.join_next().await {
        assert_eq!(answer.unwrap().text, "awake");
    }
}

#[tokio::test]
async fn a_person_gets_the_holding_page_and_a_machine_is_held() {
    let house = House::new().await;
    let app = app::says("awake").await;
    let workspace = house
        .workspace_in(State::Hibernated, true, app.address)
        .await;
    house.node.wakes.forget_permits(1000);
    let mut person = Client::h2(&house).await;
    let mut machine = Client::h1(&house).await;
    let host = workspace.host();
    let held = tokio::spawn(async move { machine.get(&host, "/").await });

    let navigation = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    let page = person
        .answer(request(&workspace.host(), "/", &navigation))
        .await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("retry-after"), "1");
    assert_eq!(page.header("x-fleeks-error"), "waking");
    assert!(page.text.contains("<!doctype html>") && page.text.contains("<script>"));
    assert!(!held.is_finished());

    house.node.wakes.add_permits(1);
    assert_eq!(held.await.unwrap().text, "awake");
    let page = person
        .answer(request(&workspace.host(), "/", &navigation))
        .await;
    assert_eq!(page.text, "awake");
    assert_eq!(house.node.woken.load(SeqCst), 1);
}

#[tokio::test]
async fn whoever_waits_is_told_at_the_deadline() {
    let limits = Limits {
        wake_wait: Duration::from_millis(1500),
        ..Limits::default()
    };
    let house = House::with_limits(limits).await;
    let app = app::says("awake").await;
    let workspace = house
        .workspace_in(State::Hibernated, true, app.address)
        .await;
    house.node.wakes.forget_permits(1000);
    let began = Instant::now();
    let Client::H2(sender) = Client::h2(&house).await else {
        unreachable!()
    };
    let shapes: [&[(&str, &str)]; 3] = [
        &[],
        &[("accept", "application/json")],
        // A script's fetch of HTML is no navigation: it is held, and told as a machine is.
        &[("accept", "text/html, */*"), ("sec-fetch-mode", "cors")],
    ];
    let mut visits = tokio::task::JoinSet::new();
    for (number, fields) in shapes.into_iter().cycle().take(30).enumerate() {
        let mut client = Client::H2(sender.clone());
        let asked = request(&workspace.host(), &format!("/{number}"), fields);
        visits.spawn(async move { client.answer(asked).await });
    }
    while let Some(answer) = visits.join_next().await {
        let answer = answer.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(1400));
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "2");
        assert_eq!(answer.header("x-fleeks-error"), "wake_timeout");
        assert!(answer.text.starts_with('{'), "{}", answer.text);
    }
    // The wake itself goes on, and who comes again is served.
    house.node.wakes.add_permits(1);
    let mut client = Client::h1(&house).await;
    assert_eq!(client.get(&workspace.host(), "/").await.text, "awake");
    assert_eq!(house.node.woken.load(SeqCst), 1);
}

#[tokio::test]
async fn a_wake_goes_on_without_the_visitor_who_caused_it() {
    let house = House::new().await;
    let app = app::says("awake").await;
    let workspace = house
        .workspace_in(State::Hibernated, true, app.address)
        .await;
    house.node.wakes.forget_permits(1000);
    let mut client = Client::h1(&house).await;
    let host = workspace.host();
    let visit = tokio::spawn(async move { client.get(&host, "/").await });
    let begun = async {
        loop {
            let row = house.directory.row(&workspace.id).await.unwrap().unwrap();
            if row.state == State::Waking {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::client::PATIENCE, begun)
        .await
        .unwrap();
    visit.abort();
    house.node.wakes.add_permits(1);
    let mut other = Client::h1(&house).await;
    assert_eq!(other.get(&workspace.host(), "/").await.text, "awake");
    assert_eq!(house.node.woken.load(SeqCst), 1);
}

#[tokio::test]
async fn what_may_not_be_woken_stays_asleep() {
    let house = House::new().await;
    let app = app::says("awake").await;
    let workspace = house
        .workspace_in(State::Hibernated, false, app.address)
        .await;
    let mut client = Client::h1(&house).await;
    let answer = client.get(&workspace.host(), "/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("\"asleep\""), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(house.node.woken.load(SeqCst), 0);

    // Allowed now: the visitor need not wait for any cache.
    house
        .directory
        .set_auto_wake(&workspace.id, true)
        .await
        .unwrap();
    assert_eq!(client.get(&workspace.host(), "/").await.text, "awake");
}

#[tokio::test]
async fn a_stale_route_costs_a_look_and_no_more() {
    let house = House::new().await;
    let app = app::says("here").await;
    let workspace = house.workspace(app.address).await;
    let mut client = Client::h1(&house).await;
    assert_eq!(client.get(&workspace.host(), "/").await.text, "here");
    // The node knows of a newer generation before the directory's change gets around.
    house.node.change(&workspace, |room| room.generation = 2);
    let report = house
        .directory
        .report(&workspace.id, fleet::id::Generation(2), State::Running);
    report.await.unwrap();
    assert_eq!(client.get(&workspace.host(), "/").await.text, "here");

    house.directory.remove(&workspace.id).await.unwrap();
    house.node.rooms.lock().unwrap().remove(&workspace.id);
    let answer = client.get(&workspace.host(), "/").await;
    assert_eq!(answer.status, 404, "{}", answer.text);
}

#[tokio::test]
async fn an_app_that_died_since_is_looked_up_again() {
    let house = House::new().await;
    let app = app::says("new home").await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let workspace = house.workspace(address).await;
    let mut client = Client::h1(&house).await;
    let answer = client.get(&workspace.host(), "/").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    house.node.change(&workspace, |room| {
        room.apps.insert(3000, app.address);
    });
    let mut client = Client::h1(&house).await;
    assert_eq!(client.get(&workspace.host(), "/").await.text, "new home");
}
