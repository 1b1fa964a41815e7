//! Checkpoints that fail, snapshots that are damaged, nodes that die meanwhile.

use std::time::{Duration, Instant};

use fleet::lifecycle::State;
use fleet::record::Woken;
use pool_backend::ErrorKind;
use pool_backend::config::RuntimeChoice;

use crate::counter::{ask, counter};
use crate::rig::{Rig, output};

pub async fn a_failed_checkpoint_leaves_it_running(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    // Nothing can be written where snapshots go.
    let place = rig.snapshots(&workspace);
    std::fs::write(&place, "in the way").unwrap();
    let began = Instant::now();
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotReady, "{error:?}");
    let lifecycle = workspace.lifecycle();
    assert_eq!(lifecycle.summary.state, State::Running);
    assert_eq!(lifecycle.problem.as_deref(), Some(error.message.as_str()));
    ask(&workspace).await.goes_on_from(&before, began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    std::fs::remove_file(&place).unwrap();
    workspace.hibernate().await.unwrap();
    assert_eq!(workspace.lifecycle().problem, None);
    ask(&workspace).await;
}

pub async fn a_corrupt_snapshot_is_not_the_end(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    for truncated in [true, false] {
        let (workspace, job) = counter(&rig, if truncated { "cut" } else { "bad" }).await;
        workspace.hibernate().await.unwrap();
        let images = rig.snapshots(&workspace).join("1/images");
        let mut files: Vec<_> = std::fs::read_dir(&images)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.metadata().unwrap().len(), entry.path()))
            .collect();
        files.sort();
        let (size, largest) = files.pop().unwrap();
        if truncated {
            let file = std::fs::File::options().write(true).open(&largest).unwrap();
            file.set_len(size / 2).unwrap();
        } else {
            for (size, path) in files {
                std::fs::write(path, vec![0x5a; usize::try_from(size).unwrap()]).unwrap();
            }
        }
        assert_eq!(output(&workspace, "cat log").await, "/ready\n");
        let lifecycle = workspace.lifecycle();
        assert_eq!(lifecycle.woken, Some(Woken::Volume));
        let job = workspace.job(&job).await.unwrap_err();
        assert_eq!(job.kind, ErrorKind::NotFound);
        // And it sleeps and wakes again.
        workspace.hibernate().await.unwrap();
        workspace.wake().await.unwrap();
        assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory));
    }
}

pub async fn sleep_outlives_the_node(runtime: RuntimeChoice) {
    let mut rig = Rig::on(runtime).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let began = Instant::now();
    workspace.hibernate().await.unwrap();
    let awake = began.elapsed();
    drop(workspace);
    rig.kill_and_start().await;
    assert_eq!(rig.get("demo").summary().state, State::Hibernated);
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    let workspace = rig.get("demo");
    assert_eq!(workspace.summary().state, State::Hibernated);
    let waking = Instant::now();
    ask(&workspace)
        .await
        .goes_on_from(&before, awake + waking.elapsed());
    assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory));
}

pub async fn a_frozen_one_outlives_a_killed_node(runtime: RuntimeChoice) {
    let mut rig = Rig::on(runtime).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    workspace.freeze().await.unwrap();
    drop(workspace);
    let began = Instant::now();
    rig.kill_and_start().await;
    let workspace = rig.get("demo");
    ask(&workspace)
        .await
        .goes_on_from(&before, Duration::from_secs(1) + began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    workspace.freeze().await.unwrap();
    drop(workspace);
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    assert_eq!(rig.get("demo").summary().state, State::Stopped);
}
