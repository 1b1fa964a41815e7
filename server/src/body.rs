//! Two bodies with something to do when they are dropped.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use fleet::timing;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// How much of a refused body is read and thrown away, at most.
const REFUSED_MAX: u64 = 128 << 20;

/// A request's body. If it is dropped half read, the rest is read in the background, within
/// bounds: a client that is still sending would otherwise see a broken pipe, not our answer.
pub(crate) struct Drained<B: HttpBody + Unpin + Send + 'static>(Option<B>);

impl<B: HttpBody + Unpin + Send + 'static> Drained<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self(Some(inner))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> HttpBody for Drained<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(inner) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody + Unpin + Send + 'static> Drop for Drained<B> {
    fn drop(&mut self) {
        let Some(inner) = self.0.take().filter(|inner| !inner.is_end_stream()) else {
            return;
        };
        // At the end of the process there may be no runtime, and nobody to answer.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(timing::REFUSED_BODY, discard(inner)));
        }
    }
}

async fn discard<B: HttpBody + Unpin>(mut body: B) {
    use bytes::Buf as _;
    let mut left = REFUSED_MAX;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
    {
        let size = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// An answer's body that keeps its caller's slot until it is sent or dropped.
pub(crate) struct Held {
    inner: Body,
    /// When it is cut off.
    end: Option<BoxFuture<'static, ()>>,
    _slot: OwnedSemaphorePermit,
}

impl Held {
    pub(crate) fn new(inner: Body, slot: OwnedSemaphorePermit) -> Self {
        Self {
            inner,
            end: None,
            _slot: slot,
        }
    }

    /// One that is over when `end` is.
    pub(crate) fn until(
        inner: Body,
        slot: OwnedSemaphorePermit,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            inner,
            end: Some(Box::pin(end)),
            _slot: slot,
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            self.inner = Body::empty();
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
