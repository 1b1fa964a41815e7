//! One socket from its first request to its end: who may still hold it, how much of what was said
//! to it is not written yet, and the connection under it.
//!
//! The engine has a queue for each socket, and asks through the same queue whether anybody is
//! there: a full one would look like a dead client. So it is never filled: what waits is counted
//! here, and who has something to say waits for room. A poll is answered with all that waits, and
//! `python-engineio` takes no more than 16 packets in one answer, so of them there are few.
//!
//! Must never happen here: a charge for more bytes than will be written, which would never be paid
//! back.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use fleet::timing;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes that wait for a socket's next poll or write; one message more, at most.
const WAITING: usize = 128 * 1024;
/// Events that wait for a poll. Beside them there may be pings and the answer to a CONNECT.
const POLLED: usize = 12;
/// HTTP requests of one socket at a time: a poll, a post, and the upgrade.
const REQUESTS: usize = 4;

/// All sockets by the names that the engine gave them.
#[derive(Clone, Default)]
pub(super) struct Flows(Arc<Mutex<HashMap<String, Weak<Flow>>>>);

/// See the module. It lives as long as the engine's socket does.
pub(super) struct Flow {
    flows: Flows,
    sid: OnceLock<String>,
    /// Places among strangers or of a key, given back at the end.
    place: Mutex<Box<dyn Any + Send>>,
    waiting: Mutex<Waiting>,
    freed: Notify,
    over: CancellationToken,
    requests: Arc<Semaphore>,
}

/// What was said and is not written.
#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    /// As long as it is polled.
    events: usize,
    websocket: bool,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.bytes < WAITING && (self.websocket || self.events < POLLED)
    }
}

impl Flows {
    /// A new socket, which has no name yet.
    pub(super) fn begin(&self, place: impl Any + Send) -> Arc<Flow> {
        Arc::new(Flow {
            flows: self.clone(),
            sid: OnceLock::new(),
            place: Mutex::new(Box::new(place)),
            waiting: Mutex::default(),
            freed: Notify::new(),
            over: CancellationToken::new(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
        })
    }

    /// The socket of a name, unless it is over.
    pub(super) fn get(&self, sid: &str) -> Option<Arc<Flow>> {
        let flow = self.0.lock().get(sid)?.upgrade()?;
        (!flow.over.is_cancelled()).then_some(flow)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(sid) = self.sid.get() {
            self.flows.0.lock().remove(sid);
        }
    }
}

impl Flow {
    /// Its name, for the requests that follow.
    pub(super) fn named(self: &Arc<Self>, sid: &str) {
        if self.sid.set(sid.to_owned()).is_ok() {
            let mut flows = self.flows.0.lock();
            flows.insert(sid.to_owned(), Arc::downgrade(self));
        }
    }

    /// Other places than before.
    pub(super) fn settle(&self, place: impl Any + Send) {
        *self.place.lock() = Box::new(place);
    }

    /// A place for one more request. `None`: all are taken.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }

    /// Waits for room, and takes it. Cancel safe.
    pub(super) async fn room(&self, bytes: usize) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.take(bytes) {
                return;
            }
            freed.await;
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.has_room();
        if has_room {
            waiting.bytes += bytes;
            waiting.events += 1;
        }
        has_room
    }

    /// So much was written to its websocket.
    pub(super) fn written(&self, bytes: usize) {
        self.give(|waiting| {
            waiting.websocket = true;
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
        });
    }

    /// So much a poll was answered with.
    pub(super) fn polled(&self, bytes: usize, packets: usize) {
        self.give(|waiting| {
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
            waiting.events = waiting.events.saturating_sub(packets);
        });
    }

    fn give(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock();
        let had_room = waiting.has_room();
        change(&mut waiting);
        let freed = !had_room && waiting.has_room();
        drop(waiting);
        if freed {
            self.freed.notify_waiters();
        }
    }

