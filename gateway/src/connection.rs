//! One visitor's connection: handshake, then requests one after another (HTTP/1) or side by side
//! (HTTP/2). For HTTP/1 the head is read and judged here, on its raw bytes and against a deadline,
//! and only then handed to pingora.
//!
//! Must never happen here: a wait without a deadline.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use bytes::BytesMut;
use fleet::timing::{KEEP_ALIVE, LINGER, REQUEST_HEADERS, TLS_HANDSHAKE};
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Ssl as _, Stream};
use pingora_proxy::HttpProxy;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Limits;
use crate::edge::Edge;
use crate::forward::mint_request_id;
use crate::head::{self, Fault};
use crate::metrics::{Metrics, Target};
use crate::reach::Reach;
use crate::refusal::{Format, Kind, Refusal};
use crate::upgrade::{self, Visitor};
use crate::wire::{Rationed, Wire};

/// What a refused visitor may still send before the connection is closed over it.
const LINGER_BYTES: usize = 256 * 1024;

/// What every connection needs.
pub(crate) struct Host {
    /// Serves requests.
    pub proxy: Arc<HttpProxy<Edge>>,
    /// What it decides with.
    pub edge: Edge,
    /// Does handshakes.
    pub acceptor: Acceptor,
    /// Into workspaces; its routes are to be followed.
    pub reach: Arc<Reach>,
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves a connection of the HTTPS listener until it ends.
pub(crate) async fn serve_tls(
    host: &Host,
    tcp: TcpStream,
    peer: SocketAddr,
    shutdown: watch::Receiver<bool>,
) {
    let handshake = host.acceptor.tls_handshake(Wire::new(tcp, peer));
    let tls = match timeout(TLS_HANDSHAKE, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake");
            return count_failure(host);
        }
        Err(_) => return count_failure(host),
    };
    if tls.selected_alpn_proto() == Some(ALPN::H2) {
        let stream: Stream = Box::new(Rationed::new(tls));
        host.proxy.process_new(stream, &shutdown).await;
    } else {
        let visitor = Visitor { peer, tls: true };
        serve_h1(host, Box::new(tls), visitor, shutdown).await;
    }
}

/// Serves a connection of the loopback HTTP listener until it ends.
pub(crate) async fn serve_plain(
    host: &Host,
    tcp: TcpStream,
    peer: SocketAddr,
    shutdown: watch::Receiver<bool>,
) {
    let visitor = Visitor { peer, tls: false };
    serve_h1(host, Box::new(Wire::new(tcp, peer)), visitor, shutdown).await;
}

fn count_failure(host: &Host) {
    host.metrics.handshakes_failed.inc();
}

async fn serve_h1(
    host: &Host,
    mut stream: Stream,
    visitor: Visitor,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut patience = REQUEST_HEADERS;
    loop {
        let first_byte = tokio::select! {
            biased;
            read = timeout(patience, read_some(&mut stream)) => read,
            _ = shutdown.wait_for(|shutdown| *shutdown) => break,
        };
        let Ok(Ok(Some(start))) = first_byte else {
            break;
        };
        let head = match read_head(&mut stream, start, &host.limits).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err((refusal, format)) => {
                let metrics = &host.metrics;
                metrics.refused(refusal.kind);
                metrics.request(Target::Nowhere, refusal.kind.status(), None);
                refuse(&mut stream, &refusal, format).await;
                break;
            }
        };
        if head::asks_for_upgrade(&head) {
            // Boxed, lest every connection has room for it.
            return Box::pin(upgrade::serve(host, stream, head, visitor, shutdown)).await;
        }
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(head);
        session.set_keepalive(Some(KEEP_ALIVE.as_secs()));
        let Some(reused) = host.proxy.process_new_http(session, &shutdown).await else {
            return;
        };
        stream = reused.consume().0;
        patience = KEEP_ALIVE;
    }
    let _ = timeout(LINGER, end(&mut stream)).await;
}

/// Reads the rest of a head that began with `buf`; what follows it in the buffer is body.
/// `None`: the visitor left.
async fn read_head(
    stream: &mut Stream,
    mut buf: BytesMut,
    limits: &Limits,
) -> Result<Option<BytesMut>, (Refusal, Format)> {
    let deadline = Instant::now() + REQUEST_HEADERS;
    let refused = |buf: &[u8], refusal: Refusal| match head::wants_html(buf) {
        true => (refusal, Format::Html),
        false => (refusal, Format::Json),
    };
    let mut seen = 0;
    loop {
        let end = head::find_end(&buf, seen).map_err(|fault| refused(&buf, fault.into()))?;
        if end.unwrap_or(buf.len()) > limits.head_bytes {
            return Err(refused(&buf, Fault::TooLarge.into()));
        }
        if let Some(end) = end {
            return match head::check(&buf[..end], limits.headers) {
                Ok(()) => Ok(Some(buf)),
                Err(fault) => Err(refused(&buf[..end], fault.into())),
            };
        }
        seen = buf.len();
        match timeout_at(deadline, read_some(stream)).await {
            Ok(Ok(Some(more))) => buf.unsplit(more),
            Ok(Ok(None) | Err(_)) => return Ok(None),
            Err(_) => {
                let detail = "The request's header fields came too slowly.";
                return Err(refused(&buf, Refusal::new(Kind::HeadTimeout, detail)));
            }
        }
    }
}

/// The next bytes; memory is taken only when they are there, so an idle connection holds none.
async fn read_some(stream: &mut Stream) -> std::io::Result<Option<BytesMut>> {
    std::future::poll_fn(|cx| {
        let mut room = [std::mem::MaybeUninit::uninit(); 4096];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
        let filled = room.filled();
        let some = (!filled.is_empty()).then(|| BytesMut::from(filled));
        std::task::Poll::Ready(Ok(some))
    })
    .await
}

/// Answers a head that pingora never saw, then ends the connection in order.
async fn refuse(stream: &mut Stream, refusal: &Refusal, format: Format) {
    let request_id = mint_request_id();
    tracing::debug!(id = %request_id, refused = refusal.kind.name(), detail = %refusal.detail, "head");
    let told = refusal.render(format, &request_id);
    let reason = http::StatusCode::from_u16(told.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused");
    let mut text = format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n", told.status);
    for (name, value) in &told.headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(&told.body);
    let tell = async {
        stream.write_all(text.as_bytes()).await?;
        end_unread(stream).await
    };
    let _ = timeout(LINGER, tell).await;
}

/// Ends a connection after the answer that was its last.
pub(crate) async fn leave(mut stream: Stream) {
    let _ = timeout(LINGER, end_unread(&mut stream)).await;
}

/// Closing over unread bytes would reset the connection and lose the answer.
async fn end_unread(stream: &mut Stream) -> std::io::Result<()> {
    end(stream).await?;
    let mut left = LINGER_BYTES;
    let mut sink = [0; 4096];
    while left > 0 {
        match stream.read(&mut sink).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Flushes and says goodbye. Spelled out, as pingora's streams have a second `shutdown`.
async fn end(stream: &mut Stream) -> std::io::Result<()> {
    tokio::io::AsyncWriteExt::shutdown(stream).await
}
