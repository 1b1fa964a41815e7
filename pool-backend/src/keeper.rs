//! One task per template that does what its pool says: makes warm containers, hands them out,
//! and takes them away.
//!
//! Must never happen here: a decision of how many (that is `pool`'s), or a claimed container
//! touched.

use std::sync::Arc;
use std::time::Instant;

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
use crate::init_client::InitClient;
use crate::pool::Pool;
use crate::workspaces::PoolStatus;

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
    pub(crate) fn new(template: TemplateName, target: u32) -> Self {
        Self {
            template,
            pool: Mutex::new(Pool::new(target, Instant::now())),
            bell: Notify::new(),
        }
    }

    /// A warm container that answers, if there is one. Dead ones on the way are thrown away.
    pub(crate) async fn claim(&self, engine: &Arc<Engine>) -> Option<Warm> {
        loop {
            let claimed = self.pool.lock().claim();
            self.bell.notify_one();
            let warm = claimed?;
            if let Ok(Ok(())) = timeout(timing::INIT_ATTEMPT, warm.init.ping()).await {
                return Some(warm);
            }
            tracing::warn!(container = %warm.record.container, "a warm container is dead");
            self.pool.lock().was_dead();
            engine.scrap_later(warm.record);
        }
    }

    /// A warm container from before this process; given back when there are enough.
    pub(crate) fn adopt(&self, warm: Warm) -> Option<Warm> {
        let mut pool = self.pool.lock();
        if pool.is_full() {
            return Some(warm);
        }
        pool.adopt(warm);
        None
    }

    /// Takes out those that `gone` names.
    pub(crate) fn evict(&self, gone: impl Fn(&WorkspaceRecord) -> bool) -> Vec<Warm> {
        let evicted = self.pool.lock().evict(|warm| gone(&warm.record));
        if !evicted.is_empty() {
            self.bell.notify_one();
        }
        evicted
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let pool = self.pool.lock();
        let (hits, misses) = pool.hits_and_misses();
        PoolStatus {
            template: self.template.clone(),
            target: pool.target(),
            ready: u32::try_from(pool.ready().len()).unwrap_or(u32::MAX),
            hits,
            misses,
        }
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
    match warm_up(&engine, &shelf.template).await {
        Ok(warm) if engine.resting.is_cancelled() => {
            shelf.pool.lock().failed(Instant::now());
            // A crash leaves it to the next start; an orderly end takes it away.
            if !engine.cancelled.is_cancelled() {
                engine.scrap(warm.record).await;
            }
        }
        Ok(warm) => shelf.pool.lock().refilled(warm),
        Err(error) => {
            tracing::warn!(
                template = %shelf.template, %error, cause = error.cause_text(), "no warm container",
            );
            shelf.pool.lock().failed(Instant::now());
        }
    }
    shelf.bell.notify_one();
}

/// Recorded before it is started (its token must outlive us) and again when it runs.
async fn warm_up(engine: &Arc<Engine>, template: &TemplateName) -> Result<Warm, Error> {
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
    let init = engine.launcher.launch(record, Urgency::Ahead).await?;
    record.state = State::Running;
    record.started_at = Some(OffsetDateTime::now_utc());
    engine.save(record).await?;
    Ok(init)
}
