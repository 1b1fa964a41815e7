//! The harness: a real `fleeks up` in a world of its own, and the clients that knock at it.
//!
//! Read `world` first. A story (see `scenarios/`) gets a [`World`], makes [`Workspace`]s in it
//! through the API and looks at them from outside: with curl, a websocket, raw bytes, or the
//! Python SDK that users have.
//!
//! Must never happen here: a mock, a fixed sleep, a process or kernel object that outlives its
//! world, anything touched that belongs to another instance.

pub mod api;
pub mod apps;
pub mod curl;
pub mod disk;
pub mod memory;
pub mod metrics;
pub mod plot;
pub mod process;
pub mod python;
pub mod raw;
pub mod registry;
pub mod tally;
pub mod templates;
pub mod together;
pub mod traces;
pub mod wait;
pub mod ways;
pub mod websocket;
pub mod workspace;
pub mod world;

pub use api::{Api, Reply};
pub use curl::Curl;
pub use workspace::Workspace;
pub use world::{Runtime, World};
