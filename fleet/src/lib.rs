//! What every part of fleeks agrees on: names, the lifecycle of a workspace, durable records,
//! and the two seams across which parts meet, [`directory::Directory`] and [`door::Door`].
//!
//! Must never happen here: HTTP, TLS, containers. Nothing in this crate depends on another of ours.

pub mod directory;
pub mod door;
pub mod durable;
pub mod id;
pub mod instance;
pub mod lifecycle;
pub mod record;
pub mod share;
pub mod timing;
