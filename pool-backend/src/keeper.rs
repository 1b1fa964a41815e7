//! One task per template that does what its pool says: makes warm containers and hands them out.
//! [`sizer`] says for how many there is room, and takes away what is too many.
//!
//! Must never happen here: a decision of how many (that is `pool`'s), or a claimed container
//! touched.

mod machine;
mod sizer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::id::{Generation, TemplateName};
use fleet::lifecycle::State;
use fleet::record::WorkspaceRecord;
use fleet::timing;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::driver::turns::{AHEAD, Urgency};
use crate::engine::Engine;
use crate::error::Error;
use crate::init_client::{InitClient, InitError};
use crate::pool::room::Wish;
use crate::pool::{Pool, PoolSize};
use crate::provision;
use crate::runtime::ContainerStatus;
use crate::workspaces::PoolStatus;
pub(crate) use sizer::{Room, Sizer};

/// So many that do not answer are tried for a claim, before its workspace starts from nothing.
const SILENT: usize = 2;

/// A container that runs and belongs to nobody yet.
pub(crate) struct Warm {
    pub(crate) record: WorkspaceRecord,
    pub(crate) init: InitClient,
}

/// One template's pool and the bell of its keeper.
pub(crate) struct Shelf {
    template: TemplateName,
    pool: Mutex<Pool<Warm>>,
    bell: Notify,
}

impl Shelf {
    pub(crate) fn new(template: TemplateName, size: PoolSize) -> Self {
        Self {
            template,
            pool: Mutex::new(Pool::new(size, Instant::now())),
            bell: Notify::new(),
        }
    }

    /// A warm container, if there is one. One that runs has answered; one that was lulled (its
    /// record says so from now on) had answered before, and nothing in it has happened since. Dead
    /// ones on the way are thrown away.
    pub(crate) async fn claim(&self, engine: &Arc<Engine>) -> Option<Warm> {
        let came = |hit| {
            engine.launcher.metrics.pools.came(&self.template, hit);
            self.came(hit);
        };
        for _ in 0..SILENT {
            let Some(warm) = self.claim_one(engine).await else {
                break;
            };
            match warm {
                Ok(warm) => {
                    came(true);
                    return Some(warm);
                }
                Err(silent) => engine.scrap_later(silent.record),
            }
        }
        came(false);
        None
    }

    /// The next that is not dead, or one that says nothing at all.
    async fn claim_one(&self, engine: &Arc<Engine>) -> Option<Result<Warm, Warm>> {
        loop {
            let mut warm = self.pool.lock().claim()?;
            let id = engine.launcher.id_of(&warm.record);
            let answer = match engine.launcher.runtime.status(&id).await {
                // To let it go on and ask it would take its processes some 6 ms of CPU time, and
                // whoever uses it first does that anyway.
                Ok(ContainerStatus::Paused) => {
                    warm.record.state = State::Frozen;
                    return Some(Ok(warm));
                }
                Ok(ContainerStatus::Running) => {
                    timeout(timing::WARM_ANSWER, warm.init.ping()).await
                }
                _ => Ok(Err(InitError::Protocol("it does not run"))),
            };
            match answer {
                Ok(Ok(())) => return Some(Ok(warm)),
                Err(_) | Ok(Err(InitError::TimedOut)) => {
                    tracing::warn!(container = %warm.record.container, "a warm container is silent");
                    return Some(Err(warm));
                }
                _ => {
                    tracing::warn!(container = %warm.record.container, "a warm container is dead");
                    engine.scrap_later(warm.record);
                }
            }
        }
    }

    fn came(&self, hit: bool) {
        self.pool.lock().came(hit, Instant::now());
        self.bell.notify_one();
    }

    /// A claim that found one took this long, until its workspace was there.
    pub(crate) fn took(&self, engine: &Engine, time: Duration) {
        engine.launcher.metrics.pools.claimed(&self.template, time);
        self.pool.lock().took(time);
    }

    /// A warm container from before this process; given back when there are enough.
    pub(crate) fn adopt(&self, warm: Warm) -> Option<Warm> {
        self.pool.lock().adopt(warm, Instant::now())
    }

