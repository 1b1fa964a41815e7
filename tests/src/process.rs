//! Processes that do not outlive the test run, and commands with a bound.
//!
//! The kernel sends a child its parent-death signal when the *thread* that made it ends, so one
//! thread that lives as long as the process makes them all.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::wait;

struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

static NURSERY: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for mut order in inbox {
            let _ = order.reply.send(order.command.spawn());
        }
    });
    orders
});

/// Starts `command` in a process group of its own; it gets `at_our_death` should this process
/// die first.
pub fn spawn(mut command: Command, at_our_death: Signal) -> Result<Child> {
    let parent = nix::unistd::getpid();
    let name = command.get_program().to_string_lossy().into_owned();
    command.process_group(0);
    // SAFETY: between fork and exec only two async-signal-safe system calls are made.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(at_our_death)?;
            match nix::unistd::getppid() == parent {
                true => Ok(()),
                false => Err(io::ErrorKind::BrokenPipe.into()),
            }
        });
    }
    let (reply, answer) = mpsc::channel();
    NURSERY
        .send(Order { command, reply })
        .ok()
        .context("the nursery thread is gone")?;
    answer
        .recv()
        .context("the nursery thread is gone")?
        .with_context(|| format!("start {name}"))
}

/// Sends a signal to the child's process group.
pub fn signal_group(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).context("pid")?;
    match nix::sys::signal::killpg(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("signal a process group"),
    }
}

/// Waits for its end; `None` when it still runs after `limit`.
pub fn wait_for_end(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    let ended = wait::until("a process to end", limit, || Ok(child.try_wait()?));
    match ended {
        Ok(status) => Ok(Some(status)),
        Err(_) if start.elapsed() >= limit => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a finished command left.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, lossily.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// Standard output of a command that succeeded.
    pub fn success(self) -> Result<String> {
        let stdout = String::from_utf8_lossy(&self.stdout).into_owned();
        if self.status.success() {
            return Ok(stdout);
        }
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        bail!(
            "ended with {how}\n--- stdout\n{stdout}\n--- stderr\n{}",
            self.stderr
        )
    }
}

/// Runs a command to its end, or kills it after `limit` and fails.
pub fn run(mut command: Command, limit: Duration) -> Result<Finished> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut child = spawn(command, Signal::SIGKILL)?;
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let Some(status) = wait_for_end(&mut child, limit)? else {
        signal_group(&child, Signal::SIGKILL)?;
        child.wait()?;
        bail!("{name} was still running after {limit:?}");
    };
    let took = start.elapsed();
    let collect = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        reader
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    };
    Ok(Finished {
        status,
        stdout: collect(stdout),
        stderr: String::from_utf8_lossy(&collect(stderr)).into_owned(),
        took,
    })
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends the output; what came before it counts.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    #[test]
    fn commands_end_or_are_ended() {
        let limit = Duration::from_secs(10);
        assert_eq!(
            run(shell("echo out"), limit).unwrap().success().unwrap(),
            "out\n"
        );
        let error = run(shell("echo why >&2; exit 3"), limit)
            .unwrap()
            .success()
            .unwrap_err();
        assert!(error.to_string().contains("exit code 3") && error.to_string().contains("why"));
        // The grandchild holds the pipes; the group is killed, and so the pipes end.
        let error = run(shell("sleep 60 & sleep 60"), Duration::from_millis(50))
            .err()
            .unwrap();
        assert!(error.to_string().contains("still running"));
    }
}
