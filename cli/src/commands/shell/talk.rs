//! What goes over a terminal's websocket: keys and sizes one way, output the other.
//!
//! Must never happen here: one direction that waits for the other.

use std::io::{self, Write as _};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::escape::{Escape, Meant};
use super::local::{self, Keys};
use crate::client::Socket;

/// How it is over.
#[derive(Debug)]
pub enum End {
    /// The program has exited.
    Exited(i64),
    /// Its container has ended.
    Gone,
    /// The person left.
    Detached,
    /// The platform wants no more of it.
    Refused {
        /// Close code.
        code: u16,
        /// Its sentence.
        reason: String,
    },
    /// The connection is gone; the terminal need not be.
    Lost(String),
}

/// A person's end, which outlives connections.
pub struct Talk {
    keys: Keys,
    escape: Escape,
    /// Bytes of output that were seen.
    pub offset: Option<u64>,
}

impl Talk {
    /// Before the first connection.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            escape: Escape::new(),
            offset: None,
        }
    }

    /// Until it is over, or the connection is.
    pub async fn follow(&mut self, socket: Socket) -> End {
        let (mut sink, mut stream) = socket.split();
        let end = tokio::select! {
            end = show(&mut stream, &mut self.offset) => end,
            end = send(&mut sink, &mut self.keys, &mut self.escape) => end,
        };
        if matches!(end, End::Detached) {
            // Whether it hears that or not, we are gone.
            let _ = sink.close().await;
        }
        end
    }

    /// Returns when the person leaves; other keys are of no effect now.
    pub async fn only_detach(&mut self) -> End {
        let Ok(mut ends) = Ends::new() else {
            return std::future::pending().await;
        };
        loop {
            let typed = tokio::select! {
                typed = self.keys.next() => typed,
                () = ends.next() => return End::Detached,
            };
            match typed.map(|typed| self.escape.take(&typed)) {
                Some(Meant::Keys(_)) => {}
                Some(Meant::Detach) | None => return End::Detached,
            }
        }
    }
}

/// Signals that end us.
struct Ends(Signal, Signal);

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self(
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

async fn send(sink: &mut SplitSink<Socket, Message>, keys: &mut Keys, escape: &mut Escape) -> End {
    let (Ok(mut resized), Ok(mut ends)) = (signal(SignalKind::window_change()), Ends::new()) else {
        return End::Lost("signals cannot be caught".to_owned());
    };
    // It may have changed while nobody was connected.
    let mut message = Some(size());
    loop {
        if let Some(message) = message.take()
            && let Err(error) = sink.send(message).await
        {
            return End::Lost(error.to_string());
        }
        message = tokio::select! {
            typed = keys.next() => match typed.map(|typed| escape.take(&typed)) {
                Some(Meant::Keys(keys)) => (!keys.is_empty()).then(|| Message::binary(keys)),
                Some(Meant::Detach) | None => return End::Detached,
            },
            _ = resized.recv() => Some(size()),
            () = ends.next() => return End::Detached,
        };
    }
}

fn size() -> Message {
    let size = local::size();
    Message::text(json!({"type": "resize", "cols": size.cols, "rows": size.rows}).to_string())
}

async fn show(stream: &mut SplitStream<Socket>, offset: &mut Option<u64>) -> End {
    let mut exited = None;
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if print(&bytes).is_err() {
                    return End::Detached;
                }
                *offset = Some(offset.unwrap_or(0) + bytes.len() as u64);
            }
            Some(Ok(Message::Text(text))) => {
                let told: Value = serde_json::from_str(&text).unwrap_or_default();
                match told["type"].as_str() {
                    Some("ready") => *offset = told["offset"].as_u64(),
                    Some("gap") => {
                        let bytes = told["bytes"].as_u64().unwrap_or(0);
                        *offset = Some(offset.unwrap_or(0).saturating_add(bytes));
                        super::notice(&format!("{bytes} bytes left out"));
                    }
                    Some("exit") => exited = told["exit_code"].as_i64(),
                    // Sleep is not to be noticed; and what is new is no fault.
                    _ => {}
                }
            }
            Some(Ok(Message::Close(frame))) => return closed(frame, exited),
            Some(Ok(_)) => {}
            Some(Err(error)) => return lost(exited, error.to_string()),
            None => return lost(exited, "the connection ended".to_owned()),
        }
    }
}

fn closed(frame: Option<CloseFrame>, exited: Option<i64>) -> End {
    let (code, reason) = frame.map_or((1006, String::new()), |frame| {
        (u16::from(frame.code), frame.reason.to_string())
    });
    match code {
        4410 => End::Gone,
        1001 | 1006 | 1011 | 1012 | 1013 => lost(exited, reason),
        _ => match exited {
            Some(code) => End::Exited(code),
            None => End::Refused { code, reason },
        },
    }
}

fn lost(exited: Option<i64>, problem: String) -> End {
    exited.map_or(End::Lost(problem), End::Exited)
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u16) -> Option<CloseFrame> {
        Some(CloseFrame {
            code: code.into(),
            reason: "why".into(),
        })
    }

    #[test]
    fn ends() {
        assert!(matches!(closed(frame(1000), Some(3)), End::Exited(3)));
        assert!(matches!(closed(frame(4410), Some(-1)), End::Gone));
        assert!(matches!(closed(frame(1001), None), End::Lost(_)));
        assert!(matches!(closed(None, None), End::Lost(_)));
        assert!(matches!(closed(None, Some(0)), End::Exited(0)));
        assert!(matches!(
            closed(frame(4401), None),
            End::Refused { code: 4401, .. }
        ));
    }
}