    /// Takes out those that `gone` names.
    pub(crate) fn evict(&self, gone: impl Fn(&WorkspaceRecord) -> bool) -> Vec<Warm> {
        let evicted = self.pool.lock().evict(|warm| gone(&warm.record));
        if !evicted.is_empty() {
            self.bell.notify_one();
        }
        evicted
    }

    /// What it would have if there were room.
    fn wish(&self) -> Wish {
        self.pool.lock().wish(Instant::now())
    }

    /// There is room for so many.
    fn allow(&self, allowed: u32) {
        if self.pool.lock().allow(allowed, Instant::now()) {
            self.bell.notify_one();
        }
    }

    /// Takes out one that is too many.
    fn surplus(&self) -> Option<Warm> {
        self.pool.lock().surplus()
    }

    /// Those that are there, and those on their way.
    fn warm(&self) -> u32 {
        self.pool.lock().warm()
    }

    /// Looks at up to so many of those that are there.
    fn sample<R>(&self, count: usize, look: impl Fn(&WorkspaceRecord) -> R) -> Vec<R> {
        let pool = self.pool.lock();
        let ready = pool.ready().iter().take(count);
        ready.map(|warm| look(&warm.record)).collect()
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let standing = self.pool.lock().standing(Instant::now());
        PoolStatus::new(self.template.clone(), standing)
    }
}

/// Runs until the engine stops warming.
pub(crate) async fn keep(engine: Arc<Engine>, shelf: Arc<Shelf>) {
    let resting = engine.resting.clone();
    loop {
        let plan = shelf.pool.lock().plan(Instant::now(), AHEAD);
        for _ in 0..plan.start {
            let refill = refill(Arc::clone(&engine), Arc::clone(&shelf));
            engine.tasks.spawn(refill);
        }
        tokio::select! {
            () = resting.cancelled() => return,
            () = shelf.bell.notified() => {}
            () = tokio::time::sleep(plan.again.unwrap_or(timing::RECONCILE)) => {}
        }
    }
}

async fn refill(engine: Arc<Engine>, shelf: Arc<Shelf>) {
    let began = Instant::now();
    let metrics = &engine.launcher.metrics.pools;
    match warm_up(&engine, &shelf.template).await {
        Ok(warm) if engine.resting.is_cancelled() => {
            shelf.pool.lock().failed("shutting down", Instant::now());
            // A crash leaves it to the next start; an orderly end takes it away.
            if !engine.cancelled.is_cancelled() {
                engine.scrap(warm.record).await;
            }
        }
        Ok(warm) => {
            let took = began.elapsed();
            metrics.refilled(&shelf.template, Some(took));
            shelf.pool.lock().refilled(warm, took);
        }
        Err(error) => {
            tracing::warn!(
                template = %shelf.template, %error, cause = error.cause_text(), "no warm container",
            );
            metrics.refilled(&shelf.template, None);
            shelf.pool.lock().failed(&error.message, Instant::now());
        }
    }
    shelf.bell.notify_one();
}

/// Recorded before it is started (its token must outlive us) and again when it runs.
async fn warm_up(engine: &Arc<Engine>, template: &TemplateName) -> Result<Warm, Error> {
    engine.launcher.after_others().await;
    let mut record = engine.launcher.mint(template).await?;
    record.generation = Generation(1);
    record.state = State::Starting;
    match launch(engine, &mut record).await {
        Ok(init) => Ok(Warm { record, init }),
        Err(error) => {
            engine.scrap(record).await;
            Err(error)
        }
    }
}

async fn launch(engine: &Arc<Engine>, record: &mut WorkspaceRecord) -> Result<InitClient, Error> {
    engine.save(record).await?;
    provision::provide(engine, &record.template).await?;
    let init = engine.launcher.launch(record, Urgency::Ahead).await?;
    record.state = State::Running;
    record.started_at = Some(OffsetDateTime::now_utc());
    engine.save(record).await?;
    lull(engine, record).await;
    Ok(init)
}

/// Until somebody uses it, it costs no CPU time: where the runtime itself is busy with an idle
/// container, it stands still.
pub(crate) async fn lull(engine: &Engine, record: &WorkspaceRecord) {
    if !engine.launcher.runtime.sleep().idles_at_cost {
        return;
    }
    let id = engine.launcher.id_of(record);
    if let Err(error) = engine.launcher.runtime.pause(&id).await {
        tracing::debug!(container = %record.container, %error, "a warm container stays awake");
    }
}
