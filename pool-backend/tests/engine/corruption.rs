//! Checkpoints that fail, snapshots that are damaged, nodes that die meanwhile.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use fleet::lifecycle::State;
use fleet::record::Woken;
use pool_backend::ErrorKind;
use pool_backend::config::RuntimeChoice;
use sha2::{Digest as _, Sha256};

use crate::counter::{ask, counter, names};
use crate::rig::{Rig, output, shell, write};

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

/// What became of a snapshot's files.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// The largest image is half as long.
    Truncated,
    /// One bit of it is another.
    Flipped,
    /// All other images are rubbish.
    Overwritten,
    /// Another version of the runtime wrote it.
    Foreign,
}

impl Harm {
    fn befall(self, snapshot: &Path) {
        let mut images: Vec<(u64, PathBuf)> = std::fs::read_dir(snapshot.join("images"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.metadata().unwrap().len(), entry.path()))
            .collect();
        images.sort();
        let (size, largest) = images.pop().unwrap();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&largest)
            .unwrap();
        match self {
            Self::Truncated => file.set_len(size / 2).unwrap(),
            Self::Flipped => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, size / 2).unwrap();
                file.write_all_at(&[byte[0] ^ 4], size / 2).unwrap();
            }
            Self::Overwritten => {
                for (size, path) in images {
                    std::fs::write(path, vec![0x5a; usize::try_from(size).unwrap()]).unwrap();
                }
            }
            Self::Foreign => of_another_version(&snapshot.join("manifest.json")),
        }
    }
}

/// Whole in every respect, digest included.
fn of_another_version(manifest: &Path) {
    let text = std::fs::read_to_string(manifest).unwrap();
    let inner = text.strip_prefix("{\"manifest\":").unwrap();
    let (inner, _) = inner.rsplit_once(",\"digest\":").unwrap();
    let (before, version) = inner.split_once("\"version\":\"").unwrap();
    let other = format!("{before}\"version\":\"another, {version}");
    let digest = HEXLOWER.encode(&Sha256::digest(&other));
    let text = format!("{{\"manifest\":{other},\"digest\":\"{digest}\"}}");
    std::fs::write(manifest, text).unwrap();
}

pub async fn a_snapshot_of_no_use_is_not_the_end(runtime: RuntimeChoice) {
    let rig = Rig::on(runtime).await;
    let workspace = rig.create("demo").await;
    let harms = [
        Harm::Truncated,
        Harm::Flipped,
        Harm::Overwritten,
        Harm::Foreign,
    ];
    for harm in harms {
        let (command, text) = (shell("exec sleep 1000"), format!("written before {harm:?}"));
        let job = workspace.start_job(command).await.unwrap();
        write(&workspace, "note", &text).await;
        let generation = workspace.hibernate().await.unwrap().generation.to_string();
        harm.befall(&rig.snapshots(&workspace).join(&generation));
        assert_eq!(output(&workspace, "cat note").await, text);
        let lifecycle = workspace.lifecycle();
        assert_eq!(lifecycle.woken, Some(Woken::Volume), "{harm:?}");
        let job = workspace.job(&job.id).await.unwrap_err();
        assert_eq!(job.kind, ErrorKind::NotFound, "{harm:?}");
        // Nobody is woken from it later; evidence of damage stays.
        let kept = names(&rig.snapshots(&workspace));
        let aside = format!("{generation}.damaged");
        match harm {
            Harm::Foreign => assert!(!kept.contains(&aside), "{kept:?}"),
            _ => assert!(kept.contains(&aside), "{kept:?}"),
        }
        assert!(!kept.contains(&generation), "{kept:?}");
        // And it sleeps and wakes again.
        workspace.hibernate().await.unwrap();
        workspace.wake().await.unwrap();
        assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory), "{harm:?}");
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
