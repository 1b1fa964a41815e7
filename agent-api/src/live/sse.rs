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

use crate::websocket::Leaving;

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

/// What is said last when the server goes: `EventSource`s and our own clients connect again.
const GOODBYE: &str = "retry: 1000\n: the node shuts down; connect again\n\n";

/// The answer; `write` goes on until it ends by itself, the reader leaves, or the server does.
pub(crate) fn answer<F>(leaving: Leaving, write: impl FnOnce(Writer) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (writer, parts) = mpsc::channel(WAITING);
    let writing = write(Writer(writer));
    tokio::spawn(async move {
        // It is gone: that is how such streams end.
        let _ = writing.await;
    });
    let body = stream::unfold(Some((parts, leaving)), |state| async move {
        let (mut parts, mut leaving) = state?;
        let part = tokio::select! {
            () = leaving.begun() => {
                // What was said before is told before.
                let mut last = String::new();
                for _ in 0..WAITING {
                    last += &parts.try_recv().unwrap_or_default();
                }
                last += GOODBYE;
                return Some((Ok(Bytes::from(last)), None));
            }
            part = parts.recv() => part?,
            () = tokio::time::sleep(timing::STREAM_BEAT) => ": still here\n\n".to_owned(),
        };
        Some((
            Ok::<_, Infallible>(Bytes::from(part)),
            Some((parts, leaving)),
        ))
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
    use crate::websocket::Websockets;
    use futures_util::StreamExt as _;
    use serde_json::json;
    use tokio::sync::watch;

    /// Of a server that goes when the sender says so.
    fn leaving() -> (watch::Sender<bool>, Leaving) {
        let (leave, leaving) = watch::channel(false);
        (leave, Websockets::new(leaving).leaving())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_and_the_end_is_the_end() {
        let (_leave, leaving) = leaving();
        let response = answer(leaving, |writer| async move {
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
        let (_leave, leaving) = leaving();
        let response = answer(leaving, |writer| async move {
            writer.gone().await;
            let _ = ended.send(());
            Ok(())
        });
        drop(response);
        heard.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_goes_says_so_after_what_was_said() {
        let (leave, leaving) = leaving();
        leave.send_replace(true);
        let (ended, heard) = tokio::sync::oneshot::channel();
        let response = answer(leaving, |writer| async move {
            writer.send("data: 1\n\n".to_owned()).await?;
            writer.gone().await;
            let _ = ended.send(());
            Ok(())
        });
        tokio::task::yield_now().await;
        let all = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(all, format!("data: 1\n\n{GOODBYE}"));
        heard.await.unwrap();
    }
}
