//! Commands of a runtime that a node which was killed had begun: they go on without it, and what
//! they do would come as a surprise to its successor. So it lets them end first.
//!
//! They are known by a variable of their environment, which what runs in containers does not have.
//!
//! Must never happen here: a process of another instance touched, or one of a container.

use fleet::id::InstanceId;
use fleet::timing;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// In the environment of each command, with the instance's id.
pub(super) const VARIABLE: &str = "FLEEKS_COMMAND_OF";

/// Returns when no command of an earlier process of this instance goes on. One that takes longer
/// than any may is killed.
pub(crate) async fn settle(instance: &InstanceId) {
    let patience = Instant::now() + timing::RUNTIME_COMMAND;
    let mut waited = false;
    loop {
        let of = instance.clone();
        let found = tokio::task::spawn_blocking(move || commands(&of)).await;
        let found = found.unwrap_or_default();
        if found.is_empty() {
            return;
        }
        if !waited {
            tracing::info!(
                commands = found.len(),
                "what the last process began ends first"
            );
            waited = true;
        }
        if Instant::now() >= patience {
            for pid in found {
                tracing::warn!(%pid, "a command of the last process does not end; it is killed");
                // Gone meanwhile is as good.
                let _ = kill(pid, Signal::SIGKILL);
            }
            return;
        }
        sleep(timing::SETTLE_LOOK).await;
    }
}

fn commands(instance: &InstanceId) -> Vec<Pid> {
    let mark = format!("{VARIABLE}={instance}");
    let inside = format!("/{instance}/");
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let marked = read("environ")
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes());
            if !marked || !String::from_utf8_lossy(&read("cgroup")).contains(&inside) {
                return marked;
            }
            // In a container's cgroup stand its sandbox, which ends with it, and whoever makes it.
            let mut arguments = read("cmdline");
            arguments.push(0);
            let begins = |word: &[u8]| word == b"run" || word == b"restore";
            arguments.split(|byte| *byte == 0).any(begins)
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_begun_ends_first() {
        let (ours, other) = (InstanceId::mint(), InstanceId::mint());
        let begin = |of: &InstanceId, seconds: &str| {
            let mut command = std::process::Command::new("sleep");
            command.arg(seconds).env(VARIABLE, of.as_str());
            command.spawn().unwrap()
        };
        let mut stays = begin(&other, "60");
        let mut ends = begin(&ours, "0.3");
        let reaped = std::thread::spawn(move || ends.wait().unwrap());
        settle(&ours).await;
        assert!(reaped.join().unwrap().success());
        assert_eq!(commands(&other).len(), 1);
        stays.kill().unwrap();
        stays.wait().unwrap();
    }
}
