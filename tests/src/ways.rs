//! A network in which nothing changes, for browsers. Chromium ends its connections when an
//! interface of the machine comes or goes (`ERR_NETWORK_CHANGED`), and beside other stories those
//! of sandboxes come and go all the time. So a browser gets a network namespace of its own, and
//! ways lead from there to ports of ours on loopback, through Unix sockets.
//!
//! Inside, whoever starts the browser listens on the same ports and passes each connection on to
//! the socket `PORT` in the directory that `FLEEKS_WAYS` names (`console/test/ways.ts`).

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// What makes the network before it becomes the program: loopback, and an interface that is up, or
/// the browser takes itself to be offline.
const ENTER: &str = "ip link set lo up && ip link add still0 type veth peer name still1 \
    && ip addr add 192.0.2.1/24 dev still0 && ip link set still0 up && ip link set still1 up \
    && exec \"$@\"";

/// See the module. They are shut on drop.
pub struct Ways {
    directory: TempDir,
    listeners: Vec<PathBuf>,
    shut: Arc<AtomicBool>,
}

impl Ways {
    /// Ways to these ports of 127.0.0.1.
    pub fn to(ports: &[u16]) -> Result<Self> {
        let mut ways = Self {
            directory: tempfile::tempdir().context("make a place for sockets")?,
            listeners: Vec::new(),
            shut: Arc::default(),
        };
        for port in ports {
            let path = ways.directory.path().join(port.to_string());
            let listener = UnixListener::bind(&path).context("listen on a Unix socket")?;
            let (shut, port) = (Arc::clone(&ways.shut), *port);
            ways.listeners.push(path);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shut.load(Ordering::Acquire) {
                        return;
                    }
                    if let Ok(stream) = stream {
                        std::thread::spawn(move || pass_on(stream, port));
                    }
                }
            });
        }
        Ok(ways)
    }

    /// A command in the network that nothing changes in.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", ENTER, "sh", program]);
        command.env("FLEEKS_WAYS", self.directory.path());
        command
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        self.shut.store(true, Ordering::Release);
        for path in &self.listeners {
            // Only so that the thread looks.
            let _ = UnixStream::connect(path);
        }
    }
}

fn pass_on(near: UnixStream, port: u16) {
    let pass = || -> io::Result<()> {
        let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        far.set_nodelay(true)?;
        let (mut from_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
        let there = std::thread::spawn(move || {
            let _ = io::copy(&mut from_near, &mut to_far);
            let _ = to_far.shutdown(Shutdown::Write);
        });
        let (mut from_far, mut to_near) = (far, near);
        let _ = io::copy(&mut from_far, &mut to_near);
        // The browser's end goes with ours: half a connection is of no use to it.
        let _ = to_near.shutdown(Shutdown::Both);
        let _ = there.join();
        Ok(())
    };
    // A browser that cannot connect says so itself.
    let _ = pass();
}
