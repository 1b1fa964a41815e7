//! Stories of visitors, over real sockets and real TLS.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod app;
mod client;
mod house;
mod limits;
mod proxying;
mod refusals;
mod sharing;
mod streams;
mod waking;
mod websockets;
