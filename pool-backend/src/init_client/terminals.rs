//! Calls about terminals, and the connection of a viewer.
//!
//! Must never happen here: bytes of a terminal believed to be anything but bytes, or a frame of
//! any size in memory.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use fleet::id::TerminalId;
use fleet::timing;
use init_protocol::codec::push_json;
use init_protocol::terminal::{MAX_TERMINALS, OpenTerminal, TerminalSize, TerminalState};
use init_protocol::{Call, FrameKind, Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::error::InitError;
use super::exchange::Exchange;
use super::{InitClient, UNASKED, check, millis, within};

/// Longest frame of a terminal's: init sends no longer ones.
const FRAME_MAX: usize = 64 * 1024;
/// Bytes before a frame's payload.
const HEADER: usize = 5;

impl InitClient {
    /// Starts a program at a terminal of its own; one that is there under this id is found.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn open_terminal(&self, wish: &OpenTerminal) -> Result<TerminalState, InitError> {
        match self.ask(&Call::OpenTerminal(wish.clone())).await? {
            Reply::Terminal(state) => check::terminal(state, &wish.terminal),
            _ => Err(UNASKED),
        }
    }

    /// How one terminal stands.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn terminal(&self, id: &TerminalId) -> Result<TerminalState, InitError> {
        let terminal = id.as_str().to_owned();
        match self.ask(&Call::Terminal { terminal }).await? {
            Reply::Terminal(state) => check::terminal(state, id.as_str()),
            _ => Err(UNASKED),
        }
    }

    /// All terminals, oldest first.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn terminals(&self) -> Result<Vec<TerminalState>, InitError> {
        let states = self.list(&Call::Terminals, MAX_TERMINALS, |reply| match reply {
            Reply::Terminals { terminals } => Some(terminals),
            _ => None,
        });
        check::terminals(states.await?)
    }

    /// Ends all that runs at a terminal, and forgets it.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn close_terminal(
        &self,
        id: &TerminalId,
        grace: Duration,
    ) -> Result<TerminalState, InitError> {
        let call = Call::CloseTerminal {
            terminal: id.as_str().to_owned(),
            grace_ms: millis(grace),
        };
        match self.ask_within(&call, timing::INIT_CALL + grace).await? {
            Reply::Terminal(state) => check::terminal(state, id.as_str()),
            _ => Err(UNASKED),
        }
    }

    /// A viewer's connection to a terminal.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn attach(
        &self,
        id: &TerminalId,
        viewer: &str,
        offset: Option<u64>,
    ) -> Result<Attached, InitError> {
        let call = Call::Attach {
            terminal: id.as_str().to_owned(),
            viewer: viewer.to_owned(),
            offset,
        };
        within(timing::INIT_CALL, async {
            let mut exchange = Exchange::open_raw(self.address, &self.token, &call).await?;
            let Reply::Attached {
                terminal,
                offset: at,
                taken,
            } = exchange.reply().await?
            else {
                return Err(UNASKED);
            };
            let state = check::terminal(terminal, id.as_str())?;
            if at > state.output || offset.is_some_and(|offset| at < offset.min(state.output)) {
                return Err(InitError::Protocol("an impossible offset"));
            }
            Ok(Attached::new(state, at, taken, exchange.into_stream()))
        })
        .await
    }
}

/// See [`InitClient::attach`]. Dropped, the viewer has left.
pub struct Attached {
    /// How the terminal stood when it began.
    pub state: TerminalState,
    /// The number of the first byte that follows.
    pub offset: u64,
    /// Bytes of this viewer's input that had arrived.
    pub taken: u64,
    /// What comes.
    pub hearing: Hearing,
    /// What is sent.
    pub saying: Saying,
}

impl Attached {
    fn new(state: TerminalState, offset: u64, taken: u64, stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Self {
            state,
            offset,
            taken,
            hearing: Hearing {
                reading,
                buffer: BytesMut::new(),
            },
            saying: Saying {
                writing,
                waiting: BytesMut::new(),
            },
        }
    }
}

/// What a viewer hears of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Output.
    Output(Bytes),
    /// So much of it is lost.
    Gap(u64),
    /// So many bytes of our input have arrived, ever.
    Taken(u64),
    /// The program has exited, and all of its output was heard.
    Ended(TerminalState),
}

/// The reading half.
pub struct Hearing {
    reading: OwnedReadHalf,
    buffer: BytesMut,
}

impl Hearing {
    /// What comes next. Cancel safe.
    ///
    /// # Errors
    /// [`InitError`]; of no use any more then.
    pub async fn next(&mut self) -> Result<Heard, InitError> {
        loop {
            if let Some(heard) = self.parse()? {
                return Ok(heard);
            }
            let read = self.reading.read_buf(&mut self.buffer).await;
            if read.map_err(InitError::Unreachable)? == 0 {
                let ended = io::ErrorKind::UnexpectedEof.into();
                return Err(InitError::Unreachable(ended));
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Heard>, InitError> {
        let Some((&[kind, a, b, c, d], _)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let kind = FrameKind::try_from(kind)?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_MAX {
            return Err(InitError::Protocol("a frame is too long"));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(length).freeze();
        match kind {
            FrameKind::Data if !payload.is_empty() => Ok(Some(Heard::Output(payload))),
            FrameKind::Reply => match serde_json::from_slice(&payload) {
                Ok(Reply::Gap { bytes }) => Ok(Some(Heard::Gap(bytes))),
                Ok(Reply::Taken { bytes }) => Ok(Some(Heard::Taken(bytes))),
                Ok(Reply::Terminal(state)) => {
                    let id = state.terminal.clone();
                    Ok(Some(Heard::Ended(check::terminal(state, &id)?)))
                }
                Ok(_) => Err(UNASKED),
                Err(_) => Err(InitError::Protocol("malformed JSON")),
            },
            _ => Err(InitError::Protocol("a frame out of place")),
        }
    }
}

/// The writing half.
pub struct Saying {
    writing: OwnedWriteHalf,
    waiting: BytesMut,
}

impl Saying {
    /// Puts input behind what waits to be sent.
    pub fn input(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(FRAME_MAX) {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.waiting.extend_from_slice(&[FrameKind::Data as u8]);
            self.waiting.extend_from_slice(&length.to_be_bytes());
            self.waiting.extend_from_slice(part);
        }
    }

    /// Puts a new size of the window behind it.
    pub fn resize(&mut self, size: TerminalSize) {
        let mut frame = Vec::new();
        // Two numbers always fit.
        if push_json(&mut frame, FrameKind::Call, &Call::Resize(size)).is_ok() {
            self.waiting.extend_from_slice(&frame);
        }
    }

    /// Whether something waits.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends some of what waits. Cancel safe.
    ///
    /// # Errors
    /// [`InitError`]; of no use any more then.
    pub async fn send(&mut self) -> Result<(), InitError> {
        let sent = self.writing.write_buf(&mut self.waiting).await;
        match sent.map_err(InitError::Unreachable)? {
            0 => Err(InitError::Unreachable(io::ErrorKind::WriteZero.into())),
            _ => Ok(()),
        }
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        // Neither side keeps a TIME_WAIT, which would be in a checkpoint's way. A best effort.
        let _ = AsRef::<TcpStream>::as_ref(&self.writing).set_zero_linger();
    }
}
