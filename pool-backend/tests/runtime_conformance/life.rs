//! Starting, asking, removing, and what is left when somebody dies in between.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pool_backend::config::{Limits, RuntimeChoice};
use pool_backend::runtime::{ContainerStatus, Rootfs, User};

use crate::rig::{Rig, outcome_in, wait_for};

pub async fn a_container_comes_and_goes(rig: Rig) {
    let sandbox = rig.start("a", "echo hello; exit 3").await;
    let outcome = sandbox.outcome().await;
    assert_eq!((outcome.code, outcome.output.as_str()), (3, "hello\n"));
    let status = rig.runtime.status(&sandbox.id).await.unwrap();
    assert_eq!(status, ContainerStatus::Running);
    let usage = rig.runtime.usage(&sandbox.id).await.unwrap();
    assert!(
        usage.memory_bytes > 0 && usage.cpu_micros > 0 && usage.pids > 0,
        "{usage:?}"
    );
    let list = rig.runtime.list().await.unwrap();
    assert_eq!(list, [(sandbox.id.clone(), ContainerStatus::Running)]);
    assert_eq!(
        rig.network.list().await.unwrap(),
        std::slice::from_ref(&sandbox.id)
    );
    for _ in 0..2 {
        rig.remove(&sandbox).await;
        let status = rig.runtime.status(&sandbox.id).await.unwrap();
        assert_eq!(status, ContainerStatus::Absent);
        assert_eq!(rig.runtime.list().await.unwrap(), []);
        assert_eq!(rig.network.list().await.unwrap(), []);
    }
    rig.network.free_address(sandbox.address);
    rig.close().await;
}

pub async fn others_are_not_seen(rig: Rig) {
    let other = Rig::new(rig.choice).await;
    let sandbox = rig.start("a", "true").await;
    assert_eq!(other.runtime.list().await.unwrap(), []);
    assert_eq!(other.network.list().await.unwrap(), []);
    other.close().await;
    let status = rig.runtime.status(&sandbox.id).await.unwrap();
    assert_eq!(status, ContainerStatus::Running);
    rig.close().await;
}

pub async fn a_failed_start_leaves_nothing(rig: Rig) {
    let address = rig.network.mint_address().await.unwrap();
    let mut spec = rig.spec("a", "true", address, Limits::default());
    let netns = rig.network.prepare(&spec.id, address).await.unwrap();
    spec.init = PathBuf::from("/nonexistent/init");
    let error = rig.runtime.start(&spec).await.unwrap_err();
    assert!(
        error.to_string().contains("start a container failed"),
        "{error}"
    );
    spec.rootfs = Rootfs::Directory("/nonexistent".into());
    assert!(rig.runtime.start(&spec).await.is_err());
    drop(netns);
    assert_eq!(rig.runtime.list().await.unwrap(), []);
    wait_for("the link to go", || !spec.netns.exists()).await;
    rig.close().await;
}

const HELPER_CHOICE: &str = "FLEEKS_TEST_HELPER_RUNTIME";
const HELPER_DATA: &str = "FLEEKS_TEST_HELPER_DATA";
const HELPER_INSTANCE: &str = "FLEEKS_TEST_HELPER_INSTANCE";

/// Not a case: the process that [`what_a_killed_node_left_is_found`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test"]
async fn start_containers_until_killed() {
    if std::env::var_os(HELPER_DATA).is_none() {
        println!("nothing to do: this is a process that another test starts");
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let choice = match variable(HELPER_CHOICE).as_str() {
        "runc" => RuntimeChoice::Runc,
        _ => RuntimeChoice::Runsc,
    };
    let data_dir = PathBuf::from(variable(HELPER_DATA));
    let instance = variable(HELPER_INSTANCE).parse().unwrap();
    let rig = Rig::at(choice, instance, &data_dir).await;
    for number in 0.. {
        rig.start(&format!("c{number}"), "true").await;
    }
}

pub async fn what_a_killed_node_left_is_found(rig: Rig) {
    let choice = match rig.choice {
        RuntimeChoice::Runc => "runc",
        _ => "runsc",
    };
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "life::start_containers_until_killed",
        ])
        .env(HELPER_CHOICE, choice)
        .env(HELPER_DATA, &rig.data_dir)
        .env(HELPER_INSTANCE, rig.instance.as_str())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // In the middle of the third start.
    let third = rig.data_dir.join("c2/init");
    wait_for("the helper's third start", || third.exists()).await;
    helper.kill().unwrap();
    helper.wait().unwrap();
    let running = rig.runtime.list().await.unwrap();
    assert!(running.len() >= 2, "{running:?}");
    // Whatever it was in the middle of may still go on for a moment; so the reconciler comes
    // again every minute, and we here, until nothing more turns up.
    let mut quiet = 0;
    while quiet < 3 {
        let containers = rig.runtime.list().await.unwrap();
        let networks = rig.network.list().await.unwrap();
        quiet = if containers.is_empty() && networks.is_empty() {
            quiet + 1
        } else {
            0
        };
        for (id, _) in containers {
            // The start that was cut off may still be writing what is being removed.
            drop(rig.runtime.remove(&id).await);
        }
        for id in networks {
            rig.network.release(&id).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    rig.close().await;
}

pub async fn another_user_can_be_configured(rig: Rig) {
    let address = rig.network.mint_address().await.unwrap();
    let script = "id -u; cat /run/fleeks/init.json > /dev/null && echo x > /run/fleeks/jobs/1 && \
                  echo x > /tmp/x && python -c 'print(1)'";
    let mut spec = rig.spec("a", script, address, Limits::default());
    spec.user = User {
        uid: 12_345,
        gid: 12_345,
    };
    for directory in [&spec.volume, &spec.jobs] {
        std::os::unix::fs::chown(directory, Some(12_345), Some(12_345)).unwrap();
    }
    let netns = rig.network.prepare(&spec.id, address).await.unwrap();
    rig.runtime.start(&spec).await.unwrap();
    netns.keep();
    assert_eq!(outcome_in(&spec.volume).await.output, "12345\n1\n");
    rig.close().await;
}

/// What a template's own root may look like: whatever it is, plus the mount points.
pub async fn a_directory_is_a_root(rig: Rig) {
    let root = rig.data_dir.join("root");
    for name in [
        "bin",
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "tmp",
        "var/tmp",
        "workspace",
    ] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    for program in ["/bin/sh", "/bin/mv", "/bin/sleep", "/bin/ls", "/bin/cat"] {
        copy_with_libraries(program, &root);
    }
    let address = rig.network.mint_address().await.unwrap();
    let script = "ls / | cat; cat /etc/hostname";
    let mut spec = rig.spec("a", script, address, Limits::default());
    spec.rootfs = Rootfs::Directory(root.clone());
    let netns = rig.network.prepare(&spec.id, address).await.unwrap();
    rig.runtime.start(&spec).await.unwrap();
    netns.keep();
    let outcome = outcome_in(&spec.volume).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert!(
        outcome.output.ends_with("workspace-a\n"),
        "{}",
        outcome.output
    );
    assert!(!outcome.output.contains("usr"), "{}", outcome.output);
    rig.close().await;
}

fn copy_with_libraries(program: &str, root: &Path) {
    let libraries = Command::new("ldd").arg(program).output().unwrap().stdout;
    let libraries = String::from_utf8(libraries).unwrap();
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}
