//! The port that the node calls: one connection, one call.
//!
//! Must never happen here: a call for someone without the token, or a wait without a bound (but
//! for a job's end and a terminal's output, which the node asked to wait for).

mod attach;
mod calls;
mod follow;

use std::rc::Rc;
use std::sync::Arc;

use init_protocol::codec::{CodecError, read_frame_up_to, read_json, write_json};
use init_protocol::{Call, FrameKind, Hello, RefusalKind, Reply, VERSION};
use rustix::net::sockopt;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::files::Files;
use crate::jobs::Jobs;
use crate::refusal::Refusal;
use crate::terminals::Terminals;
use crate::timing;
use crate::watch::Writes;
pub use calls::{Exchange, bounded};

/// A call's connection.
pub type Connection = BufReader<TcpStream>;

/// Connections that have not shown the token yet; more wait to be accepted.
const MAX_STRANGERS: usize = 64;
/// Calls at once.
const MAX_CALLS: usize = 256;
/// Viewers of terminals at once.
const MAX_WATCHING: usize = 256;
/// Forwards at once: each has two file descriptors.
const MAX_FORWARDS: usize = 512;
/// Outputs copied out at once: up to 2 MiB each.
const MAX_OUTPUTS: usize = 4;
/// Jobs followed at once.
const MAX_FOLLOWERS: usize = 64;
/// Longest first frame.
const MAX_HELLO: usize = 1024;
/// Bytes read ahead of a frame.
const READ_AHEAD: usize = 4096;

/// See the module.
pub struct Server {
    config: Rc<Config>,
    listener: TcpListener,
    jobs: Rc<Jobs>,
    terminals: Terminals,
    files: Files,
    writes: Rc<Writes>,
    strangers: Arc<Semaphore>,
    calls: Semaphore,
    forwards: Semaphore,
    watching: Semaphore,
    outputs: Semaphore,
    watches: Semaphore,
    followers: Semaphore,
}

/// Why a call ends early.
pub enum Fault {
    /// The node is told.
    Refused(Refusal),
    /// Nobody is there to be told.
    Broken,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Io(_) | CodecError::Ended => Self::Broken,
            CodecError::TooLong(_) => Refusal::bad("a frame is too long").into(),
            CodecError::UnknownKind(_) | CodecError::Unexpected(_) => {
                Refusal::bad("a frame of this kind has no place here").into()
            }
            CodecError::Malformed(_) => Refusal::bad("malformed message").into(),
        }
    }
}

impl Server {
    pub async fn bind(config: Rc<Config>, jobs: Rc<Jobs>) -> std::io::Result<Rc<Self>> {
        let writes = Rc::new(Writes::default());
        Ok(Rc::new(Self {
            listener: TcpListener::bind(config.listen).await?,
            files: Files::new(config.workspace.clone(), Rc::clone(&writes)),
            config,
            terminals: Terminals::new(jobs.clone()),
            jobs,
            writes,
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            calls: Semaphore::new(MAX_CALLS),
            forwards: Semaphore::new(MAX_FORWARDS),
            watching: Semaphore::new(MAX_WATCHING),
            outputs: Semaphore::new(MAX_OUTPUTS),
            watches: Semaphore::new(init_protocol::MAX_WATCHES),
            followers: Semaphore::new(MAX_FOLLOWERS),
        }))
    }

    pub async fn serve(self: Rc<Self>) -> std::convert::Infallible {
        loop {
            // None only if it were closed, which nobody does.
            let slot = self.strangers.clone().acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(self.clone().converse(stream, slot));
                }
                // No descriptor, no memory, or a peer that left: the next one may do better.
                Err(_) => tokio::time::sleep(timing::ACCEPT_PAUSE).await,
            }
        }
    }

    /// One connection from its first frame to its end. Until it shows the token it counts as a
    /// stranger's, its end included.
    async fn converse(
        self: Rc<Self>,
        stream: TcpStream,
        mut stranger: Option<OwnedSemaphorePermit>,
    ) {
        prepare(&stream);
        let mut connection = BufReader::with_capacity(READ_AHEAD, stream);
        let mut buffer = Vec::new();
        let asked = tokio::time::timeout(timing::HELLO, self.ask(&mut connection, &mut buffer));
        let answered = match asked.await {
            Ok(Ok(call)) => {
                stranger = None;
                self.answer(&mut connection, call, &mut buffer).await
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::Broken),
        };
        match answered {
            Ok(()) => finish(connection).await,
            Err(Fault::Refused(Refusal { kind, message })) => {
                let message = message.into_owned();
                let reply = Reply::Refused { kind, message };
                let write = write_json(&mut connection, FrameKind::Reply, &reply, &mut buffer);
                let _ = tokio::time::timeout(timing::BODY_SILENCE, write).await;
                finish(connection).await;
            }
            // A reset says that nothing more comes, and keeps no TIME_WAIT.
            Err(Fault::Broken) => drop(connection.get_ref().set_zero_linger()),
        }
        drop(stranger);
    }

    /// Who is there, and what for?
    async fn ask(&self, connection: &mut Connection, buffer: &mut Vec<u8>) -> Result<Call, Fault> {
        let kind = read_frame_up_to(connection, buffer, MAX_HELLO).await?;
        let hello: Option<Hello> = serde_json::from_slice(buffer).ok();
        let Some(hello) = hello.filter(|_| kind == FrameKind::Hello) else {
            return Err(Refusal::bad("say hello first").into());
        };
        let known = hello.token.as_bytes().ct_eq(self.config.token.as_bytes());
        if !bool::from(known) {
            return Err(Refusal::new(RefusalKind::Stranger, "wrong token").into());
        }
        if hello.version != VERSION {
            return Err(Refusal::bad("this init speaks another version").into());
        }
        Ok(read_json(connection, FrameKind::Call, buffer).await?)
    }

    async fn answer(
        &self,
        connection: &mut Connection,
        call: Call,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let kind = match call {
            Call::Forward { .. } => &self.forwards,
            Call::Watch => &self.watches,
            Call::Follow { .. } => &self.followers,
            Call::Attach { .. } => &self.watching,
            _ => &self.calls,
        };
        let _slot = kind
            .try_acquire()
            .map_err(|_| Refusal::new(RefusalKind::TooMany, "too many calls at once"))?;
        calls::Exchange {
            server: self,
            connection,
            buffer,
        }
        .answer(call)
        .await
    }
}

/// What the kernel shall do for a connection. None of it is needed for it to work.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // A node that was cut off, or slept through our hibernation, never says goodbye.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, timing::KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(stream, timing::KEEP_ALIVE / 4);
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

/// Lets the node close first, so that TIME_WAIT is not on our side; else resets the connection.
async fn finish(mut connection: Connection) {
    let mut sink = [0; 4096];
    let closed = async {
        while connection
            .read(&mut sink)
            .await
            .is_ok_and(|bytes| bytes > 0)
        {}
    };
    if tokio::time::timeout(timing::CLOSE, closed).await.is_err() {
        let _ = connection.get_ref().set_zero_linger();
    }
}
