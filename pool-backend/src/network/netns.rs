//! Named network namespaces, and a netlink connection inside each.
//!
//! Must never happen here: a thread that entered a namespace and is used for anything else.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use rtnetlink::Handle;

use super::NetworkError;
use super::link::io_refused;

/// Where `ip netns` looks too.
pub const NETNS_DIR: &str = "/run/netns";

/// A namespace's mount point.
pub fn netns_path(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// A named network namespace. Its name is taken away again on drop, unless [`Netns::keep`] was
/// called once something runs in it.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    kept: bool,
}

impl Netns {
    /// For [`crate::runtime::ContainerSpec::netns`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on only [`super::Network::release`] takes it away.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // A link goes with the namespace that holds its other end.
        if let Err(error) = remove_netns(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a network namespace stays behind");
        }
    }
}

/// Makes a named network namespace and a netlink connection inside it. Cancel safe: what is made
/// for nobody goes again at once.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn make_netns(name: &str) -> Result<(Netns, File, Handle), NetworkError> {
    // Of the thread's, so that it is its answer or goes with it: the caller may be gone by then.
    let netns = Netns {
        path: netns_path(name),
        kept: false,
    };
    let runtime = tokio::runtime::Handle::current();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own: it cannot leave the namespace again, so it must end.
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            let made = enter_new_netns(netns.path()).and_then(|namespace| {
                let _in_runtime = runtime.enter();
                let (connection, handle, _) = rtnetlink::new_connection()?;
                runtime.spawn(connection);
                Ok((netns, namespace, handle))
            });
            drop(sender.send(made));
        })
        .map_err(io_refused("start a thread"))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread died")))
        .map_err(io_refused("make a network namespace"))
}

/// Moves the calling thread into a new namespace that is mounted at `path`.
fn enter_new_netns(path: &Path) -> io::Result<File> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    for (key, value) in [
        // No IPv6 inside: there is no route for it, and a rule less to get wrong.
        ("ipv6/conf/all/disable_ipv6", "1"),
        // No capabilities inside, but port 80 should work.
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        match std::fs::write(Path::new("/proc/sys/net").join(key), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let namespace = File::open("/proc/thread-self/ns/net")?;
    File::create_new(path)?;
    nix::mount::mount(
        Some("/proc/thread-self/ns/net"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(namespace)
}

/// Makes the directory of namespaces, shared as `ip netns` does it: namespaces that are taken
/// away here then also go from mount namespaces made meanwhile.
///
/// # Errors
/// [`NetworkError::Refused`].
pub fn make_netns_dir() -> Result<(), NetworkError> {
    let share = || {
        std::fs::create_dir_all(NETNS_DIR)?;
        let make_shared = || {
            nix::mount::mount(
                None::<&str>,
                NETNS_DIR,
                None::<&str>,
                MsFlags::MS_SHARED | MsFlags::MS_REC,
                None::<&str>,
            )
        };
        if make_shared() == Err(nix::errno::Errno::EINVAL) {
            nix::mount::mount(
                Some(NETNS_DIR),
                NETNS_DIR,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            make_shared()?;
        }
        Ok(())
    };
    share().map_err(io_refused("make the directory of network namespaces"))
}

/// Takes a namespace's name away; it ends when its last process does. Idempotent.
///
/// # Errors
/// What the system said.
pub fn remove_netns(path: &Path) -> io::Result<()> {
    // A name may carry several mounts when a start was cut in the middle.
    while nix::mount::umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
