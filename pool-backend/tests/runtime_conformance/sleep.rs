//! Pause, checkpoint, restore: what is there after it, and what is left when it fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::MsFlags;
use pool_backend::config::RuntimeChoice;
use pool_backend::runtime::ContainerStatus;

use crate::rig::{PATIENCE, Rig};
use crate::sleeper::Sleeper;

/// Looked at for so long whether what stands still takes CPU time: gVisor's kernel, left to itself,
/// looks around every 0.4 ms.
const STANDSTILL: Duration = Duration::from_millis(200);

pub async fn a_paused_one_goes_on(rig: Rig) {
    let sleeper = Sleeper::start(&rig, "a", 1).await;
    let id = &sleeper.spec.id;
    let before = sleeper.ask("").await;
    // gVisor's network stands still, too: whoever comes now waits.
    let mut line = sleeper.connect().await;
    for _ in 0..2 {
        rig.runtime.pause(id).await.unwrap();
        let status = rig.runtime.status(id).await.unwrap();
        assert_eq!(status, ContainerStatus::Paused);
    }
    line.say("").await;
    // Nor does the runtime itself do anything.
    let used = rig.runtime.usage(id).await.unwrap().cpu_micros;
    tokio::time::sleep(STANDSTILL).await;
    assert_eq!(rig.runtime.usage(id).await.unwrap().cpu_micros, used);
    for _ in 0..2 {
        rig.runtime.resume(id).await.unwrap();
        let status = rig.runtime.status(id).await.unwrap();
        assert_eq!(status, ContainerStatus::Running);
    }
    let after = line.hear().await.unwrap();
    assert_eq!(after["secret"], before["secret"]);
    // And so it does after a checkpoint that nobody uses.
    for round in 0..2 {
        let images = sleeper.images(&rig).join(round.to_string());
        std::fs::create_dir(&images).unwrap();
        sleeper.checkpoint(&rig, &images).await.unwrap();
        let status = rig.runtime.status(id).await.unwrap();
        assert_eq!(status, ContainerStatus::Paused);
        sleeper.thaw(&rig).await;
        let status = rig.runtime.status(id).await.unwrap();
        assert_eq!(status, ContainerStatus::Running);
        let again = sleeper.ask("").await;
        assert_eq!(again["secret"], before["secret"]);
        assert_eq!(again["pid"], before["pid"]);
    }
    // Removing does not need a resume.
    rig.runtime.pause(id).await.unwrap();
    sleeper.kill(&rig).await;
    rig.close().await;
}

pub async fn state_is_as_it_was(rig: Rig) {
    let mut sleeper = Sleeper::start(&rig, "a", 1).await;
    let mut before = sleeper.ask("line").await;
    for round in 2..5 {
        let images = sleeper.sleep(&rig).await;
        assert_eq!(rig.runtime.list().await.unwrap(), []);
        sleeper.wake(&rig, &images).await.unwrap();
        let status = rig.runtime.status(&sleeper.spec.id).await.unwrap();
        assert_eq!(status, ContainerStatus::Running);
        let after = sleeper.ask("line").await;
        for same in ["secret", "pid", "child", "alive", "sum", "kept", "unlinked"] {
            assert_eq!(after[same], before[same], "{same}: {after}");
        }
        assert_eq!(after["count"], before["count"].as_u64().unwrap() + 1);
        assert_eq!(after["line"], format!("line {round}\n"));
        let mut later = sleeper.ask("").await;
        while later["ticks"] == after["ticks"] || later["alarms"] == after["alarms"] {
            later = sleeper.ask("").await;
        }
        // It counts where the new generation's limits are.
        let usage = rig.runtime.usage(&sleeper.spec.id).await.unwrap();
        assert!(usage.pids >= 3, "{usage:?}");
        assert!(usage.memory_bytes > 1 << 20, "{usage:?}");
        before = later;
    }
    assert_eq!(sleeper.ask("inner").await["inner"], "ping");
    assert_eq!(sleeper.ask("end child").await["code"], 7);
    rig.close().await;
}

