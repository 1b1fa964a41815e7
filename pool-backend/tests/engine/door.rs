//! Visitors at the door.

use std::time::Duration;

use fleet::door::{Admission, ConnectError, Guard, PortChoice, Visit};
use fleet::id::Generation;
use init_protocol::CONTROL_PORT;
use pool_backend::Workspace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::rig::{Rig, kill_container, shell, write};

async fn admit(rig: &Rig, workspace: &Workspace, port: PortChoice) -> Admission {
    let summary = workspace.summary();
    let door = rig.node().door();
    door.admit(&summary.id, summary.generation, port, Visit::InFlight)
        .await
        .unwrap()
}

async fn admitted(rig: &Rig, workspace: &Workspace, port: PortChoice) -> Guard {
    match admit(rig, workspace, port).await {
        Admission::Admitted(guard) => guard,
        other => panic!("{other:?}"),
    }
}

async fn get(guard: &Guard) -> String {
    let mut stream = guard.upstream.connector.connect().await.unwrap();
    let request = "GET /hello.txt HTTP/1.0\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A web server on this address and port, once it listens.
async fn serve(workspace: &Workspace, bind: &str, port: u16) {
    let command = format!("exec python3 -m http.server --bind {bind} {port}");
    workspace.start_job(shell(&command)).await.unwrap();
    let listens = async {
        while !workspace
            .ports()
            .await
            .unwrap()
            .iter()
            .any(|one| one.port == port)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), listens).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_reached_wherever_they_listen() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "hello.txt", "hello from inside").await;
    match admit(&rig, &workspace, PortChoice::Main).await {
        Admission::NotListening(nothing) => {
            assert_eq!((nothing.port, nothing.listening), (None, vec![]));
        }
        other => panic!("{other:?}"),
    }

    serve(&workspace, "127.0.0.1", 7777).await;
    let main = admitted(&rig, &workspace, PortChoice::Main).await;
    assert_eq!(main.port, 7777);
    assert!(get(&main).await.ends_with("hello from inside"));

    serve(&workspace, "0.0.0.0", 8000).await;
    let main = admitted(&rig, &workspace, PortChoice::Main).await;
    assert_eq!(main.port, 8000, "a well-known port before the lowest");
    assert!(get(&main).await.ends_with("hello from inside"));
    workspace.set_main_port(Some(7777));
    let chosen = admitted(&rig, &workspace, PortChoice::Main).await;
    assert_eq!(chosen.port, 7777);
    assert_ne!(chosen.upstream.pool_key, main.upstream.pool_key);
    let named = admitted(&rig, &workspace, PortChoice::Number(8000)).await;
    assert_eq!(named.upstream.pool_key, main.upstream.pool_key);

    match admit(&rig, &workspace, PortChoice::Number(9)).await {
        Admission::NotListening(nothing) => {
            assert_eq!(
                (nothing.port, nothing.listening),
                (Some(9), vec![7777, 8000])
            );
        }
        other => panic!("{other:?}"),
    }
    let control = admit(&rig, &workspace, PortChoice::Number(CONTROL_PORT)).await;
    assert!(matches!(control, Admission::NotListening(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_generation_that_runs_lets_in() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    serve(&workspace, "0.0.0.0", 3000).await;
    let before = admitted(&rig, &workspace, PortChoice::Main).await;
    let summary = workspace.summary();
    let door = rig.node().door();
    let stale = Generation(summary.generation.0 + 1);
    let moved = door
        .admit(&summary.id, stale, PortChoice::Main, Visit::InFlight)
        .await;
    assert!(matches!(moved.unwrap(), Admission::Moved));

    workspace.stop().await.unwrap();
    let asleep = admit(&rig, &workspace, PortChoice::Main).await;
    assert!(matches!(asleep, Admission::Asleep), "{asleep:?}");
    let gone = before.upstream.connector.connect().await.unwrap_err();
    assert!(matches!(gone, ConnectError::Gone), "{gone:?}");

    workspace.ensure_running().await.unwrap();
    serve(&workspace, "0.0.0.0", 3000).await;
    let after = admitted(&rig, &workspace, PortChoice::Main).await;
    assert_ne!(before.upstream.pool_key, after.upstream.pool_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_notices_a_dead_container() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    serve(&workspace, "0.0.0.0", 3000).await;
    let guard = admitted(&rig, &workspace, PortChoice::Number(3000)).await;
    kill_container(&workspace).await;
    let refused = guard.upstream.connector.connect().await.unwrap_err();
    assert!(matches!(refused, ConnectError::Gone), "{refused:?}");
    let asleep = admit(&rig, &workspace, PortChoice::Number(3000)).await;
    assert!(matches!(asleep, Admission::Asleep), "{asleep:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_moves_is_found_again() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    serve(&workspace, "0.0.0.0", 3000).await;
    let before = admitted(&rig, &workspace, PortChoice::Main).await;
    let named = admitted(&rig, &workspace, PortChoice::Number(3000)).await;
    let job = &workspace.jobs().await.unwrap()[0];
    workspace.stop_job(&job.id).await.unwrap();
    workspace
        .start_job(shell("exec python3 -m http.server 5173"))
        .await
        .unwrap();
    // Who was let in to the old port is told: sent away to ask again, or what listens instead.
    let moved = async {
        loop {
            match before.upstream.connector.connect().await {
                Err(ConnectError::Gone) => break,
                Err(ConnectError::NotListening(nothing)) => assert_eq!(nothing.port, Some(3000)),
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(20), moved).await.unwrap();
    let after = admitted(&rig, &workspace, PortChoice::Main).await;
    assert_eq!(after.port, 5173);
    match named.upstream.connector.connect().await.unwrap_err() {
        ConnectError::NotListening(nothing) => assert_eq!(nothing.listening, [5173]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workspaces_with_one_port_are_apart() {
    let rig = Rig::new(&[]).await;
    let (one, other) = tokio::join!(rig.create("one"), rig.create("other"));
    for (workspace, name) in [(&one, "one"), (&other, "other")] {
        write(workspace, "hello.txt", name).await;
        serve(workspace, "0.0.0.0", 3000).await;
    }
    for (workspace, name) in [(&one, "one"), (&other, "other")] {
        let guard = admitted(&rig, workspace, PortChoice::Main).await;
        assert!(get(&guard).await.ends_with(name));
    }
}
