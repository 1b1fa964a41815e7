//! Callers that come while a workspace falls asleep, sleeps, or wakes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::lifecycle::State;
use pool_backend::ErrorKind;
use pool_backend::config::RuntimeChoice;

use crate::counter::{Said, ask, counter, visit};
use crate::rig::{Rig, eventually, output};

pub async fn any_number_of_callers_wake_it_once(runtime: RuntimeChoice) {
    let rig = Arc::new(Rig::on(runtime).await);
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    workspace.hibernate().await.unwrap();
    let began = Instant::now();
    let callers: Vec<_> = (0..200)
        .map(|number| {
            let (rig, workspace) = (Arc::clone(&rig), workspace.clone());
            tokio::spawn(async move {
                match number % 4 {
                    0 => Said::parse(&output(&workspace, "curl -sf localhost:8000/").await),
                    _ => visit(&rig, &workspace).await,
                }
            })
        })
        .collect();
    for caller in callers {
        let said = caller.await.unwrap();
        assert_eq!((said.pid, &said.memory), (before.pid, &before.memory));
    }
    println!("200 callers at a sleeper {:?}", began.elapsed());
    let summary = workspace.summary();
    assert_eq!((summary.state, summary.generation.0), (State::Running, 2));
}

pub async fn callers_that_race_with_sleep_are_all_served(runtime: RuntimeChoice) {
    let rig = Arc::new(Rig::on(runtime).await);
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let sleeping = {
        let (workspace, stop) = (workspace.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut slept, mut refused) = (0, 0);
            while !stop.is_cancelled() {
                if workspace.summary().state != State::Running {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                let done = match (slept + refused) % 2 {
                    0 => workspace.hibernate().await,
                    _ => workspace.freeze().await,
                };
                match done {
                    Ok(_) => slept += 1,
                    Err(error) if error.kind == ErrorKind::Conflict => refused += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            (slept, refused)
        })
    };
    let callers: Vec<_> = (0..2)
        .map(|caller| {
            let (rig, workspace) = (Arc::clone(&rig), workspace.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for pause in 0..20 {
                    let said = match caller % 2 {
                        0 => ask(&workspace).await,
                        _ => visit(&rig, &workspace).await,
                    };
                    assert!(said.count >= last, "{said:?} after {last}");
                    last = said.count;
                    // Into every step of falling asleep, sometimes.
                    let pause = Duration::from_millis(40 * (pause + caller));
                    tokio::time::sleep(pause).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    stop.cancel();
    let (slept, refused) = sleeping.await.unwrap();
    println!(
        "{slept} times asleep, {refused} times not, generation {}",
        workspace.summary().generation
    );
    assert!(slept > 2);
    let after = ask(&workspace).await;
    assert_eq!((after.pid, after.memory), (before.pid, before.memory));
}

pub async fn a_request_that_is_answered_is_not_put_to_sleep(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let workspace = rig.create("demo").await;
    let long = {
        let workspace = workspace.clone();
        tokio::spawn(
            async move { output(&workspace, "echo begun > begun; sleep 8; echo done").await },
        )
    };
    let begun = rig.volume(&workspace).join("data/begun");
    eventually("the command runs", || begun.exists()).await;
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    assert_eq!(workspace.summary().state, State::Running);
    assert!(
        workspace
            .lifecycle()
            .kept_awake_by
            .iter()
            .any(|why| why == "a request is being answered")
    );
    assert_eq!(long.await.unwrap(), "done\n");
    workspace.hibernate().await.unwrap();
}
