//! Server-sent events: an answer that goes on.
//!
//! Must never happen here: silence for so long that somebody on the way gives up.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleet::timing;
use futures_util::stream;
use http::header;
use serde_json::Value;
use tokio::sync::mpsc;

/// Parts that wait for a reader.
const WAITING: usize = 4;

/// Appends an event; its data is one line, as JSON is.
pub(crate) fn push(text: &mut String, name: &str, id: Option<&str>, data: &Value) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "event: {name}");
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = writeln!(text, "data: {data}\n");
}

/// Where to write; `Err` once the reader is gone.
pub(crate) struct Writer(mpsc::Sender<String>);

impl Writer {
    /// Waits for a reader that is slow.
    pub(crate) async fn send(&self, text: String) -> Result<(), Gone> {
        self.0.send(text).await.map_err(|_| Gone)
    }

    /// Returns when the reader is gone. Cancel safe.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }
}

/// Nobody reads any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// The answer; `write` goes on until it ends by itself or the reader leaves.
pub(crate) fn answer<F>(write: impl FnOnce(Writer) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (writer, parts) = mpsc::channel(WAITING);
    let writing = write(Writer(writer));
    tokio::spawn(async move {
        // It is gone: that is how such streams end.
        let _ = writing.await;
    });
    let body = stream::unfold(parts, |mut parts| async move {
        let part = match tokio::time::timeout(timing::STREAM_BEAT, parts.recv()).await {
            Ok(part) => part?,
            Err(_) => ": still here\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(part)), parts))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_and_the_end_is_the_end() {
        let response = answer(|writer| async move {
            tokio::time::sleep(timing::STREAM_BEAT * 2 + timing::STREAM_BEAT / 2).await;
            let mut text = String::new();
            push(&mut text, "x", Some("1-2"), &json!({"a": "b\nc"}));
            writer.send(text).await
        });
        let parts: Vec<_> = response.into_body().into_data_stream().collect().await;
        let texts: Vec<_> = parts.into_iter().map(|part| part.unwrap()).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].starts_with(b":") && texts[1].starts_with(b":"));
        assert_eq!(texts[2], "event: x\nid: 1-2\ndata: {\"a\":\"b\\nc\"}\n\n");
    }

    #[tokio::test]
    async fn who_leaves_ends_it() {
        let (ended, heard) = tokio::sync::oneshot::channel();
        let response = answer(|writer| async move {
            writer.gone().await;
            let _ = ended.send(());
            Ok(())
        });
        drop(response);
        heard.await.unwrap();
    }
}
