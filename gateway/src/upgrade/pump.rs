//! Moves what a [`Relay`] lets pass between a visitor and an app, for as long as both want: through
//! the app's sleep, if its connections come back.
//!
//! ```text
//! app awake        bytes flow both ways
//! app stands still nothing is written to it; what a visitor says is held (bounded), and wakes it
//! awake again      what was held is written first, in order
//! gone for good    1012: connecting again leads to what came after
//! visitor gone     an app that sleeps is told when it wakes, not woken for it
//! ```
//!
//! Must never happen here: a byte written to an app that stands still, or memory kept while
//! nothing flows.

mod flow;

use std::future::poll_fn;
use std::sync::Arc;

use fleet::door::{Standing, Stay};
use fleet::timing::{CLOSING, STANDING_SETTLES};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::flow::{Event, Flow};
use super::Waker;
use super::frame::Code;
use super::relay::Relay;
use crate::refusal::{Kind, Refusal};

/// The app's end: a socket into a container, or the API's.
pub(crate) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Line for S {}

/// See the module.
pub(crate) struct Pump {
    pub relay: Relay,
    pub visitor: Stream,
    pub app: Box<dyn Line>,
    /// The visit, and how to wake its workspace. None: the API, which does not sleep.
    pub visit: Option<(Arc<dyn Stay>, Waker)>,
    pub shutdown: watch::Receiver<bool>,
}

/// What passed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Passed {
    /// Bytes from the visitor.
    pub from_visitor: u64,
    /// Bytes to the visitor.
    pub to_visitor: u64,
}

impl Pump {
    /// Until either end, or the gateway, has enough.
    pub async fn run(self) -> Passed {
        let (stay, waker) = self.visit.unzip();
        let mut course = Course {
            flow: Flow::new(self.relay, self.visitor, self.app),
            stay,
            waker,
            shutdown: self.shutdown,
        };
        course.follow().await;
        course.flow.passed
    }
}

/// The way of one connection through its container's sleep and wake.
struct Course {
    flow: Flow,
    stay: Option<Arc<dyn Stay>>,
    waker: Option<Waker>,
    shutdown: watch::Receiver<bool>,
}

