//! Who calls: put into the request by the server, which checked the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::FromRequestParts;
use fleet::id::{KeyId, OwnerId};
use http::StatusCode;
use http::request::Parts;
use time::OffsetDateTime;

use crate::Problem;

/// The holder of a valid key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose workspaces are seen.
    pub owner: OwnerId,
    /// The owner's name.
    pub owner_name: Arc<str>,
    /// The key used.
    pub key: KeyId,
    /// When that key was made.
    pub key_created_at: OffsetDateTime,
    /// May manage keys and owners.
    pub admin: bool,
    /// Counts of this key.
    pub usage: Arc<KeyUsage>,
}

/// What was done with a key since this process started.
#[derive(Debug)]
pub struct KeyUsage {
    since: OffsetDateTime,
    requests: AtomicU64,
}

impl KeyUsage {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            since: OffsetDateTime::now_utc(),
            requests: AtomicU64::new(0),
        }
    }

    /// One more request.
    pub fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// When counting began.
    pub fn since(&self) -> OffsetDateTime {
        self.since
    }
}

impl Default for KeyUsage {
    fn default() -> Self {
        Self::new()
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
