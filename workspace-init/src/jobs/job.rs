//! One shell line: from its start to its exit, and how it is stopped. ([`direct`]: without a shell
//! where that makes no difference.)

use std::cell::Cell;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use init_protocol::{COMMAND_SHOWN, JobState, JobStatus, MAX_COMMAND, RefusalKind, Run};
use rustix::fd::OwnedFd;
use rustix::fs::Access;
use rustix::process::{Pid, Signal, WaitStatus};
use tokio::sync::Notify;

use super::direct;
use super::stream::Stream;
use crate::refusal::Refusal;
use crate::timing;

const BASH: &str = "/bin/bash";

/// See the module.
pub struct Job {
    pub id: String,
    /// Of its shell; also of its process group.
    pub pid: Pid,
    pub stdout: Rc<Stream>,
    pub stderr: Rc<Stream>,
    command: String,
    started: Instant,
    started_at_ms: u64,
    end: Cell<Option<End>>,
    /// Why it is being ended, if it is.
    ending: Cell<Option<JobStatus>>,
    /// Another job's group has this number now.
    group_gone: Cell<bool>,
    ended: Notify,
}

#[derive(Clone, Copy)]
struct End {
    status: JobStatus,
    exit_code: i32,
    at_ms: u64,
    duration: Duration,
}

/// What is wrong with a call, seen without trying.
pub fn check(run: &Run) -> Result<(), Refusal> {
    check_id(&run.job)?;
    check_words(&run.command, &run.working_dir, &run.environment)
}

/// What the node mints for a job, a terminal or a viewer.
pub fn check_id(id: &str) -> Result<(), Refusal> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=64).contains(&id.len()) || !id.as_bytes().iter().all(plain) {
        return Err(Refusal::bad("not an id"));
    }
    Ok(())
}

