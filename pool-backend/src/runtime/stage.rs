//! What a new process does before it becomes a runtime: system calls only, no lock, no allocation.

use std::io;

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
