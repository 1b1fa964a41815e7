//! The two sockets and what flows between them: reads, writes, and when each was heard of last.
//!
//! Must never happen here: a decision about the workspace.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fleet::door::{Standing, Stay};
use fleet::timing::{ANSWER_GRACE, LINGER, WEBSOCKET_PING, WEBSOCKET_SILENCE};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, timeout};

use super::{Line, Passed};
use crate::upgrade::relay::{HOLD, Relay};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Why the bytes stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The app has to be awake for what is held.
    NeedsApp,
    /// The visitor has left.
    VisitorGone,
    /// The app has closed its end, and the visitor got all of it.
    AppGone,
    /// The gateway shuts down.
    Shutdown,
}

/// See the module.
pub(super) struct Flow {
    pub relay: Relay,
    /// None once it has left.
    visitor: Option<Stream>,
    app: Box<dyn Line>,
    /// Written to the visitor, but perhaps not sent yet.
    unflushed: bool,
    app_ended: bool,
    /// The app's end was ended for its sleep: only the visitor's is looked after.
    pub lost: bool,
    /// When either end was heard of last.
    heard: Instant,
    pinged: Instant,
    /// When the app, or we in its place, asked for a heartbeat.
    asked: Instant,
    /// When the visitor said what the app has not answered yet.
    pub used: Option<Instant>,
    pub passed: Passed,
}

impl Flow {
    pub fn new(relay: Relay, visitor: Stream, app: Box<dyn Line>) -> Self {
        let now = Instant::now();
        Self {
            relay,
            visitor: Some(visitor),
            app,
            unflushed: true,
            app_ended: false,
            lost: false,
            heard: now,
            pinged: now,
            asked: now,
            used: None,
            passed: Passed::default(),
        }
    }

