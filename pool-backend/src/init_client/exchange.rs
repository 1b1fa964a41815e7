//! One connection to init, for one call.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use fleet::timing;
use futures_util::{Stream, StreamExt as _};
use init_protocol::codec::{CodecError, push_json, read_frame, write_frame};
use init_protocol::{Call, FrameKind, Hello, MAX_FRAME, Reply, VERSION};
use tokio::io::{AsyncRead, AsyncWriteExt as _, BufReader, WriteHalf};
use tokio::net::TcpStream;

use super::error::InitError;

/// Bytes read ahead: all of a usual answer.
const READ_AHEAD: usize = 4096;

/// See the module.
pub(super) struct Exchange {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Exchange {
    /// Connects and asks.
    pub(super) async fn open(
        address: SocketAddr,
        token: &str,
        call: &Call,
    ) -> Result<Self, InitError> {
        Self::open_reading_ahead(address, token, call, READ_AHEAD).await
    }

    /// [`Exchange::open`] for a call after which the connection is the app's: nothing is read
    /// ahead.
    pub(super) async fn open_raw(
        address: SocketAddr,
        token: &str,
        call: &Call,
    ) -> Result<Self, InitError> {
        // With room for one byte every read goes past the buffer.
        Self::open_reading_ahead(address, token, call, 1).await
    }

    async fn open_reading_ahead(
        address: SocketAddr,
        token: &str,
        call: &Call,
        read_ahead: usize,
    ) -> Result<Self, InitError> {
        let mut buffer = Vec::with_capacity(512);
        let hello = Hello {
            version: VERSION,
            token: token.to_owned(),
        };
        push_json(&mut buffer, FrameKind::Hello, &hello)?;
        push_json(&mut buffer, FrameKind::Call, call).map_err(too_long)?;
        let connecting = tokio::time::timeout(timing::CONNECT, TcpStream::connect(address));
        let mut stream = connecting
            .await
            // Not `TimedOut`: init never heard the call, so it may be made again.
            .map_err(|_| InitError::Unreachable(io::ErrorKind::HostUnreachable.into()))?
            .map_err(InitError::Unreachable)?;
        stream.set_nodelay(true).map_err(InitError::Unreachable)?;
        let asked = stream.write_all(&buffer).await;
        asked.map_err(InitError::Unreachable)?;
        Ok(Self {
            stream: BufReader::with_capacity(read_ahead, stream),
            buffer,
        })
    }

    /// The next frame, which has to be a reply. A refusal is an error.
    pub(super) async fn reply(&mut self) -> Result<Reply, InitError> {
        read_reply(&mut self.stream, &mut self.buffer)
            .await?
            .ok_or(InitError::Protocol("an answer is missing"))
    }

    /// The next reply of a list, none after the last.
    pub(super) async fn reply_or_end(&mut self) -> Result<Option<Reply>, InitError> {
        read_reply(&mut self.stream, &mut self.buffer).await
    }

    /// The next frame of a body.
    pub(super) async fn body(&mut self) -> Result<(FrameKind, &[u8]), InitError> {
        let kind = read_frame(&mut self.stream, &mut self.buffer).await?;
        Ok((kind, &self.buffer))
    }

    /// Sends `content` as the call's body and waits for the answer, which may come early: init
    /// refuses a write as soon as it knows.
    pub(super) async fn send_body(
        &mut self,
        content: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Reply, InitError> {
        self.converse(|mut writer| async move { send(&mut writer, content).await })
            .await
    }

    /// Sends as `send` does and waits for the answer, which may come early.
    pub(super) async fn converse<'a, F>(
        &'a mut self,
        send: impl FnOnce(WriteHalf<&'a mut BufReader<TcpStream>>) -> F,
    ) -> Result<Reply, InitError>
    where
        F: Future<Output = Result<(), InitError>>,
    {
        let (mut reading, writing) = tokio::io::split(&mut self.stream);
        let mut answer = pin!(read_reply(&mut reading, &mut self.buffer));
        let sent = tokio::select! {
            biased;
            early = &mut answer => return early?.ok_or(InitError::Protocol("an early end")),
            sent = send(writing) => sent,
        };
        match sent {
            Ok(()) => {}
            // It may have said why before it hung up.
            Err(InitError::Unreachable(error)) => {
                return match tokio::time::timeout(timing::INIT_CALL, answer).await {
                    Ok(Ok(Some(reply))) => Ok(reply),
                    Ok(Err(refused @ InitError::Refused { .. })) => Err(refused),
                    _ => Err(InitError::Unreachable(error)),
                };
            }
            Err(error) => return Err(error),
        }
        tokio::time::timeout(timing::INIT_LONG_CALL, answer)
            .await
            .map_err(|_| InitError::TimedOut)??
            .ok_or(InitError::Protocol("an answer is missing"))
    }

    /// Closes after a complete answer, by a reset: neither side keeps a TIME_WAIT, of which ours
    /// would use up ports and the container's would be in a checkpoint's way.
    pub(super) fn finish(self) {
        // Else it closes in the usual way.
        let _ = self.stream.get_ref().set_zero_linger();
    }

    /// To read and write at the same time.
    pub(super) fn halves(
        &mut self,
    ) -> (
        impl AsyncRead + Unpin + Send,
        impl tokio::io::AsyncWrite + Unpin + Send,
        &mut Vec<u8>,
    ) {
        let (reading, writing) = tokio::io::split(&mut self.stream);
        (reading, writing, &mut self.buffer)
    }

    /// The connection as it is.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}

async fn read_reply<R>(reader: &mut R, buffer: &mut Vec<u8>) -> Result<Option<Reply>, InitError>
where
    R: AsyncRead + Unpin,
{
    let kind = read_frame(reader, buffer).await?;
    decode(kind, buffer)
}

/// A reply; none for the end of a list. A refusal is an error.
pub(super) fn decode(kind: FrameKind, buffer: &[u8]) -> Result<Option<Reply>, InitError> {
    match kind {
        FrameKind::Reply => {}
        FrameKind::End => return Ok(None),
        _ => return Err(InitError::Protocol("a frame out of place")),
    }
    match serde_json::from_slice(buffer) {
        Ok(Reply::Refused { kind, message }) => Err(InitError::refused(kind, &message)),
        Ok(reply) => Ok(Some(reply)),
        Err(_) => Err(InitError::Protocol("malformed JSON")),
    }
}

async fn send<W>(
    writer: &mut W,
    content: impl Stream<Item = io::Result<Bytes>>,
) -> Result<(), InitError>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut content = pin!(content);
    loop {
        let next = tokio::time::timeout(timing::BODY_SILENCE, content.next());
        let Some(bytes) = next.await.map_err(|_| InitError::TimedOut)? else {
            break;
        };
        let bytes = bytes.map_err(InitError::Source)?;
        for chunk in bytes.chunks(MAX_FRAME) {
            send_frame(writer, FrameKind::Data, chunk).await?;
        }
    }
    send_frame(writer, FrameKind::End, &[]).await
}

async fn send_frame<W>(writer: &mut W, kind: FrameKind, bytes: &[u8]) -> Result<(), InitError>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    tokio::time::timeout(timing::BODY_SILENCE, write_frame(writer, kind, bytes))
        .await
        .map_err(|_| InitError::TimedOut)?
        .map_err(InitError::from)
}

/// What we ask is too long: the caller's mistake, not init's.
pub(super) fn too_long(error: CodecError) -> InitError {
    match error {
        CodecError::TooLong(_) => {
            InitError::refused(init_protocol::RefusalKind::BadCall, "the call is too long")
        }
        other => other.into(),
    }
}