/// What is given to a shell.
pub fn check_words(
    command: &str,
    working_dir: &str,
    environment: &[(String, String)],
) -> Result<(), Refusal> {
    if command.len() > MAX_COMMAND || command.contains('\0') {
        return Err(Refusal::bad("the command is too long or has a NUL"));
    }
    let broken = |(name, value): &(String, String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    if environment.iter().any(broken) {
        return Err(Refusal::bad("a broken name or value in the environment"));
    }
    if working_dir.contains('\0') || !working_dir.starts_with('/') {
        return Err(Refusal::bad("the working directory must be absolute"));
    }
    match std::fs::metadata(working_dir) {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => Err(Refusal::new(
            RefusalKind::NotDirectory,
            "the working directory is a file",
        )),
        Err(error) => Err(Refusal::failed("working directory", &error)),
    }
}

impl Job {
    /// Starts the shell. Nothing here waits, so its exit cannot be reaped before it is known.
    pub fn spawn(
        run: &Run,
        (stdout, stdout_end): (Rc<Stream>, OwnedFd),
        (stderr, stderr_end): (Rc<Stream>, OwnedFd),
    ) -> Result<Self, Refusal> {
        let child = start(run, stdout_end, stderr_end)
            .map_err(|error| Refusal::failed("the shell cannot be started", &error))?;
        Ok(Self {
            id: run.job.clone(),
            pid: Pid::from_child(&child),
            stdout,
            stderr,
            command: shown(&run.command),
            started: Instant::now(),
            started_at_ms: timing::now_ms(),
            end: Cell::new(None),
            ending: Cell::new(None),
            group_gone: Cell::new(false),
            ended: Notify::new(),
        })
    }

    pub fn is_running(&self) -> bool {
        self.end.get().is_none()
    }

    /// Its shell has not exited, or something of it still writes.
    pub fn is_live(&self) -> bool {
        self.is_running() || self.stdout.is_open() || self.stderr.is_open()
    }

    pub fn state(&self) -> JobState {
        let end = self.end.get();
        JobState {
            job: self.id.clone(),
            command: self.command.clone(),
            status: end.map_or(JobStatus::Running, |end| end.status),
            exit_code: end.map(|end| end.exit_code),
            started_at_ms: self.started_at_ms,
            ended_at_ms: end.map(|end| end.at_ms),
            duration_ms: end.map(|end| millis(end.duration)),
        }
    }

    /// Its shell was reaped.
    pub fn exited(&self, status: WaitStatus) {
        let exit_code = status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
            .unwrap_or(-1);
        let natural = if exit_code == 0 {
            JobStatus::Completed
        } else {
            JobStatus::Failed
        };
        self.end.set(Some(End {
            status: self.ending.get().unwrap_or(natural),
            exit_code,
            at_ms: timing::now_ms(),
            duration: self.started.elapsed(),
        }));
        self.ended.notify_waiters();
    }

    /// Waits for its shell's exit.
    pub async fn wait(&self) {
        while self.is_running() {
            let ended = self.ended.notified();
            if !self.is_running() {
                break;
            }
            ended.await;
        }
    }

    /// SIGTERM to all of its group, and SIGKILL to what is left after `grace`.
    pub async fn end(&self, why: JobStatus, grace: Duration) {
        if self.is_running() && self.ending.get().is_none() {
            self.ending.set(Some(why));
        }
        self.signal(Signal::TERM);
        // What is stopped hears nothing before it goes on.
        self.signal(Signal::CONT);
        let gone = async {
            while !self.is_group_gone() {
                tokio::time::sleep(timing::GROUP_POLL).await;
            }
        };
        tokio::select! {
            () = gone => {}
            () = timing::awake(grace.min(timing::JOB_MAX)) => self.signal(Signal::KILL),
        }
        // Its reaping comes as soon as the kernel lets go of it.
        let _ = tokio::time::timeout(timing::KILLED, self.wait()).await;
    }

    /// Ends the job when its shell runs longer than `limit`.
    pub async fn end_after(&self, limit: Duration, grace: Duration) {
        tokio::select! {
            () = self.wait() => {}
            () = timing::awake(limit.min(timing::JOB_MAX)) => {
                self.end(JobStatus::Timeout, grace).await;
            }
        }
    }

    /// The kernel gave our number to another job: our group had ended.
    pub fn lose_group(&self) {
        self.group_gone.set(true);
    }

    fn is_group_gone(&self) -> bool {
        let gone = || rustix::process::test_kill_process_group(self.pid).is_err();
        if !self.is_running() && !self.group_gone.get() && gone() {
            self.group_gone.set(true);
        }
        self.group_gone.get()
    }

    fn signal(&self, signal: Signal) {
        if !self.is_group_gone() {
            // Gone in between is as good.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }
}

/// The shell, or what it would make way for.
fn start(run: &Run, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Child> {
    let has_bash = rustix::fs::access(Path::new(BASH), Access::EXEC_OK).is_ok();
    if has_bash && let Some(command) = direct::command(run, std::env::vars_os()) {
        let ends = (stdout.try_clone()?, stderr.try_clone()?);
        if let Ok(child) = spawn(command, ends) {
            return Ok(child);
        }
        // A script that names no interpreter, too many arguments: bash knows what to do or say.
    }
    let mut shell = Command::new(if has_bash { BASH } else { "/bin/sh" });
    let environment = run.environment.iter();
    shell
        .arg("-c")
        .arg(&run.command)
        .current_dir(&run.working_dir)
        .envs(environment.map(|(name, value)| (name, value)));
    spawn(shell, (stdout, stderr))
}

fn spawn(mut command: Command, ends: (OwnedFd, OwnedFd)) -> io::Result<Child> {
    // A process group, no session: for that the standard library has to fork, and in gVisor a
    // fork costs as much again as the exec. Without a terminal a session adds nothing.
    command
        .stdin(Stdio::null())
        .stdout(ends.0)
        .stderr(ends.1)
        .process_group(0)
        .spawn()
}

/// The start of a long command.
fn shown(command: &str) -> String {
    command[..command.floor_char_boundary(COMMAND_SHOWN)].to_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
