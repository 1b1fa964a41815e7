//! Many changes of files over one connection: what makes ten thousand small files a matter of
//! seconds.
//!
//! Must never happen here: a change made twice, or a count of init's believed that cannot be.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use fleet::timing;
use futures_util::{Stream, StreamExt as _};
use init_protocol::codec::{push_json, write_frame};
use init_protocol::{Call, FrameKind, MAX_FRAME, Reply, Write};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use super::{InitClient, InitError, UNASKED, within};

/// Bytes that are sent at once: many small files in one piece.
const BUFFER: usize = 128 * 1024;

/// A part of a batch.
#[derive(Debug)]
pub enum Change {
    /// A file begins; its content follows, then `Written`.
    Write(Write),
    /// Content of the file that began.
    Data(Bytes),
    /// The file is complete.
    Written,
    /// A directory.
    Mkdir {
        /// Relative to `/workspace`.
        path: String,
        /// Permission bits.
        mode: Option<u32>,
    },
    /// A symbolic link.
    Link {
        /// Relative to `/workspace`.
        path: String,
        /// As it is written into the link.
        target: String,
    },
}

/// How far a batch came.
#[derive(Debug)]
pub struct Batched {
    /// Changes that are made: the first so many.
    pub done: u64,
    /// Why no more, if not all.
    pub refused: Option<InitError>,
}

impl InitClient {
    /// Makes changes as they come, each file whole or not at all. Bounded by silence
    /// ([`timing::BODY_SILENCE`]) only. When init refuses one, those before it are made.
    ///
    /// # Errors
    /// [`InitError`]; `Source` when `changes` fails: it is not known how many were made then.
    pub async fn batch(
        &self,
        changes: impl Stream<Item = io::Result<Change>> + Send,
    ) -> Result<Batched, InitError> {
        let opened = within(timing::INIT_CALL, self.begin(&Call::Batch)).await;
        let mut exchange = opened?;
        let mut sent = 0;
        let reply = exchange.converse(|writer| send(writer, changes, &mut sent));
        match reply.await? {
            Reply::Batch { done, refused } if done <= sent => {
                exchange.finish();
                if refused.is_none() && done != sent {
                    return Err(InitError::Protocol("a batch that is not complete"));
                }
                let refused = refused.map(|why| InitError::refused(why.kind, &why.message));
                Ok(Batched { done, refused })
            }
            _ => Err(UNASKED),
        }
    }
}

/// Counts changes as they begin.
async fn send<W>(
    writer: W,
    changes: impl Stream<Item = io::Result<Change>>,
    sent: &mut u64,
) -> Result<(), InitError>
where
    W: AsyncWrite + Unpin,
{
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    let mut frame = Vec::new();
    let mut changes = pin!(changes);
    loop {
        let next = tokio::time::timeout(timing::BODY_SILENCE, changes.next());
        let Some(change) = next.await.map_err(|_| InitError::TimedOut)? else {
            break;
        };
        frame.clear();
        let writing = async {
            match change.map_err(InitError::Source)? {
                Change::Write(write) => push(&mut frame, sent, &Call::Write(write))?,
                Change::Mkdir { path, mode } => {
                    let parents = true;
                    let call = Call::Mkdir {
                        path,
                        parents,
                        mode,
                    };
                    push(&mut frame, sent, &call)?;
                }
                Change::Link { path, target } => {
                    push(&mut frame, sent, &Call::Link { path, target })?;
                }
                Change::Data(bytes) => {
                    for chunk in bytes.chunks(MAX_FRAME) {
                        write_frame(&mut writer, FrameKind::Data, chunk).await?;
                    }
                    return Ok(());
                }
                Change::Written => {
                    write_frame(&mut writer, FrameKind::End, &[]).await?;
                    return Ok(());
                }
            }
            let wrote = writer.write_all(&frame).await;
            wrote.map_err(InitError::Unreachable)
        };
        tokio::time::timeout(timing::BODY_SILENCE, writing)
            .await
            .map_err(|_| InitError::TimedOut)??;
    }
    let ending = async {
        write_frame(&mut writer, FrameKind::End, &[]).await?;
        writer.flush().await.map_err(InitError::Unreachable)
    };
    tokio::time::timeout(timing::BODY_SILENCE, ending)
        .await
        .map_err(|_| InitError::TimedOut)?
}

fn push(frame: &mut Vec<u8>, sent: &mut u64, call: &Call) -> Result<(), InitError> {
    *sent += 1;
    push_json(frame, FrameKind::Call, call).map_err(super::exchange::too_long)
}
