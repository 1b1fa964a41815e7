//! Stories of the real static init, called by the real client: it runs as PID 1 of a PID
//! namespace of its own, on a loopback address of its own. Needs root, and `make init` before.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a story that cannot be told fails; the exception for tests does not reach helpers"
)]

mod bounds;
mod files;
mod hostile;
mod jobs;
mod measure;
mod network;
mod terminals;
mod watch;
mod world;
