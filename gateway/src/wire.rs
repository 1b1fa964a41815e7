//! A visitor's connection as pingora wants it: TCP with a small write buffer, and around the TLS of
//! an HTTP/2 one a count of the frames that cost us work and the visitor nothing.
//!
//! Without the write buffer each response is two TLS records and two system calls.
//!
//! Must never happen here: a look at what the bytes mean, frame types aside.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use fleet::timing::{BODY_SILENCE, REQUEST_HEADERS};
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Holds a usual response head together with a small body in one TLS record.
const WRITE_BUFFER: usize = 2 * 1024;

/// A visitor's TCP connection.
#[derive(Debug)]
pub(crate) struct Wire {
    tcp: BufWriter<TcpStream>,
    digest: Arc<SocketDigest>,
    patience: Patience,
}

impl Wire {
    /// `peer` is what accept said, which saves a `getpeername` per request.
    pub fn new(tcp: TcpStream, peer: SocketAddr) -> Self {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        let _ = digest
            .peer_addr
            .set(Some(pingora_core::protocols::l4::socket::SocketAddr::Inet(
                peer,
            )));
        Self {
            tcp: BufWriter::with_capacity(WRITE_BUFFER, tcp),
            digest: Arc::new(digest),
            patience: Patience::default(),
        }
    }
}

/// Bounds how long a visitor may not read what we write. Pingora bounds bodies only; a visitor
/// who never reads could otherwise hold a request, and its workspace awake, with one head.
#[derive(Debug, Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.0 = None;
            return written;
        }
        let end = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_SILENCE)));
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.tcp.get_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.patience.check(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.tcp).poll_flush(cx);
        self.patience.check(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.tcp).poll_shutdown(cx);
        self.patience.check(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.patience.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // A visitor who is gone already is no news.
        let _ = self.tcp.shutdown().await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> i32 {
        self.tcp.get_ref().as_raw_fd()
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

/// An HTTP/2 connection whose SETTINGS, PING and PRIORITY frames are rationed: each makes us
/// answer or work, and none belongs to a request. Over the ration, the connection ends; and it
/// ends when the connection preface is late, for which pingora would wait forever.
#[derive(Debug)]
pub(crate) struct Rationed<S> {
    inner: S,
    frames: Frames,
    ration: Ration,
    /// Runs until the preface is complete.
    preface_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Rationed<S> {
    /// `inner` before its first byte was read.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            frames: Frames::default(),
            ration: Ration {
                left: Ration::BURST,
                filled: Instant::now(),
            },
            preface_deadline: Some(Box::pin(tokio::time::sleep(REQUEST_HEADERS))),
        }
    }
}

/// Follows frame boundaries over the bytes read.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes of the connection preface seen; it comes before the first frame.
    preface: usize,
    header: [u8; 9],
    have: usize,
    /// Payload bytes still to come.
    payload: usize,
}

impl Frames {
    const PREFACE: usize = 24;

    /// How many rationed frames begin in `bytes`.
    fn follow(&mut self, mut bytes: &[u8]) -> u32 {
        let mut rationed = 0;
        while !bytes.is_empty() {
            let skip = bytes.len().min(match self.preface < Self::PREFACE {
                true => Self::PREFACE - self.preface,
                false => self.payload,
            });
            if skip > 0 {
                match self.preface < Self::PREFACE {
                    true => self.preface += skip,
                    false => self.payload -= skip,
                }
                bytes = &bytes[skip..];
                continue;
            }
            let take = bytes.len().min(self.header.len() - self.have);
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == self.header.len() {
                self.have = 0;
                let [a, b, c, kind, ..] = self.header;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                // PRIORITY 2, SETTINGS 4, PING 6.
                rationed += u32::from(matches!(kind, 2 | 4 | 6));
            }
        }
        rationed
    }
}

/// A token bucket.
#[derive(Debug)]
struct Ration {
    left: u32,
    filled: Instant,
}

impl Ration {
    /// Far above what browsers, gRPC keep-alives and bandwidth estimators send.
    const BURST: u32 = 200;
    const PER_SECOND: u32 = 20;

    fn spend(&mut self, frames: u32) -> io::Result<()> {
        if frames == 0 {
            return Ok(());
        }
        let whole = u32::try_from(self.filled.elapsed().as_secs()).unwrap_or(u32::MAX);
        if whole > 0 {
            let gained = whole.saturating_mul(Self::PER_SECOND);
            self.left = self.left.saturating_add(gained).min(Self::BURST);
            self.filled = Instant::now();
        }
        self.left = self.left.checked_sub(frames).ok_or_else(|| {
            tracing::debug!("an HTTP/2 connection sent too many control frames");
            io::Error::other("too many control frames")
        })?;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rationed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let (Poll::Pending, Some(deadline)) = (&read, &mut this.preface_deadline) {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(read)?;
        let frames = this.frames.follow(&buf.filled()[before..]);
        if this.frames.preface == Frames::PREFACE {
            this.preface_deadline = None;
        }
        Poll::Ready(this.ration.spend(frames))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rationed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl<S: Shutdown + Send> Shutdown for Rationed<S> {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl<S: UniqueID> UniqueID for Rationed<S> {
    fn id(&self) -> i32 {
        self.inner.id()
    }
}

impl<S: Ssl> Ssl for Rationed<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl<S> Peek for Rationed<S> {}

impl<S: GetTimingDigest> GetTimingDigest for Rationed<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl<S: GetProxyDigest> GetProxyDigest for Rationed<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl<S: GetSocketDigest> GetSocketDigest for Rationed<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_cut(
            frames in proptest::collection::vec((0u8..10, 0usize..40), 0..20),
            cut in 1usize..17,
        ) {
            let mut bytes = vec![b'p'; Frames::PREFACE];
            let mut expected = 0;
            for (kind, length) in &frames {
                bytes.extend([0, 0, u8::try_from(*length).unwrap(), *kind, 0, 0, 0, 0, 1]);
                bytes.extend(std::iter::repeat_n(4, *length));
                expected += u32::from([2, 4, 6].contains(kind));
            }
            let mut state = Frames::default();
            let counted: u32 = bytes.chunks(cut).map(|chunk| state.follow(chunk)).sum();
            prop_assert_eq!(counted, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_preface_ends_the_connection() {
        use tokio::io::AsyncReadExt as _;
        let (mut visitor, ours) = tokio::io::duplex(100);
        visitor.write_all(b"PRI * HTTP").await.unwrap();
        let mut stream = Rationed::new(ours);
        let mut all = Vec::new();
        let started = Instant::now();
        let late = stream.read_to_end(&mut all).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= REQUEST_HEADERS);
        assert_eq!(all, b"PRI * HTTP");
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_never_reads_is_given_up() {
        let mut patience = Patience::default();
        let started = Instant::now();
        let given_up = std::future::poll_fn(|cx| patience.check::<()>(cx, Poll::Pending)).await;
        assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= BODY_SILENCE);
        // Progress in between starts the wait anew.
        let progress = std::future::poll_fn(|cx| patience.check(cx, Poll::Ready(Ok(1)))).await;
        assert_eq!(progress.unwrap(), 1);
        assert!(patience.0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_ration_runs_out_and_refills() {
        let mut ration = Ration {
            left: Ration::BURST,
            filled: Instant::now(),
        };
        assert!(ration.spend(Ration::BURST).is_ok());
        assert!(ration.spend(1).is_err());
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(ration.spend(2 * Ration::PER_SECOND).is_ok());
        assert!(ration.spend(1).is_err());
    }
}
