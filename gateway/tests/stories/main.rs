//! Stories of visitors, over real sockets and real TLS.

mod app;
mod client;
mod house;
mod proxying;
