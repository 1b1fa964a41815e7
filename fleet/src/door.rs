//! The door: the only way into a workspace's container. It lives on the container's node; the
//! gateway knows nothing of it but this trait.
//!
//! Must never happen here: a connection to a container that did not pass [`Door::admit`].

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::TcpStream;

use crate::id::{Generation, WorkspaceId};

/// Which port of a workspace is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortChoice {
    /// The preview session's, else the first well-known dev port that listens, else the lowest.
    Main,
    /// This one (`3000--workspace-….<domain>`).
    Number(u16),
}

/// What the visitor is in for; decides whether it keeps the workspace awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// A request: the workspace does not sleep until it is answered.
    InFlight,
    /// A websocket or event stream: may outlive sleep.
    Attached,
}

/// The answer to a visitor.
#[derive(Debug)]
pub enum Admission {
    /// Come in; hold the guard as long as the visit lasts.
    Admitted(Guard),
    /// Another generation or another node serves it now: the route is stale, look it up again.
    Moved,
    /// It sleeps or is stopped: wake it, then ask again.
    Asleep,
    /// It runs, but nothing listens where the visitor wants to go.
    NotListening(NotListening),
}

/// Nothing listens there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing listens on the port")]
pub struct NotListening {
    /// The port that was asked for; none if [`PortChoice::Main`] found nothing.
    pub port: Option<u16>,
    /// Ports that do listen, ascending.
    pub listening: Vec<u16>,
}

/// Why there was no answer from the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node of this workspace does not answer: {0}")]
pub struct DoorUnavailable(pub String);

/// Admits visitors to containers.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Asks for entry. Costs no I/O while the container runs and its ports are known.
    /// Cancel safe: a dropped call admits nobody.
    ///
    /// # Errors
    /// [`DoorUnavailable`] when the node cannot be asked; worth a retry.
    async fn admit(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
        port: PortChoice,
        visit: Visit,
    ) -> Result<Admission, DoorUnavailable>;
}

/// Proof of entry; counts as a visit until dropped.
pub struct Guard {
    /// The resolved port.
    pub port: u16,
    /// How to open connections for this visit.
    pub upstream: Upstream,
    /// The visit itself; it ends when the last one who holds it lets go.
    pub stay: Arc<dyn Stay>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("port", &self.port)
            .field("upstream", &self.upstream)
            .finish()
    }
}

/// A visit under way: what it tells the node, and what it hears of the container. It ends on drop.
#[async_trait]
pub trait Stay: Send + Sync {
    /// From here on it is [`Visit::Attached`].
    fn attach(&self);

    /// The visitor used the app: said something that is not just a sign of life.
    fn used(&self);

    /// The app said something that is not just a sign of life.
    fn answered(&self);

    /// How the connections stand that were opened for this visit.
    fn standing(&self) -> Standing;

    /// Waits until they stand otherwise than `seen`. Cancel safe.
    async fn changed(&self, seen: Standing) -> Standing;
}

/// How the connections of a visit stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The app hears what is sent.
    Live,
    /// The container stands still or sleeps: nothing should be sent until it is awake. Whether
    /// the connections come back with it is known only then.
    Still,
    /// The container that they led into is gone for good.
    Lost,
}

/// Where an admitted visitor connects to.
#[derive(Clone)]
pub struct Upstream {
    /// The container's address and port. Connect with `connector`, not directly.
    pub address: SocketAddr,
    /// Differs for each container, generation and port: connections may be reused only under an
    /// equal key.
    pub pool_key: u64,
    /// Opens connections.
    pub connector: Arc<dyn Connect>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Opens connections into one port of one container: directly, or through its init when the app
/// listens on 127.0.0.1 only.
#[async_trait]
pub trait Connect: Send + Sync {
    /// One new connection; after it, bytes are the app's.
    ///
    /// # Errors
    /// See [`ConnectError`].
    async fn connect(&self) -> Result<TcpStream, ConnectError>;
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The app went away since admission, or never was there.
    #[error(transparent)]
    NotListening(#[from] NotListening),
    /// The container does not answer within `timing::CONNECT`.
    #[error("the container does not answer")]
    TimedOut,
    /// The container is gone: the route is stale.
    #[error("the container is gone")]
    Gone,
}
