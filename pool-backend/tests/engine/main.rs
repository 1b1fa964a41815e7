//! Scenarios of the engine over real containers. They need root, runc, and the static PID 1
//! (`make init`); `FLEEKS_TEST_RUNTIME=runsc` runs them on gVisor.
//!
//! Each test has a data dir of its own, hence an instance of its own: they run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "all of it is test code"
)]

mod door;
mod files;
mod life;
mod numbers;
mod pools;
mod rig;
mod sleep;
mod trouble;