    /// Moves bytes until there are no more.
    pub fn poll(&mut self, cx: &mut Context<'_>, stay: Option<&dyn Stay>) -> Poll<Event> {
        loop {
            let live = stay.is_none_or(|stay| stay.standing() == Standing::Live);
            let sent = match self.poll_to_visitor(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Event::VisitorGone),
                sent => sent.is_ready(),
            };
            if live && self.poll_to_app(cx).map(|sent| sent.is_err()) == Poll::Ready(true) {
                // What it said before is still to be read, up to the end of that.
                self.relay.forget_app();
            }
            let heard_app = self.poll_from_app(cx);
            let heard_visitor = self.poll_from_visitor(cx, !live);
            let noticed = self.relay.noticed();
            let now = Instant::now();
            if noticed.used {
                self.used = Some(now);
                if let Some(stay) = stay {
                    stay.used();
                }
            }
            if noticed.answered {
                self.used = None;
                if let Some(stay) = stay {
                    stay.answered();
                }
            }
            if noticed.asked {
                self.asked = now;
            }
            if noticed.needs_app {
                return Poll::Ready(Event::NeedsApp);
            }
            let goodbye = !live && sent && self.relay.is_closed();
            if goodbye || heard_visitor == Heard::End {
                return Poll::Ready(Event::VisitorGone);
            }
            if self.app_ended && !self.lost && sent && self.relay.to_visitor().is_empty() {
                return Poll::Ready(Event::AppGone);
            }
            if heard_app == Heard::Nothing && heard_visitor == Heard::Nothing {
                self.relay.rest();
                return Poll::Pending;
            }
            self.heard = now;
        }
    }

    fn poll_from_app(&mut self, cx: &mut Context<'_>) -> Heard {
        if self.app_ended || self.relay.to_visitor().len() >= HOLD {
            return Heard::Nothing;
        }
        let relay = &mut self.relay;
        match poll_chunk(&mut self.app, cx, |bytes| relay.app_says(bytes)) {
            Poll::Pending => Heard::Nothing,
            Poll::Ready(Ok(count)) if count > 0 => Heard::Bytes,
            Poll::Ready(_) => {
                self.app_ended = true;
                Heard::End
            }
        }
    }

    fn poll_from_visitor(&mut self, cx: &mut Context<'_>, still: bool) -> Heard {
        let Some(visitor) = &mut self.visitor else {
            return Heard::Nothing;
        };
        if self.relay.to_app().len() >= HOLD {
            return Heard::Nothing;
        }
        let relay = &mut self.relay;
        match poll_chunk(visitor, cx, |bytes| relay.visitor_says(bytes, still)) {
            Poll::Pending => Heard::Nothing,
            Poll::Ready(Ok(count)) if count > 0 => {
                self.passed.from_visitor += count as u64;
                Heard::Bytes
            }
            Poll::Ready(_) => Heard::End,
        }
    }

    /// Ready when the visitor was sent everything.
    pub fn poll_to_visitor(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(visitor) = &mut self.visitor else {
            return Poll::Ready(Ok(()));
        };
        while !self.relay.to_visitor().is_empty() {
            let written = Pin::new(&mut *visitor).poll_write(cx, self.relay.to_visitor());
            let written = some(ready!(written)?)?;
            self.relay.visitor_took(written);
            self.passed.to_visitor += written as u64;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(visitor).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the app was sent everything.
    pub fn poll_to_app(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.relay.to_app().is_empty() {
            let written = Pin::new(&mut self.app).poll_write(cx, self.relay.to_app());
            let written = some(ready!(written)?)?;
            self.relay.app_took(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the visitor has said goodbye, or is gone.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.relay.visitor_closed() {
            // The app does not get it any more.
            self.relay.forget_app();
            let Some(visitor) = &mut self.visitor else {
                break;
            };
            let relay = &mut self.relay;
            let read = poll_chunk(visitor, cx, |bytes| relay.visitor_says(bytes, false));
            some(ready!(read)?)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the visitor's connection in order, and lets go of it.
    pub async fn finish_visitor(&mut self) {
        if let Some(mut visitor) = self.visitor.take() {
            // Spelled out, as pingora's streams have a second `shutdown`.
            let end = tokio::io::AsyncWriteExt::shutdown(&mut visitor);
            let _ = timeout(LINGER, end).await;
        }
    }

    /// Sends the app what is left for it, and the end.
    pub async fn finish_app(&mut self) {
        let end = async {
            std::future::poll_fn(|cx| self.poll_to_app(cx)).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut self.app).await
        };
        // An app that is gone already is no news.
        let _ = timeout(LINGER, end).await;
    }

    /// Whether the visitor spoke a moment ago and was not answered: an app that was stopped then
    /// may not have heard it.
    pub fn waits_for_an_answer(&self) -> bool {
        self.used.is_some_and(|at| at.elapsed() < ANSWER_GRACE)
    }

    /// When something is to be said though nobody said anything.
    pub fn next_timer(&self, standing: Standing) -> Instant {
        let ping = self.heard.max(self.pinged) + WEBSOCKET_PING;
        match (standing, self.relay.beat_interval()) {
            (Standing::Still, Some(interval)) => ping.min(self.asked + interval),
            _ => ping,
        }
    }

    /// Says it. The visitor is gone if nobody was heard of for too long.
    pub fn on_time(&mut self, standing: Standing) -> Option<Event> {
        let now = Instant::now();
        if let (Standing::Still, Some(interval)) = (standing, self.relay.beat_interval())
            && now >= self.asked + interval
        {
            self.relay.ask_for_beat();
            self.asked = now;
        }
        if now >= self.heard.max(self.pinged) + WEBSOCKET_PING {
            self.relay.ping();
            self.pinged = now;
        }
        (now >= self.heard + WEBSOCKET_SILENCE).then_some(Event::VisitorGone)
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Bytes,
    /// Nothing more will come.
    End,
}

/// Reads a piece; memory for it is taken only while there is one.
fn poll_chunk<S: AsyncRead + Unpin>(
    from: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); CHUNK];
    let mut room = ReadBuf::uninit(&mut room);
    ready!(Pin::new(from).poll_read(cx, &mut room))?;
    let filled = room.filled();
    if !filled.is_empty() {
        take(filled);
    }
    Poll::Ready(Ok(filled.len()))
}

/// Nothing read or written is the end.
fn some(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}
