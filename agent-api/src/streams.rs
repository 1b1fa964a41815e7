//! Bytes on their way in and out, never whole in memory.
//!
//! Must never happen here: a wait for a byte without a bound.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use fleet::timing;
use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use pool_backend::workspaces::ByteStream;

use crate::Problem;
use crate::input::cut_off;

/// Remembers why a stream from the client failed, because the engine, which reads it, can only
/// say that it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blame(Arc<OnceLock<Problem>>);

impl Blame {
    pub(crate) fn set(&self, problem: Problem) {
        // The first reason is the cause of the others.
        let _ = self.0.set(problem);
    }

    /// What to answer when the engine failed with `error`.
    pub(crate) fn or(&self, error: pool_backend::Error) -> Problem {
        self.0.get().cloned().unwrap_or_else(|| error.into())
    }

    /// What to answer when parsing failed.
    pub(crate) fn or_problem(&self, problem: Problem) -> Problem {
        self.0.get().cloned().unwrap_or(problem)
    }
}

/// A request's body, chunk by chunk. It yields to the executor between chunks: a parser that
/// reads for as long as there is something to read would otherwise take in all of it.
pub(crate) fn incoming(body: Body, blame: &Blame) -> ByteStream {
    let start = (body.into_data_stream(), blame.clone(), false);
    let chunks = stream::unfold(start, |(mut chunks, blame, later)| async move {
        if later {
            tokio::task::yield_now().await;
        }
        let problem = match tokio::time::timeout(timing::BODY_SILENCE, chunks.next()).await {
            Ok(None) => return None,
            Ok(Some(Ok(chunk))) => return Some((Ok(chunk), (chunks, blame, true))),
            Ok(Some(Err(_))) => cut_off(),
            Err(_) => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "no byte of the body came for {} s",
                    timing::BODY_SILENCE.as_secs()
                ),
            ),
        };
        let error = io::Error::other(problem.detail().to_owned());
        blame.set(problem);
        Some((Err(error), (chunks, blame, true)))
    });
    chunks.boxed()
}

/// One chunk as a stream.
pub(crate) fn once(bytes: Bytes) -> ByteStream {
    stream::once(std::future::ready(Ok(bytes))).boxed()
}

/// All of a stream, or `None` when it is longer than `limit`.
pub(crate) async fn collect(mut chunks: ByteStream, limit: usize) -> io::Result<Option<Bytes>> {
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        if all.len() + chunk.len() > limit {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(all.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static [u8]]) -> ByteStream {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| Ok(Bytes::from_static(part)))
            .collect();
        stream::iter(parts).boxed()
    }

    #[tokio::test]
    async fn collect_keeps_its_limit() {
        assert!(
            collect(chunks(&[b"abc", b"def"]), 5)
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_the_clients_fault() {
        let blame = Blame::default();
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let result = collect(incoming(silent, &blame), 100).await;
        assert!(result.is_err());
        let engine = pool_backend::Error::new(pool_backend::ErrorKind::Internal, "x");
        assert_eq!(blame.or(engine).status(), StatusCode::REQUEST_TIMEOUT);
    }
}
