//! What is done before processes stand still whose runtime cannot keep their connections.
//!
//! gVisor ends what is connected to the outside while it writes the images. The processes hear of
//! that in the middle of being saved, and the epolls that they wait with may be broken for good
//! then: a server never accepts again. So connections are ended before, while their owners can see
//! it. What cannot be ended from here, connections that a container made to the outside, is
//! counted, for who decides about hibernation.
//!
//! Must never happen here: a connection ended that the runtime would have kept.

use std::sync::Arc;

use fleet::timing;
use tokio::time::{Instant, sleep, timeout_at};

use super::Driver;
use super::gate::Gate;

impl Driver {
    /// Behind a shut gate. Ends early when somebody knocks.
    pub(super) async fn part(&self, gate: &Arc<Gate>) {
        let launcher = &self.engine.launcher;
        if launcher.runtime.sleep().keeps_connections {
            return;
        }
        if let Err(error) = launcher.network.part(gate.address).await {
            tracing::warn!(workspace = %self.handle.id(), %error, "connections stay");
        }
        let deadline = Instant::now() + timing::PARTING;
        let mut outside = None;
        while !gate.is_knocked() {
            match timeout_at(deadline, gate.init.connections()).await {
                Ok(Ok(count)) => outside = Some(count),
                // An init that is busy, or of an older node.
                Ok(Err(_)) | Err(_) => break,
            }
            if outside == Some(0) || Instant::now() + timing::PARTING_LOOK >= deadline {
                break;
            }
            sleep(timing::PARTING_LOOK).await;
        }
        gate.keep_outside(outside);
        if outside != Some(0) {
            tracing::debug!(workspace = %self.handle.id(), ?outside, "connections to the outside");
        }
    }
}
