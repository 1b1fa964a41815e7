//! A pseudo terminal, and a program in a session of its own that has it as its controlling
//! terminal.
//!
//! Must never happen here: a wait.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use init_protocol::terminal::{OpenTerminal, TerminalSize};
use rustix::fd::OwnedFd;
use rustix::fs::{Access, CWD, Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::net::unix::pipe;

use crate::processes;

const BASH: &str = "/bin/bash";
const SH: &str = "/bin/sh";

/// Our end.
pub struct Pty {
    pub output: pipe::Receiver,
    pub input: pipe::Sender,
}

/// What an interactive shell is called.
pub fn shell() -> &'static str {
    let has_bash = rustix::fs::access(Path::new(BASH), Access::EXEC_OK).is_ok();
    if has_bash { BASH } else { SH }
}

/// Opens a terminal and starts its program there.
pub fn open(call: &OpenTerminal) -> io::Result<(Pty, Child)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    // One thread: nothing of ours may block.
    rustix::io::ioctl_fionbio(&ours, true)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::openat(CWD, name, flags, Mode::empty())?;
    rustix::termios::tcsetwinsize(&theirs, winsize(call.size))?;
    let pty = Pty {
        input: pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?,
        output: pipe::Receiver::from_owned_fd_unchecked(ours)?,
    };
    let child = start(call, theirs)?;
    Ok((pty, child))
}

fn start(call: &OpenTerminal, end: OwnedFd) -> io::Result<Child> {
    let mut program = Command::new(shell());
    if let Some(command) = &call.command {
        program.arg("-c").arg(command);
    }
    let environment = call.environment.iter();
    program
        .env("TERM", "xterm-256color")
        .env("COLORTERM", "truecolor")
        .envs(environment.map(|(name, value)| (name, value)))
        .current_dir(&call.working_dir)
        .stdin(Stdio::from(end.try_clone()?))
        .stdout(Stdio::from(end.try_clone()?))
        .stderr(Stdio::from(end));
    // SAFETY: between fork and exec, of which only system calls are made: no memory is taken, no
    // lock, and nothing of the parent's is changed.
    unsafe {
        program.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    program.spawn()
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Pty {
    /// Its window has another size; who is in the foreground hears of it. gVisor keeps the size, tells
    /// nobody, and does not say who is in the foreground, so we tell all of the session; whom it does
    /// not concern ignores it, and twice does no harm.
    pub fn resize(&self, size: TerminalSize, session: Pid) {
        // A terminal that is gone has no window.
        let _ = rustix::termios::tcsetwinsize(&self.output, winsize(size));
        if let Some(group) = self.foreground() {
            let _ = rustix::process::kill_process_group(group, Signal::WINCH);
            return;
        }
        for pid in processes::of_session(session) {
            let _ = rustix::process::kill_process(pid, Signal::WINCH);
        }
    }

    /// The group of processes that gets its input.
    pub fn foreground(&self) -> Option<Pid> {
        rustix::termios::tcgetpgrp(&self.output).ok()
    }
}
