//! Sleep and wake: what comes back, by whom, and when.

use std::time::{Duration, Instant};

use fleet::door::{Admission, PortChoice, Visit};
use fleet::lifecycle::State;
use fleet::record::{IdleAction, LifecycleSettings, Woken};
use init_protocol::JobStatus;
use pool_backend::config::RuntimeChoice;
use pool_backend::{ErrorKind, Workspace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::counter::{ask, counter, names, visit};
use crate::rig::{Rig, eventually, output, read, run, shell, write};

pub async fn what_runs_goes_on_after_sleep(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let (workspace, job) = counter(&rig, "demo").await;
    let began = Instant::now();
    let before = ask(&workspace).await;
    assert_ne!(rig.traces_of(&workspace), Vec::<String>::new());
    let asleep = workspace.hibernate().await.unwrap();
    let hibernated = began.elapsed();
    assert_eq!((asleep.state, asleep.generation.0), (State::Hibernated, 1));
    assert_eq!(
        rig.route(&workspace).await.unwrap().state,
        State::Hibernated
    );
    assert_eq!(names(&rig.snapshots(&workspace)), ["1"]);
    let traces = rig.traces_of(&workspace);
    assert_eq!(traces, Vec::<String>::new(), "it costs nothing");
    // Files are read without waking it; nor does looking at it.
    assert_eq!(read(&workspace, "log").await.unwrap()[..7], *b"/ready\n");
    assert!(workspace.processes().await.unwrap().is_empty());
    assert!(workspace.ports().await.unwrap().is_empty());
    assert_eq!(workspace.summary().state, State::Hibernated);

    let waking = Instant::now();
    let after = ask(&workspace).await;
    println!(
        "hibernate {hibernated:?}, exec in a sleeper {:?}",
        waking.elapsed()
    );
    after.goes_on_from(&before, hibernated + waking.elapsed());
    let lifecycle = workspace.lifecycle();
    assert_eq!(lifecycle.woken, Some(Woken::Memory));
    assert_eq!(
        (lifecycle.summary.state, lifecycle.summary.generation.0),
        (State::Running, 2)
    );
    eventually("the snapshot is spent", || {
        names(&rig.snapshots(&workspace)).is_empty()
    })
    .await;
    // Open files, jobs and the way in as well.
    assert_eq!(
        workspace.job(&job).await.unwrap().status,
        JobStatus::Running
    );
    assert_eq!(read(&workspace, "log").await.unwrap(), b"/ready\n/\n/\n");
    let seen = visit(&rig, &workspace).await;
    assert_eq!((seen.pid, seen.memory), (before.pid, before.memory.clone()));

    // Again, and this time a visitor wakes it; and once more, and a question for a job does.
    let began = Instant::now();
    let before = ask(&workspace).await;
    workspace.hibernate().await.unwrap();
    let waking = Instant::now();
    let after = visit(&rig, &workspace).await;
    println!("a visit to a sleeper {:?}", waking.elapsed());
    after.goes_on_from(&before, began.elapsed());
    workspace.hibernate().await.unwrap();
    assert_eq!(
        workspace.job(&job).await.unwrap().status,
        JobStatus::Running
    );
    assert_eq!(workspace.summary().generation.0, 4);
    workspace.stop_job(&job).await.unwrap();
}

pub async fn who_comes_to_a_frozen_one_notices_nothing(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let frozen = workspace.freeze().await.unwrap();
    assert_eq!((frozen.state, frozen.generation.0), (State::Frozen, 1));
    assert_eq!(rig.route(&workspace).await.unwrap().state, State::Frozen);
    assert_eq!(read(&workspace, "log").await.unwrap()[..7], *b"/ready\n");
    assert_eq!(workspace.summary().state, State::Frozen);
    let began = Instant::now();
    let after = visit(&rig, &workspace).await;
    println!("a visit to a frozen one {:?}", began.elapsed());
    after.goes_on_from(&before, Duration::from_secs(1) + began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    for _ in 0..3 {
        workspace.freeze().await.unwrap();
        assert_eq!(output(&workspace, "echo fine").await, "fine\n");
    }
    workspace.freeze().await.unwrap();
    // The gateway's other way, by the directory.
    rig.wake_as_gateway(&workspace).await;
    assert_eq!(workspace.summary().state, State::Running);
    workspace.freeze().await.unwrap();
    workspace.stop().await.unwrap();
    assert_eq!(workspace.summary().state, State::Stopped);
    assert_eq!(output(&workspace, "echo fine").await, "fine\n");
    workspace.freeze().await.unwrap();
}

pub async fn idle_ones_fall_asleep_by_themselves(runtime: RuntimeChoice) {
    let rig = Rig::freezing_after(Duration::from_millis(500), runtime).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let calm = rig.create("calm").await;
    let kept = rig.create("kept").await;
    kept.set_keep_alive(true).await.unwrap();
    let frozen = |workspace: &Workspace| workspace.summary().state == State::Frozen;
    eventually("it is frozen", || frozen(&calm)).await;
    assert!(!frozen(&kept));
    assert_eq!(output(&calm, "echo fine").await, "fine\n");
    eventually("it is frozen again", || frozen(&calm)).await;
    calm.heartbeat();
    eventually("a heartbeat thaws", || {
        calm.summary().state == State::Running
    })
    .await;
    // The longest uptime ends it, used or not.
    let settings = LifecycleSettings {
        max_duration_hours: Some(0),
        idle_action: IdleAction::Hibernate,
        ..workspace.lifecycle_settings()
    };
    workspace.configure_lifecycle(settings).await.unwrap();
    eventually("it is hibernated", || {
        workspace.summary().state == State::Hibernated
    })
    .await;
    let settings = LifecycleSettings {
        auto_wake: false,
        max_duration_hours: None,
        ..workspace.lifecycle_settings()
    };
    workspace.configure_lifecycle(settings).await.unwrap();
    let refused = workspace.execute(shell("true")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused:?}");
    workspace.wake().await.unwrap();
    ask(&workspace).await;
}

pub async fn a_sleeper_can_be_restarted_stopped_and_deleted(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let (workspace, job) = counter(&rig, "demo").await;
    workspace.hibernate().await.unwrap();
    workspace.restart().await.unwrap();
    assert_eq!(
        workspace.job(&job).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(workspace.lifecycle().woken, None);
    assert!(names(&rig.snapshots(&workspace)).is_empty());
    workspace.hibernate().await.unwrap();
    workspace.stop().await.unwrap();
    assert_eq!(workspace.summary().state, State::Stopped);
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(run(&workspace, "cat log").await.stdout, "/ready\n");
    workspace.hibernate().await.unwrap();
    let place = rig.snapshots(&workspace);
    let project = workspace.summary().project;
    rig.workspaces().delete(&rig.owner, &project).await.unwrap();
    eventually("its snapshot is gone", || !place.exists()).await;
}

/// Waits with an epoll, which gVisor can break where connections are cut under it.
const SERVER: &str = r"
import asyncio
async def serve(reader, writer):
    while await reader.readline():
        writer.write(b'here\n')
async def main():
    server = await asyncio.start_server(serve, '0.0.0.0', 8000)
    await server.serve_forever()
asyncio.run(main())
";

/// As a visitor, whose connection stays open.
async fn linger(rig: &Rig, workspace: &Workspace) -> TcpStream {
    let route = rig.route(workspace).await.unwrap();
    let door = rig.node().door();
    let admission = door.admit(
        &route.workspace,
        route.generation,
        PortChoice::Main,
        Visit::InFlight,
    );
    let Admission::Admitted(guard) = admission.await.unwrap() else {
        panic!("not admitted");
    };
    let mut stream = guard.upstream.connector.connect().await.unwrap();
    stream.write_all(b"who is there?\n").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"here\n");
    stream
}

pub async fn idle_connections_harm_nobody(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "server.py", SERVER).await;
    let command = pool_backend::workspaces::Command {
        timeout: None,
        ..shell("exec python3 server.py")
    };
    let job = workspace.start_job(command).await.unwrap();
    let listens =
        "for i in $(seq 100); do (: < /dev/tcp/127.0.0.1/8000) && exit; sleep 0.1; done; exit 1";
    output(&workspace, listens).await;
    for _ in 0..4 {
        let kept = [
            linger(&rig, &workspace).await,
            linger(&rig, &workspace).await,
        ];
        workspace.hibernate().await.unwrap();
        workspace.wake().await.unwrap();
        assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory));
        drop(kept);
    }
    drop(linger(&rig, &workspace).await);
    workspace.stop_job(&job.id).await.unwrap();
}