impl Course {
    async fn follow(&mut self) {
        loop {
            let event = match self.standing() {
                Standing::Lost => return self.close(Code::Restart, RESTARTED).await,
                Standing::Still if self.flow.waits_for_an_answer() => Some(Event::NeedsApp),
                standing => self.next(standing).await,
            };
            let goes_on = match event {
                None => true,
                Some(Event::NeedsApp) => self.wake().await,
                Some(event) => {
                    self.end(event).await;
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn standing(&self) -> Standing {
        let stay = self.stay.as_ref();
        stay.map_or(Standing::Live, |stay| stay.standing())
    }

    /// Lets bytes flow until something has to be done about it. None: look how things stand.
    async fn next(&mut self, standing: Standing) -> Option<Event> {
        let timer = self.flow.next_timer(standing);
        let Self {
            flow,
            stay,
            shutdown,
            ..
        } = self;
        let stay = stay.as_deref();
        let moved = async {
            match stay {
                Some(stay) => stay.changed(standing).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|shutdown| *shutdown) => Some(Event::Shutdown),
            _ = moved => None,
            event = poll_fn(|cx| flow.poll(cx, stay)) => Some(event),
            () = sleep_until(timer) => flow.on_time(standing),
        }
    }

    async fn end(&mut self, event: Event) {
        match event {
            Event::NeedsApp | Event::VisitorGone => self.see_off().await,
            Event::AppGone => self.app_gone().await,
            Event::Shutdown => self.close(Code::GoingAway, SHUTTING_DOWN).await,
        }
    }

    /// Wakes the workspace, holding what comes meanwhile, and delivers. False: it is over.
    async fn wake(&mut self) -> bool {
        let (Some(waker), Some(stay)) = (&self.waker, self.stay.clone()) else {
            return true;
        };
        let (flow, shutdown) = (&mut self.flow, &mut self.shutdown);
        // What was said to it before is answered by the wake.
        flow.used = None;
        let mut meanwhile = None;
        let awake = {
            let waking = waker.wake();
            tokio::pin!(waking);
            loop {
                tokio::select! {
                    biased;
                    _ = shutdown.wait_for(|shutdown| *shutdown), if meanwhile.is_none() => {
                        meanwhile = Some(Event::Shutdown);
                        break Ok(None);
                    }
                    awake = &mut waking => break awake,
                    event = poll_fn(|cx| flow.poll(cx, Some(&*stay))), if meanwhile.is_none() => {
                        meanwhile = (event != Event::NeedsApp).then_some(event);
                    }
                }
            }
        };
        // The door may open a moment before it is told.
        if awake.is_ok() && meanwhile.is_none() && stay.standing() == Standing::Still {
            let _ = timeout(STANDING_SETTLES, stay.changed(Standing::Still)).await;
        }
        if stay.standing() == Standing::Live {
            // Nobody falls asleep before the app has got what was held.
            let delivered = poll_fn(|cx| flow.poll_to_app(cx));
            let _ = timeout(STANDING_SETTLES, delivered).await;
        }
        if let Some(event) = meanwhile {
            self.end(event).await;
            return false;
        }
        match awake {
            Err(refusal) if stay.standing() == Standing::Still => {
                self.close(Code::TryLater, why(&refusal)).await;
                false
            }
            // Lost, or asleep again at once: the next round sees to it.
            Ok(_) | Err(_) => true,
        }
    }

    /// The visitor has left: the app gets what is left for it, and hears of it. One that sleeps
    /// hears of it when it wakes.
    async fn see_off(&mut self) {
        self.flow.finish_visitor().await;
        loop {
            let Some(stay) = self.stay.as_ref() else {
                return self.flow.finish_app().await;
            };
            match stay.standing() {
                Standing::Live => return self.flow.finish_app().await,
                Standing::Lost => return,
                Standing::Still => {}
            }
            tokio::select! {
                _ = self.shutdown.wait_for(|shutdown| *shutdown) => return,
                _ = stay.changed(Standing::Still) => {}
            }
        }
    }

    /// An app that closes while it runs means it. One whose connections were ended for its sleep
    /// is left asleep: who connects again at once would wake it.
    async fn app_gone(&mut self) {
        if self.standing() == Standing::Live {
            return self.flow.finish_visitor().await;
        }
        self.flow.lost = true;
        while self.standing() == Standing::Still {
            match self.next(Standing::Still).await {
                None => {}
                Some(Event::NeedsApp | Event::AppGone) => break,
                Some(Event::VisitorGone) => return self.flow.finish_visitor().await,
                Some(Event::Shutdown) => return self.close(Code::GoingAway, SHUTTING_DOWN).await,
            }
        }
        self.close(Code::Restart, RESTARTED).await;
    }

    /// Says goodbye to whoever can be told, and waits a little for the visitor to agree.
    async fn close(&mut self, code: Code, reason: &str) {
        let live = self.standing() == Standing::Live;
        let flow = &mut self.flow;
        flow.relay.close(code, reason, rand::random());
        let until = Instant::now() + CLOSING;
        if live {
            let _ = timeout_at(until, poll_fn(|cx| flow.poll_to_app(cx))).await;
        }
        let agreed = async {
            poll_fn(|cx| flow.poll_to_visitor(cx)).await?;
            poll_fn(|cx| flow.poll_farewell(cx)).await
        };
        // Whoever does not answer is left all the same.
        let _ = timeout_at(until, agreed).await;
        flow.finish_visitor().await;
    }
}

const SHUTTING_DOWN: &str = "the server is shutting down";
const RESTARTED: &str = "the workspace was restarted; connect again";

fn why(refusal: &Refusal) -> &'static str {
    match refusal.kind {
        Kind::Asleep => "the workspace sleeps, and visits do not wake it",
        Kind::NotFound => "the workspace is gone",
        _ => "the workspace did not wake; try again later",
    }
}