    /// Ends it: its connection is cut off, its polls are refused.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Returns when it was ended. Cancel safe.
    pub(super) async fn ended(&self) {
        self.over.cancelled().await;
    }
}

type Over = Pin<Box<WaitForCancellationFutureOwned>>;

/// The connection of a websocket.
pub(super) struct Conn<S> {
    io: S,
    flow: Arc<Flow>,
    // Reader and writer are two tasks: each has its own waker.
    over_for_reader: Over,
    over_for_writer: Over,
    stalled: Option<Pin<Box<Sleep>>>,
    _gone: oneshot::Sender<()>,
}

impl<S> Conn<S> {
    /// With it comes what ends when the connection is dropped.
    pub(super) fn new(io: S, flow: Arc<Flow>) -> (Self, oneshot::Receiver<()>) {
        let (gone, is_gone) = oneshot::channel();
        let over = || Box::pin(flow.over.clone().cancelled_owned());
        let conn = Self {
            io,
            over_for_reader: over(),
            over_for_writer: over(),
            flow,
            stalled: None,
            _gone: gone,
        };
        (conn, is_gone)
    }

    /// Ends the whole socket when nothing can be written for too long.
    fn blocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let stall = || Box::pin(tokio::time::sleep(timing::SOCKET_STALL));
        ready!(self.stalled.get_or_insert_with(stall).as_mut().poll(cx));
        self.flow.end();
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Conn<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flow.over.is_cancelled() || self.over_for_reader.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Conn<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.flow.over.is_cancelled() || self.over_for_writer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.stalled = None;
                self.flow.written(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => self.blocked(cx).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn flow() -> (Flows, Arc<Flow>) {
        let flows = Flows::default();
        let flow = flows.begin(());
        (flows, flow)
    }

    #[tokio::test]
    async fn names_last_as_long_as_sockets() {
        let (flows, flow) = flow();
        flow.named("a");
        assert!(flows.get("a").is_some() && flows.get("b").is_none());
        flow.end();
        assert!(flows.get("a").is_none());
        drop(flow);
        assert_eq!(flows.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_and_paid_back() {
        let (_, flow) = flow();
        flow.room(WAITING).await;
        let more = Arc::clone(&flow);
        let mut waiter = tokio::spawn(async move { more.room(7).await });
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, &mut waiter).await.is_err());
        flow.written(1);
        waiter.await.unwrap();
        // Pings were written too: never below nothing.
        flow.written(10 * WAITING);
        assert_eq!(flow.waiting.lock().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_gets_few_events() {
        let (_, flow) = flow();
        for _ in 0..POLLED {
            flow.room(1).await;
        }
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, flow.room(1)).await.is_err());
        flow.polled(2, 2);
        flow.room(1).await;
        flow.room(1).await;
        assert!(tokio::time::timeout(soon, flow.room(1)).await.is_err());
        // A websocket has no such limit.
        flow.written(1);
        flow.room(1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_ends() {
        let (_, flow) = flow();
        let (near, mut far) = tokio::io::duplex(4);
        let (mut conn, gone) = Conn::new(near, Arc::clone(&flow));
        flow.room(100).await;
        conn.write_all(b"1234").await.unwrap();
        assert_eq!(flow.waiting.lock().bytes, 96);
        let stuck = conn.write_all(b"5").await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        assert_eq!(conn.read(&mut [0]).await.unwrap(), 0, "it is over for both");
        assert!(conn.write_all(b"6").await.is_err());
        drop(conn);
        assert!(gone.await.is_err());
        assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn who_reads_hears_of_the_end() {
        let (_, flow) = flow();
        let (near, _far) = tokio::io::duplex(4);
        let (mut conn, _gone) = Conn::new(near, Arc::clone(&flow));
        let reading = tokio::spawn(async move { conn.read(&mut [0]).await.unwrap() });
        tokio::task::yield_now().await;
        flow.end();
        assert_eq!(reading.await.unwrap(), 0);
    }
}
