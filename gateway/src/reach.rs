//! From a slug to an open door: route, wake where needed, admission.
//!
//! Must never happen here: a connection, or a way in that is not the door's.

use std::sync::Arc;
use std::time::Duration;

use fleet::directory::Route;
use fleet::door::{Admission, Door, Guard, PortChoice, Visit};
use fleet::id::{LinkId, Slug, WorkspaceId};
use fleet::lifecycle::State;
use fleet::timing::{DISAGREEMENT, HOLDING_PAGE_AFTER};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::refusal::{Kind, Refusal};
use crate::routes::Routes;
use crate::share;
use crate::wake::{WakeError, Wakes};

/// A stale route is looked up again this often before the visitor is turned away.
const ATTEMPTS: u32 = 6;

/// What a visitor wants.
pub(crate) struct Wish<'a> {
    /// Whose app.
    pub slug: &'a Slug,
    /// On which port.
    pub port: PortChoice,
    /// For how long.
    pub visit: Visit,
    /// When the request came, and that it may be answered by the holding page.
    pub holding_page_since: Option<Instant>,
    /// The address of another port, for links.
    pub link: &'a (dyn Fn(u16) -> String + Sync),
    /// The share links that the visitor came by, found out when that matters.
    pub shown: &'a (dyn Fn() -> Vec<LinkId> + Sync),
}

/// Let in.
pub(crate) struct Entered {
    /// Proof; hold it as long as the visit lasts.
    pub guard: Guard,
}

/// See the module.
pub(crate) struct Reach {
    /// Cached routes.
    pub routes: Routes,
    wakes: Arc<Wakes>,
    door: Arc<dyn Door>,
    metrics: Arc<Metrics>,
    longest: Duration,
}

impl Reach {
    /// Over these parts; nobody waits for longer than `longest`.
    pub fn new(
        routes: Routes,
        wakes: Arc<Wakes>,
        door: Arc<dyn Door>,
        metrics: Arc<Metrics>,
        longest: Duration,
    ) -> Self {
        Self {
            routes,
            wakes,
            door,
            metrics,
            longest,
        }
    }

    /// Gets in, waking the workspace if it sleeps. Ends by the wake's deadline, also for who joins
    /// one wake after another.
    pub async fn enter(&self, wish: &Wish<'_>) -> Result<Entered, Refusal> {
        match tokio::time::timeout(self.longest, self.keep_trying(wish)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(too_late()),
        }
    }

    async fn keep_trying(&self, wish: &Wish<'_>) -> Result<Entered, Refusal> {
        for attempt in 0..ATTEMPTS {
            if attempt > 1 {
                // Door and directory disagree: one of them is a moment behind.
                tokio::time::sleep(DISAGREEMENT * attempt).await;
            }
            let route = self.routes.get(wish.slug).await?;
            let mut route = route.ok_or_else(Refusal::no_workspace)?;
            if route.private.is_some() {
                route = self.may_enter(wish, route).await?;
            }
            if !may_be_open(route.state) {
                self.wake(wish, &route).await?;
                continue;
            }
            let admission = self
                .door
                .admit(&route.workspace, route.generation, wish.port, wish.visit)
                .await;
            match admission {
                Ok(Admission::Admitted(guard)) => return Ok(Entered { guard }),
                Ok(Admission::NotListening(what)) => {
                    return Err(Refusal::not_listening(&what, wish.link));
                }
                Ok(Admission::Asleep) => self.wake(wish, &route).await?,
                Ok(Admission::Moved) => self.routes.forget(wish.slug),
                Err(unavailable) => {
                    tracing::debug!(%unavailable, workspace = %route.workspace, "door");
                    self.routes.forget(wish.slug);
                    return Err(Refusal::unavailable());
                }
            }
        }
        Err(Refusal::unavailable())
    }

    async fn wake(&self, wish: &Wish<'_>, route: &Route) -> Result<(), Refusal> {
        let began = Instant::now();
        let woken = self.until_awake(wish, route).await;
        let told = woken.as_ref().err().map(|refusal| refusal.kind);
        self.metrics.waited(wish.visit, began, told);
        woken
    }

    /// Before anything is woken: whether the visitor's share links open a private workspace. One
    /// that was made a moment ago may not have reached our cache.
    async fn may_enter(&self, wish: &Wish<'_>, route: Route) -> Result<Route, Refusal> {
        let shown = (wish.shown)();
        let opens = |route: &Route| {
            let private = route.private.as_deref();
            private.is_none_or(|private| share::opens(private, &shown))
        };
        if opens(&route) {
            return Ok(route);
        }
        if shown.is_empty() {
            return Err(Refusal::private());
        }
        let fresh = self.fresh(wish.slug).await?;
        opens(&fresh).then_some(fresh).ok_or_else(Refusal::private)
    }

    /// As the directory has it now.
    pub async fn fresh(&self, slug: &Slug) -> Result<Route, Refusal> {
        self.routes.forget(slug);
        let route = self.routes.get(slug).await?;
        route.ok_or_else(Refusal::no_workspace)
    }

    /// Waits for the wake; the new route is then known.
    async fn until_awake(&self, wish: &Wish<'_>, route: &Route) -> Result<(), Refusal> {
        if !route.auto_wake {
            // The owner may have changed that since the route was cached.
            self.routes.forget(wish.slug);
            let fresh = self.routes.get(wish.slug).await?;
            let fresh = fresh.ok_or_else(Refusal::no_workspace)?;
            if !fresh.auto_wake && !may_be_open(fresh.state) {
                let detail = "It sleeps, and its owner decided that visits do not wake it.";
                return Err(Refusal::new(Kind::Asleep, detail));
            }
        }
        let waking = self.wakes.wake(&route.workspace, wish.slug);
        let woken = match wish.holding_page_since {
            None => waking.await,
            Some(since) => {
                match tokio::time::timeout_at(since + HOLDING_PAGE_AFTER, waking).await {
                    Ok(woken) => woken,
                    Err(_) => {
                        let detail = "This page continues by itself as soon as the app is awake.";
                        return Err(Refusal::new(Kind::Waking, detail));
                    }
                }
            }
        };
        match woken {
            Ok(route) => {
                self.routes.learn(wish.slug, &route);
                Ok(())
            }
            Err(error) => {
                self.routes.forget(wish.slug);
                Err(refusal(error, &route.workspace))
            }
        }
    }
}

/// Whether asking the door makes sense; in the other states only a wake does.
fn may_be_open(state: State) -> bool {
    match state {
        State::Running | State::Freezing | State::Frozen | State::Hibernating => true,
        State::Stopped
        | State::Starting
        | State::Hibernated
        | State::Waking
        | State::Failed
        | State::Deleted => false,
    }
}

fn too_late() -> Refusal {
    let detail = "The workspace did not wake in time; try again shortly.";
    Refusal::new(Kind::WakeTimeout, detail)
}

fn refusal(error: WakeError, workspace: &WorkspaceId) -> Refusal {
    match error {
        WakeError::TimedOut => {
            tracing::warn!(%workspace, "wake deadline");
            too_late()
        }
        WakeError::Failed(why) => Refusal::new(Kind::WakeFailed, why),
        WakeError::Absent => Refusal::no_workspace(),
        WakeError::Unavailable => Refusal::unavailable(),
        WakeError::Busy => {
            let detail = "Too many requests wait for this workspace; try again shortly.";
            Refusal::new(Kind::Busy, detail)
        }
    }
}
