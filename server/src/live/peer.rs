//! Who is at the other end of a socket, and what is streamed to it.
//!
//! Must never happen here: a task that outlives its socket, more of them than are counted.

use std::collections::HashMap;
use std::sync::Arc;

use agent_api::Caller;
use fleet::timing;
use parking_lot::Mutex;
use socketioxide::extract::SocketRef;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::flow::Flow;
use super::session::{Kind, Out};
use crate::keys::{Entry, KeyStore};

/// Sessions of one socket.
pub(super) const MAX_SESSIONS: usize = 32;
/// Refusals that a socket has not read yet. Who asks on and reads none of them is cut off.
const MAX_REFUSALS: usize = 64;

/// See the module.
#[derive(Clone)]
pub(super) struct Peer(Arc<State>);

struct State {
    entry: Arc<Entry>,
    flow: Arc<Flow>,
    tasks: Mutex<Tasks>,
    /// It is connected: what it is told arrives.
    here: CancellationToken,
    gone: CancellationToken,
}

/// They end with it.
#[derive(Default)]
struct Tasks {
    sessions: HashMap<String, AbortHandle>,
    running: JoinSet<()>,
    refusing: JoinSet<()>,
}

impl Peer {
    pub(super) fn new(entry: Arc<Entry>, flow: Arc<Flow>) -> Self {
        Self(Arc::new(State {
            entry,
            flow,
            tasks: Mutex::default(),
            here: CancellationToken::new(),
            gone: CancellationToken::new(),
        }))
    }

    pub(super) fn flow(&self) -> &Arc<Flow> {
        &self.0.flow
    }

    pub(super) fn caller(&self) -> Caller {
        self.0.entry.caller()
    }

    /// Why it may not have one more session.
    pub(super) fn refusal(&self, keys: &KeyStore, kind: Kind) -> Option<String> {
        let entry = &self.0.entry;
        if !keys.is_good(entry) {
            return Some("this API key is not valid any more".to_owned());
        }
        let usage = entry.usage();
        if let Some(scope) = kind.needs()
            && !entry.allows(scope)
        {
            usage.refused.add(1);
            let word = crate::scope::word(scope);
            return Some(format!(
                "this API key does not have the scope {word}, which the stream needs"
            ));
        }
        if entry.take(keys.clock()).is_err() {
            usage.refused.add(1);
            return Some("this API key is used more often than its limit allows".to_owned());
        }
        usage.requests.add(1);
        None
    }

    /// A second one of the same name takes the place of the first.
    pub(super) fn start<F>(&self, kind: Kind, id: String, run: impl FnOnce(Out) -> F, out: Out)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = self.0.tasks.lock();
        if self.0.gone.is_cancelled() {
            return;
        }
        while tasks.running.try_join_next().is_some() {}
        tasks.sessions.retain(|_, session| !session.is_finished());
        let key = kind.key(&id);
        if let Some(before) = tasks.sessions.remove(&key) {
            before.abort();
        }
        // Those that were just ended count until they have.
        if tasks.running.len() >= 2 * MAX_SESSIONS || tasks.sessions.len() >= MAX_SESSIONS {
            drop(tasks);
            return self.refuse(
                out,
                format!("more than {MAX_SESSIONS} streams on one socket"),
            );
        }
        let Some(place) = self.0.entry.places.stream() else {
            drop(tasks);
            return self.refuse(out, "too many streams of this API key".to_owned());
        };
        let (entry, last) = (Arc::clone(&self.0.entry), out.clone());
        let (here, run) = (self.0.here.clone(), run(out));
        let session = tasks.running.spawn(async move {
            here.cancelled().await;
            tokio::select! {
                () = run => {}
                // Some clients wait for nothing but the end of their stream.
                () = entry.ended() => last.refuse("this API key is not valid any more").await,
            }
            drop(place);
        });
        tasks.sessions.insert(key, session);
    }

    /// Tells it, as soon as there is room.
    pub(super) fn refuse(&self, out: Out, why: String) {
        let mut tasks = self.0.tasks.lock();
        if self.0.gone.is_cancelled() {
            return;
        }
        while tasks.refusing.try_join_next().is_some() {}
        if tasks.refusing.len() >= MAX_REFUSALS {
            self.0.flow.end();
            return;
        }
        let here = self.0.here.clone();
        tasks.refusing.spawn(async move {
            here.cancelled().await;
            out.refuse(&why).await;
        });
    }

    pub(super) fn stop(&self, kind: Kind, id: &str) {
        if let Some(session) = self.0.tasks.lock().sessions.remove(&kind.key(id)) {
            session.abort();
        }
    }

    /// The socket is connected. What it asked for before that begins now.
    pub(super) fn is_here(&self) {
        self.0.here.cancel();
    }

    /// The socket has gone, and everything with it.
    pub(super) fn gone(&self) {
        self.0.gone.cancel();
        *self.0.tasks.lock() = Tasks::default();
    }

    /// Until the socket goes by itself: once its key is no good any more, it is not either.
    pub(super) fn guard(&self, socket: SocketRef) -> impl Future<Output = ()> + Send + 'static {
        let peer = self.clone();
        async move {
            tokio::select! {
                () = peer.0.entry.ended() => {}
                () = peer.0.gone.cancelled() => return,
            }
            // Its streams hear of it first; nothing more is told in them, and nothing new begins.
            tokio::time::sleep(timing::SOCKET_PARTING).await;
            peer.gone();
            // The namespace is left, so clients do not come back by themselves; then, or when
            // there is no room to say so, the connection goes too.
            if socket.disconnect().is_ok() {
                tokio::time::sleep(timing::SOCKET_PARTING).await;
            }
            peer.0.flow.end();
        }
    }
}
