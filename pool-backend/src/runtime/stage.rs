//! What a new process does before it becomes a runtime: system calls only, no lock, no allocation.

use std::ffi::{CStr, CString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fleet::id::InstanceId;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

/// Moves the calling process into a mount namespace of its own. What is unmounted on the host goes
/// there too; what is mounted there stays there, and goes with its last process.
///
/// # Errors
/// What the system said.
pub fn own_mounts() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(
        None::<&std::ffi::CStr>,
        c"/",
        None::<&std::ffi::CStr>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&std::ffi::CStr>,
    )?;
    Ok(())
}

/// The host's.
const RUN: &str = "/run";
/// In memory on every Linux.
const SHARED_MEMORY: &str = "/dev/shm";
/// What runtimes need of the host's `/run`.
const NETNS: &str = "netns";

/// Where CRIU remembers what it found out about the kernel: it asks again, for some 100 ms, each
/// time it does not find `/run/criu.kdat`, and writes that only where `/run` is in memory. Elsewhere
/// it gets a `/run` of its own.
#[derive(Debug, Clone)]
pub struct KernelFacts {
    directory: PathBuf,
    mounts: [(CString, CString); 2],
}

impl KernelFacts {
    /// None where none is needed, or there is no memory for it.
    pub fn open(instance: &InstanceId, data_dir: &Path) -> Option<Self> {
        let is_memory = |path| {
            nix::sys::statfs::statfs(path)
                .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
        };
        let data_dir = data_dir.canonicalize().ok()?;
        if is_memory(RUN) || !is_memory(SHARED_MEMORY) || data_dir.starts_with(RUN) {
            return None;
        }
        let directory = Path::new(SHARED_MEMORY).join(format!("fleeks-{instance}"));
        // A killed node's, perhaps with a file that CRIU did not finish.
        drop(std::fs::remove_dir_all(&directory));
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.create(&directory).ok()?;
        builder.create(directory.join(NETNS)).ok()?;
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let namespaces = (
            text(&Path::new(RUN).join(NETNS))?,
            text(&directory.join(NETNS))?,
        );
        let run = (text(&directory)?, text(Path::new(RUN))?);
        Some(Self {
            directory,
            mounts: [namespaces, run],
        })
    }

    /// For a process with mounts of its own, see [`own_mounts`]. It is no fault where it fails.
    pub fn mount(&self) {
        for (from, to) in &self.mounts {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            let (from, to) = (Some(from.as_c_str()), to.as_c_str());
            if nix::mount::mount(from, to, None::<&CStr>, flags, None::<&CStr>).is_err() {
                return;
            }
        }
    }

    /// When nothing of the instance runs any more.
    pub fn remove(&self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}
