//! PID 1 of every container: reaps, runs shell lines and keeps their output bounded, has
//! terminals, writes files, tells of changes of them, of processes and of listening ports. One
//! thread, no name service, nothing that
//! a checkpoint could not keep.
//!
//! It waits by `poll`, not `epoll` (`make init` sets mio's cfg for that): gVisor can save an epoll
//! whose list of ready files contradicts itself, and after the restore that epoll never again
//! tells of some of its files. `poll` keeps nothing between calls. So [`tokio::io::unix::AsyncFd`]
//! is not to be used here: with mio's `poll` it hears of one event only. The types of `tokio::net`
//! are, `unix::pipe::Receiver::from_owned_fd_unchecked` for what is neither socket nor pipe.
//!
//! `workspace-init CONFIG`; see [`config`]. Not as PID 1 it does the same as a subreaper, for
//! tests.
//!
//! Must never happen here: a panic (it would end the container), a thread per call (a fork bomb
//! must not silence init), memory or disk that grows with what user code prints.

mod config;
mod files;
mod forward;
mod jobs;
mod ports;
mod processes;
mod refusal;
mod server;
mod terminals;
mod timing;
mod watch;

use std::convert::Infallible;
use std::io::Write as _;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::task::LocalSet;

use crate::config::Config;
use crate::jobs::Jobs;
use crate::server::Server;

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(error) => {
            // Seen only where someone started it by hand: a container's stderr is /dev/null.
            let _ = writeln!(std::io::stderr(), "workspace-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Infallible, Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which CONFIG file?")?;
    let config = Rc::new(Config::read(path.as_ref())?);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if !rustix::process::getpid().is_init() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let jobs = Jobs::start(&config.jobs)?;
        let server = Server::bind(config, jobs).await?;
        Ok(server.serve().await)
    })
}
