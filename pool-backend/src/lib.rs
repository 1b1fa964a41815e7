//! The node's engine: pools of warm containers, runtimes, networks, volumes, the driver that owns
//! each workspace, and the door through which visitors come in.
//!
//! From the outside: [`Workspaces`] is all that the API sees, [`fleet::door::Door`] all that the
//! gateway sees, and [`node::Node`] is what `fleeks up` starts and stops.
//!
//! Must never happen here: HTTP, or a container changed by anything but its driver.

mod adopt;
mod archive;
pub mod cgroup;
pub mod config;
mod door;
mod driver;
mod engine;
pub mod error;
pub mod faults;
mod idle;
mod image;
pub mod init_client;
mod keeper;
mod metrics;
pub mod network;
pub mod node;
pub mod oci;
mod pool;
mod provision;
mod quota;
mod reconcile;
pub mod rootfs;
pub mod runtime;
pub mod snapshot;
mod spool;
pub mod sweep;
mod table;
pub mod template;
mod uploads;
pub mod volume;
mod volume_files;
mod wakes;
mod watches;
pub mod workspaces;

pub use archive::{Format, stays_inside};
pub use error::{Error, ErrorKind};
pub use init_protocol::CONTROL_PORT;
pub use provision::{Progress, Unavailable, Unused, UnusedKind};
pub use quota::Holdings;
pub use workspaces::{Workspace, Workspaces};
