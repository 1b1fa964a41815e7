//! Who calls: put into the request by the server, which checked the key.

mod usage;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use fleet::id::{KeyId, OwnerId};
use fleet::record::Rate;
use http::StatusCode;
use http::request::Parts;
use time::OffsetDateTime;

use crate::Problem;

pub use usage::{Count, Counter, KeyUsage};

/// The holder of a valid key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose workspaces are seen.
    pub owner: OwnerId,
    /// The owner's name.
    pub owner_name: Arc<str>,
    /// The key used.
    pub key: Arc<KeyFacts>,
    /// May manage keys and owners.
    pub admin: bool,
    /// Counts of this key.
    pub usage: Arc<KeyUsage>,
    /// Milliseconds that this owner's workspaces ran.
    pub running_ms: Arc<Counter>,
}

/// What a key's holder may know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `KeyRecord`")]
pub struct KeyFacts {
    pub id: KeyId,
    pub name: Option<String>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    /// In words, resolved.
    pub scopes: Vec<&'static str>,
    /// Requests a second and at once; none: without a limit.
    pub rate: Option<Rate>,
}

/// Whether a key that was good still is: for what goes on for longer than a request.
#[derive(Clone)]
pub struct StillGood(Arc<dyn Fn() -> bool + Send + Sync>);

impl StillGood {
    /// Asks `look` each time.
    pub fn new(look: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// Neither revoked nor expired.
    pub fn is_good(&self) -> bool {
        (self.0)()
    }
}

type Judge = dyn Fn(&str) -> Result<(Caller, StillGood), Problem> + Send + Sync;

/// Judges a key that comes after its request's head, in a websocket's first message. The server
/// puts it into requests without a key that may do so.
#[derive(Clone)]
pub struct Gatekeeper(Arc<Judge>);

impl Gatekeeper {
    /// Asks `judge`.
    pub fn new(
        judge: impl Fn(&str) -> Result<(Caller, StillGood), Problem> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(judge))
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// What the answer to a request with this key would have been.
    pub fn admit(&self, key: &str) -> Result<(Caller, StillGood), Problem> {
        (self.0)(key)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "an API key is required"))
    }
}

/// Turns a call into one that goes on when its caller hangs up: what is half done when a client
/// disconnects must not stay half done.
pub(crate) async fn detached<T, F>(work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: Future<Output = Result<T, pool_backend::Error>> + Send + 'static,
{
    use tracing::Instrument as _;
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result.map_err(Problem::from),
        Err(error) => {
            tracing::error!(%error, "a detached call ended without an answer");
            Err(Problem::internal())
        }
    }
}