pub async fn much_memory_is_as_it_was(rig: Rig) {
    let mut sleeper = Sleeper::start(&rig, "a", 200).await;
    let before = sleeper.ask("digest").await;
    assert!(before["digest"].is_string());
    let images = sleeper.sleep(&rig).await;
    sleeper.wake(&rig, &images).await.unwrap();
    let after = sleeper.ask("digest").await;
    for same in ["pid", "secret", "digest"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    rig.close().await;
}

pub async fn connections_do_what_is_said_of_them(rig: Rig) {
    let mut sleeper = Sleeper::start(&rig, "a", 1).await;
    let mut lines = Vec::new();
    for _ in 0..8 {
        let mut line = sleeper.connect().await;
        line.ask("").await.unwrap();
        lines.push(line);
    }
    let images = sleeper.sleep(&rig).await;
    sleeper.wake(&rig, &images).await.unwrap();
    let kept = rig.runtime.sleep().keeps_connections;
    assert_eq!(kept, rig.choice == RuntimeChoice::Runc);
    for line in &mut lines {
        if kept {
            assert!(line.ask("").await.is_some());
        }
    }
    // New ones come in any case.
    sleeper.ask("").await;
    rig.close().await;
}

/// A file system that is soon full.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        nix::mount::mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=256k"),
        )
        .unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        nix::mount::umount(&self.0).unwrap();
    }
}

pub async fn a_failed_checkpoint_harms_nobody(rig: Rig) {
    let mut sleeper = Sleeper::start(&rig, "a", 8).await;
    let before = sleeper.ask("").await;
    let tiny = Tiny::mount(&rig.data_dir.join("tiny"));
    let images = tiny.0.join("images");
    std::fs::create_dir(&images).unwrap();
    let error = sleeper.checkpoint(&rig, &images).await.unwrap_err();
    assert!(
        error.to_string().contains("write a checkpoint failed"),
        "{error}"
    );
    let status = rig.runtime.status(&sleeper.spec.id).await.unwrap();
    assert_eq!(status, ContainerStatus::Paused, "{error}");
    sleeper.thaw(&rig).await;
    let after = sleeper.ask("").await;
    assert_eq!(after["secret"], before["secret"]);
    drop(tiny);
    // The next one is none the worse for it.
    let images = sleeper.sleep(&rig).await;
    sleeper.wake(&rig, &images).await.unwrap();
    assert_eq!(sleeper.ask("").await["secret"], before["secret"]);
    rig.close().await;
}

pub async fn a_failed_restore_leaves_nothing(rig: Rig) {
    let mut sleeper = Sleeper::start(&rig, "a", 8).await;
    let before = sleeper.ask("").await;
    let images = sleeper.sleep(&rig).await;
    let broken = rig.data_dir.join("broken");
    std::fs::create_dir(&broken).unwrap();
    for entry in std::fs::read_dir(&images).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), broken.join(entry.file_name())).unwrap();
    }
    // With too few pages CRIU tries forever, until its time is over; the store of snapshots looks
    // at the sizes first.
    let files = match rig.choice {
        RuntimeChoice::Runc => ["core-1.img"].as_slice(),
        _ => &["checkpoint.img", "pages.img"],
    };
    for name in files {
        let file = std::fs::File::options().write(true).open(broken.join(name));
        let file = file.unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    for images in [&broken, &rig.data_dir.join("nothing")] {
        std::fs::create_dir_all(images).unwrap();
        let error = sleeper.wake(&rig, images).await.unwrap_err();
        assert!(
            error.to_string().contains("restore a container failed"),
            "{error}"
        );
        assert_eq!(rig.runtime.list().await.unwrap(), []);
        // The link goes with the last process.
        let started = std::time::Instant::now();
        while !rig.network.list().await.unwrap().is_empty() {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    // The good ones are still good.
    sleeper.wake(&rig, &images).await.unwrap();
    assert_eq!(sleeper.ask("").await["secret"], before["secret"]);
    rig.close().await;
}
