//! Socket.IO at `/socket.io/`: what the SDK's streaming client speaks. Who calls is said in the
//! CONNECT packet, not in headers; sessions (a watch, a followed job) belong to their socket and
//! end with it.
//!
//! Must never happen here: a session of a socket whose key was not checked or is not valid any more,
//! a queue that grows for who reads slowly, an error after which an SDK's loop goes on waiting, a
//! goodbye to clients that shall come back.

mod door;
mod flow;
mod peer;
mod session;
mod strangers;
mod wire;

use std::sync::Arc;

use agent_api::websocket::Websockets;
use axum::Router;
use axum::routing::any;
use fleet::timing;
use pool_backend::Workspaces;
use serde::Deserialize;
use serde_json::Value;
use socketioxide::extract::{Extension, SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::{ParserConfig, SocketIo};

use crate::keys::{KeyStore, Verdict};
use door::Door;
use flow::Flow;
use peer::Peer;
use session::{Kind, Wish};

/// Where it is. Slashes at the end are taken off before.
pub(crate) const PATH: &str = "/socket.io";
/// Largest message that is taken.
const MAX_MESSAGE: usize = 64 * 1024;
/// Packets in the engine's queue of one socket. There is room for as many as [`flow`] lets wait.
const QUEUE: usize = 4096;

/// What sockets work with.
struct Live {
    keys: Arc<KeyStore>,
    workspaces: Workspaces,
    sockets: Websockets,
}

/// What a CONNECT packet brings, in the words of either SDK.
#[derive(Debug, Default, Deserialize)]
struct Auth {
    #[serde(alias = "apiKey", alias = "token")]
    api_key: Option<String>,
}

/// The route, which checks no key before the CONNECT packet. Must be called within a runtime.
pub(crate) fn routes(keys: Arc<KeyStore>, workspaces: Workspaces, sockets: Websockets) -> Router {
    // Nobody sends us bytes.
    let parser = ParserConfig::common()
        .max_incoming_binaries(1)
        .max_incoming_binary_buf_size(MAX_MESSAGE)
        .packet_completion_timeout(timing::SOCKET_PARTING);
    let (service, io) = SocketIo::builder()
        .req_path(PATH)
        .with_parser(parser)
        .connect_timeout(timing::SOCKET_CONNECT)
        .upgrade_timeout(timing::SOCKET_CONNECT)
        .ping_interval(timing::SOCKET_PING)
        .ping_timeout(timing::SOCKET_PONG)
        .max_payload(MAX_MESSAGE as u64)
        .ws_max_message_size(MAX_MESSAGE)
        .ws_max_frame_size(MAX_MESSAGE)
        .max_buffer_size(QUEUE)
        .build_with_inner_svc(door::Elsewhere);
    let live = Arc::new(Live {
        keys,
        workspaces,
        sockets: sockets.clone(),
    });
    let admit = {
        let live = Arc::clone(&live);
        move |socket: SocketRef, auth: TryData<Auth>| {
            let admitted = live.admit(&socket, auth);
            if admitted.is_ok() {
                // Not once it is connected: a quick client's first words would find nobody.
                live.listen(&socket);
            }
            std::future::ready(admitted)
        }
    };
    let connect = move |socket: SocketRef| {
        live.connected(&socket);
        std::future::ready(())
    };
    io.ns("/", connect.with(admit));
    let door = Arc::new(Door::new(service, sockets));
    Router::new().route(PATH, any(door::enter)).with_state(door)
}

impl Live {
    /// Before the socket is connected: whose is it? The text is what the client sees.
    fn admit(&self, socket: &SocketRef, auth: TryData<Auth>) -> Result<(), &'static str> {
        let key = auth.0.unwrap_or_default().api_key.unwrap_or_default();
        let entry = match self.keys.check(key.trim()) {
            Verdict::Valid(entry) => entry,
            Verdict::Revoked => return Err("this API key was revoked"),
            Verdict::Expired => return Err("this API key has expired"),
            Verdict::Unknown => return Err("invalid api key"),
        };
        let refused = |why| {
            entry.usage().refused.add(1);
            Err(why)
        };
        if entry.take(self.keys.clock()).is_err() {
            return refused("this API key is used more often than its limit allows");
        }
        let Some(flow) = socket.req_parts().extensions.get::<Arc<Flow>>() else {
            // The door has put it there.
            return Err("internal error");
        };
        let Some(place) = entry.places.socket() else {
            return refused("too many sockets of this API key are open");
        };
        let Ok(seat) = self.sockets.seat(&entry.caller().owner) else {
            return refused("too many sockets of this owner are open");
        };
        flow.settle((place, seat));
        entry.usage().requests.add(1);
        socket.extensions.insert(Peer::new(entry, Arc::clone(flow)));
        Ok(())
    }

    fn listen(self: &Arc<Self>, socket: &SocketRef) {
        for kind in [Kind::Files, Kind::Terminal, Kind::Agent] {
            let live = Arc::clone(self);
            let start =
                move |socket: SocketRef, Extension(peer): Extension<Peer>, data: TryData<Value>| {
                    live.start(kind, socket, &peer, data);
                    std::future::ready(())
                };
            let stop = move |Extension(peer): Extension<Peer>, data: TryData<Value>| {
                if let Some(id) = data.0.ok().and_then(|data| Wish::session_of(&data)) {
                    peer.stop(kind, &id);
                }
                std::future::ready(())
            };
            for spelled in kind.events("start") {
                socket.on(spelled, start.clone());
            }
            for spelled in kind.events("stop") {
                socket.on(spelled, stop);
            }
        }
        socket.on_disconnect(|Extension(peer): Extension<Peer>| {
            peer.gone();
            std::future::ready(())
        });
    }

    fn connected(self: &Arc<Self>, socket: &SocketRef) {
        let Some(peer) = socket.extensions.get::<Peer>() else {
            // The middleware has put it there.
            return;
        };
        peer.is_here();
        if !socket.connected() {
            // It went before anybody could be told.
            return peer.gone();
        }
        tokio::spawn(peer.guard(socket.clone()));
    }

    fn start(&self, kind: Kind, socket: SocketRef, peer: &Peer, data: TryData<Value>) {
        let data = data.0.unwrap_or_default();
        let id = Wish::session_of(&data);
        let refusal = match id {
            None => Some("session_id is missing, or longer than 256 bytes".to_owned()),
            Some(_) => peer.refusal(&self.keys, kind),
        };
        let id = id.unwrap_or_default();
        let out = session::Out::new(kind, socket, Arc::clone(peer.flow()), id.clone());
        match refusal {
            Some(why) => peer.refuse(out, why),
            None => {
                let wish = Wish::new(kind, data);
                let caller = peer.caller();
                let workspaces = self.workspaces.clone();
                let run = |out| session::run(wish, out, workspaces, caller);
                peer.start(kind, id, run, out);
            }
        }
    }
}
