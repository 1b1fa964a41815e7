//! Where slugs lead: a cache in front of the directory, kept fresh by its changes.
//!
//! A cached route may be stale, and that is fine: the door knows the truth and says `Moved` or
//! `Asleep`. So the cache only saves questions; it never decides.
//!
//! Must never happen here: 'absent' where the directory was unavailable, or a cached absence.

use std::sync::Arc;

use dashmap::DashMap;
use fleet::directory::{Change, Directory, DirectoryError, Route};
use fleet::id::Slug;
use tokio::sync::broadcast::error::RecvError;

/// More routes than this are not remembered; the cache starts anew.
const CAPACITY: usize = 65_536;

/// See the module.
pub(crate) struct Routes {
    directory: Arc<dyn Directory>,
    cached: DashMap<Slug, Route>,
}

impl Routes {
    /// An empty cache. [`Routes::follow`] must run for it to stay fresh.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self {
            directory,
            cached: DashMap::new(),
        }
    }

    /// Where `slug` leads. `Ok(None)`: certainly nowhere. No round trip when cached.
    pub async fn get(&self, slug: &Slug) -> Result<Option<Route>, DirectoryError> {
        if let Some(route) = self.cached.get(slug) {
            return Ok(Some(route.clone()));
        }
        let route = self.directory.route(slug).await?;
        if let Some(route) = &route {
            self.learn(slug, route);
        }
        Ok(route)
    }

    /// Remembers a route, unless a newer generation's is known.
    pub fn learn(&self, slug: &Slug, route: &Route) {
        if self.cached.len() >= CAPACITY {
            self.cached.clear();
        }
        let mut entry = self
            .cached
            .entry(slug.clone())
            .or_insert_with(|| route.clone());
        if entry.generation <= route.generation {
            entry.clone_from(route);
        }
    }

    /// Forgets a route that proved stale.
    pub fn forget(&self, slug: &Slug) {
        self.cached.remove(slug);
    }

    /// Applies the directory's changes to cached routes for as long as the directory lives.
    pub async fn follow(&self) {
        let mut changes = self.directory.changes();
        loop {
            match changes.recv().await {
                Ok(Change { slug, route: None }) => self.forget(&slug),
                Ok(Change {
                    slug,
                    route: Some(route),
                }) => {
                    // Only what somebody visits: the cache is not a copy of the directory.
                    if let Some(mut known) = self.cached.get_mut(&slug)
                        && known.generation <= route.generation
                    {
                        *known = route;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "route changes were missed; the cache starts anew");
                    self.cached.clear();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
