//! Event streams over sleep. Pingora carries them, and waits for the app's next event for as long
//! as it takes; so somebody else must notice that the app's container is gone for good, and end
//! the stream: the visitor's side then connects again.
//!
//! Must never happen here: a stream kept open that nobody can ever say anything on.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use fleet::door::{Standing, Stay};
use pingora_core::protocols::l4::ext::{TcpKeepalive, set_tcp_keepalive};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use fleet::timing::{PROBE_AFTER, PROBE_INTERVAL};

/// Unanswered probes after which a visitor is gone.
const PROBES: usize = 5;

/// The connection of one event stream to its app.
#[derive(Debug, Default)]
pub(crate) struct Thread(Mutex<Option<OwnedFd>>);

impl Thread {
    /// This is it.
    pub fn spin(&self, tcp: &TcpStream) {
        let own = tcp.as_fd().try_clone_to_owned();
        if let Err(error) = &own {
            tracing::warn!(%error, "an event stream may outlive its container");
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = own.ok();
    }

    /// Ends it when the container is gone; for as long as what is returned lives.
    pub fn hang_on(self: &Arc<Self>, stay: Arc<dyn Stay>) -> AbortOnDropHandle<()> {
        let thread = Arc::clone(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut standing = stay.standing();
            while standing != Standing::Lost {
                standing = stay.changed(standing).await;
            }
            thread.cut();
        }))
    }

    fn cut(&self) {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(own) = own {
            let socket = std::net::TcpStream::from(own);
            // It may have ended already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Lets the kernel notice visitors who vanished: on a stream that is silent nothing else would.
pub(crate) fn probe(visitor: &TcpStream) {
    let keepalive = TcpKeepalive {
        idle: PROBE_AFTER,
        interval: PROBE_INTERVAL,
        count: PROBES,
        user_timeout: std::time::Duration::ZERO,
    };
    if let Err(error) = set_tcp_keepalive(visitor, &keepalive) {
        tracing::debug!(%error, "keep-alive");
    }
}
