//! A job's output as it comes.
//!
//! Must never happen here: a byte told twice or left out without a word, or a workspace kept awake
//! by who only listens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::id::JobId;
use fleet::lifecycle::State;
use fleet::timing;
use init_protocol::RefusalKind;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::jobs::{job, no_such_job};
use super::{Job, Offsets, Workspace};
use crate::driver::Handle;
use crate::driver::gate::Gate;
use crate::error::Error;
use crate::init_client::{Followed, InitError};

/// Parts that wait for a reader; each has 64 KiB at most.
const WAITING: usize = 8;
/// Connections to a running container's init that may fail in a row.
const ATTEMPTS: u32 = 5;

/// What a followed job does.
#[derive(Debug)]
pub enum FollowEvent {
    /// It printed that to standard output.
    Stdout(Bytes),
    /// To standard error.
    Stderr(Bytes),
    /// So many bytes came before that are not kept any more.
    Skipped(Offsets),
    /// It ended; all that it printed was told.
    Ended(Job),
    /// It went with its container; how it ended nobody knows.
    Gone,
}

/// A job that is followed; dropped, it ends. It keeps nothing awake.
pub struct Follow {
    events: mpsc::Receiver<FollowEvent>,
    at: Offsets,
}

impl Follow {
    /// What comes next; none after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<FollowEvent> {
        let event = self.events.recv().await?;
        advance(&mut self.at, &event);
        Some(event)
    }

    /// Where a later one would go on.
    pub fn at(&self) -> Offsets {
        self.at
    }
}

fn advance(at: &mut Offsets, event: &FollowEvent) {
    match event {
        FollowEvent::Stdout(bytes) => at.stdout += bytes.len() as u64,
        FollowEvent::Stderr(bytes) => at.stderr += bytes.len() as u64,
        FollowEvent::Skipped(skipped) => {
            at.stdout = at.stdout.saturating_add(skipped.stdout);
            at.stderr = at.stderr.saturating_add(skipped.stderr);
        }
        FollowEvent::Ended(_) | FollowEvent::Gone => {}
    }
}

impl Workspace {
    /// Follows a job from where the caller has it until it ends. To find the job its workspace is
    /// woken, as by [`Workspace::job`]; from then on it may sleep, and the job with it.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`.
    pub async fn follow_job(&self, id: &JobId, from: Offsets) -> Result<Follow, Error> {
        let found = self.while_alive(|init| async move { init.job(id).await });
        found.await?.ok_or_else(no_such_job)?;
        let (events, received) = mpsc::channel(WAITING);
        let follower = Follower {
            handle: Arc::clone(&self.handle),
            job: id.clone(),
            at: from,
            events,
        };
        let resting = self.engine().resting.clone();
        self.engine().tasks.spawn(async move {
            tokio::select! {
                () = follower.run() => {}
                () = resting.cancelled() => {}
            }
        });
        Ok(Follow {
            events: received,
            at: from,
        })
    }
}

struct Follower {
    handle: Arc<Handle>,
    job: JobId,
    at: Offsets,
    events: mpsc::Sender<FollowEvent>,
}

/// How listening ended.
enum Ended {
    /// The follow is over.
    Over,
    /// The container is about to stand still.
    Parted,
    Failed(InitError),
}

impl Follower {
    async fn run(mut self) {
        let mut status = self.handle.watch();
        let mut failures = 0;
        loop {
            let state = status.borrow_and_update().state;
            let gate = self.handle.gate();
            let tail = gate.as_ref().and_then(Gate::tail);
            let running = state == State::Running;
            if let (true, Some(gate), Some(tail)) = (running, gate, tail) {
                match self.listen(&gate, tail).await {
                    Ended::Over => return,
                    Ended::Parted => failures = 0,
                    Ended::Failed(error) => {
                        tracing::debug!(job = %self.job, %error, "not followed");
                        let unknown = matches!(
                            error,
                            InitError::Refused {
                                kind: RefusalKind::NotFound | RefusalKind::BadCall,
                                ..
                            }
                        );
                        failures += 1;
                        if unknown || failures == ATTEMPTS {
                            // Nobody may be left to hear it.
                            let _ = self.events.send(FollowEvent::Gone).await;
                            return;
                        }
                        sleep(retry(failures)).await;
                    }
                }
                continue;
            }
            let gone = matches!(
                state,
                State::Stopped | State::Starting | State::Failed | State::Deleted
            );
            let told = async {
                if gone {
                    let _ = self.events.send(FollowEvent::Gone).await;
                    return true;
                }
                status.changed().await.is_err()
            };
            let over = tokio::select! {
                over = told => over,
                () = self.events.closed() => true,
            };
            if over {
                return;
            }
        }
    }

    async fn listen(&mut self, gate: &Gate, tail: crate::driver::gate::Tail) -> Ended {
        let (inner, mut told) = mpsc::channel(1);
        let (mut status, events) = (self.handle.watch(), self.events.clone());
        let leaving = async {
            tokio::select! {
                _ = status.wait_for(|status| {
                    status.state != State::Running || status.generation != gate.generation
                }) => {}
                () = events.closed() => {}
            }
        };
        let job = self.job.clone();
        let listened = {
            let mut listening = std::pin::pin!(gate.init.follow(&job, self.at, leaving, &inner));
            loop {
                tokio::select! {
                    biased;
                    Some(followed) = told.recv() => {
                        // While the reader is slow, init may be left all the same.
                        let pass = self.pass(followed);
                        let mut pass = std::pin::pin!(pass);
                        let over = tokio::select! {
                            over = pass.as_mut() => over,
                            ended = listening.as_mut() => {
                                drop(tail);
                                if pass.await {
                                    return Ended::Over;
                                }
                                break ended;
                            }
                        };
                        if over {
                            return Ended::Over;
                        }
                    }
                    ended = listening.as_mut() => {
                        drop(tail);
                        break ended;
                    }
                }
            }
        };
        drop(inner);
        while let Some(followed) = told.recv().await {
            if self.pass(followed).await {
                return Ended::Over;
            }
        }
        match listened {
            Ok(()) => Ended::Parted,
            Err(error) => Ended::Failed(error),
        }
    }

    /// True: that was the last, or nobody listens any more.
    async fn pass(&mut self, followed: Followed) -> bool {
        let event = match followed {
            Followed::Stdout(bytes) => FollowEvent::Stdout(bytes),
            Followed::Stderr(bytes) => FollowEvent::Stderr(bytes),
            Followed::Skipped(skipped) => FollowEvent::Skipped(skipped),
            Followed::Exited(state) => FollowEvent::Ended(job(state, None)),
        };
        advance(&mut self.at, &event);
        let last = matches!(event, FollowEvent::Ended(_));
        self.events.send(event).await.is_err() || last
    }
}

fn retry(failures: u32) -> Duration {
    let pause = timing::WATCH_RETRY.saturating_mul(1 << failures.min(6));
    pause.min(timing::START_BACKOFF_MAX)
}
