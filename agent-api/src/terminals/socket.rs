//! The websocket of a terminal: bytes both ways, and a few words ([`super::wire`]).
//!
//! A browser cannot send a key in a header, so it may be the first message instead. Nothing is
//! looked up or woken before the key was checked.
//!
//! Must never happen here: one direction that waits for the other, or a wait without a bound for
//! somebody without a key.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use fleet::record::Woken;
use fleet::timing;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use pool_backend::workspaces::{Keyboard, TerminalSize, View, Viewed};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use utoipa::IntoParams;

use super::wire::{Farewell, Said, Told, ready};
use super::{origin, terminal_in_path, workspace};
use crate::caller::{Gatekeeper, StillGood};
use crate::input::Params;
use crate::websocket::{Leaving, Seat, Socket};
use crate::{ApiState, Caller, Problem};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ViewQuery {
    /// Bytes of output that were seen before.
    #[param(value_type = Option<u64>)]
    offset: Option<String>,
}

/// What is wanted, key or not.
struct Wanted {
    state: ApiState,
    project: String,
    terminal: String,
    offset: Option<u64>,
}

impl Wanted {
    async fn view(&self, caller: &Caller) -> Result<(View, Seat), Problem> {
        let workspace = workspace(&self.state, caller, &self.project)?;
        let id = terminal_in_path(&self.terminal)?;
        let seat = self.state.sockets.seat(&caller.owner)?;
        Ok((workspace.view_terminal(&id, self.offset).await?, seat))
    }
}

/// View and use a terminal (websocket)
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/terminals/{terminal_id}/ws",
    tag = "terminal",
    params(("project_id" = String, Path), ("terminal_id" = String, Path), ViewQuery),
    responses((status = 101, description = "Websocket"), (status = 426, description = "No websocket was asked for")))]
pub(super) async fn view(
    State(state): State<ApiState>,
    Path((project, terminal)): Path<(String, String)>,
    Params(query): Params<ViewQuery>,
    request: Request,
) -> Result<Response, Problem> {
    if !origin::fits(request.headers(), &state.public.domain) {
        let detail = "pages of this origin may not open terminals";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let offset = match query.offset.as_deref() {
        None | Some("") => None,
        text => Some(crate::input::number("offset", text, 0, 0..=u64::MAX)?),
    };
    let sockets = state.sockets.clone();
    let wanted = Wanted {
        state,
        project,
        terminal,
        offset,
    };
    let extensions = request.extensions();
    if let Some(caller) = extensions.get::<Caller>().cloned() {
        let good = extensions.get::<StillGood>().cloned();
        if !request.headers().contains_key(http::header::UPGRADE) {
            return sockets.upgrade(request, |_, _| async {});
        }
        let (view, seat) = wanted.view(&caller).await?;
        return sockets.upgrade(request, move |socket, leaving| async move {
            serve(socket, leaving, view, good).await;
            drop(seat);
        });
    }
    let Some(gatekeeper) = extensions.get::<Gatekeeper>().cloned() else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "an API key is required",
        ));
    };
    let stranger = sockets.stranger()?;
    sockets.upgrade(request, move |socket, leaving| async move {
        introduce(socket, leaving, &wanted, &gatekeeper, stranger).await;
    })
}

/// Waits for the key.
async fn introduce(
    mut socket: Socket,
    leaving: Leaving,
    wanted: &Wanted,
    gatekeeper: &Gatekeeper,
    stranger: OwnedSemaphorePermit,
) {
    let first = timeout(timing::WEBSOCKET_AUTH, first_text(&mut socket)).await;
    let key = match first {
        Ok(Ok(text)) => match Said::parse(&text) {
            Some(Said::Auth { key }) => key,
            _ => return part(socket, no_key("the first message must bring the API key")).await,
        },
        Ok(Err(farewell)) => return part(socket, farewell).await,
        Err(_) => return part(socket, no_key("no API key came")).await,
    };
    drop(stranger);
    let admitted = match gatekeeper.admit(&key) {
        Ok((caller, good)) => wanted.view(&caller).await.map(|seen| (seen, good)),
        Err(problem) => Err(problem),
    };
    match admitted {
        Ok(((view, seat), good)) => {
            serve(socket, leaving, view, Some(good)).await;
            drop(seat);
        }
        Err(problem) => part(socket, Farewell::of(&problem)).await,
    }
}

fn no_key(reason: &str) -> Farewell {
    Farewell::new(Farewell::NO_KEY, reason)
}

/// Asked before anything is done at its word, and now and then.
fn revoked(good: Option<&StillGood>) -> Option<Farewell> {
    let is_good = good.is_none_or(StillGood::is_good);
    (!is_good).then(|| no_key("the API key is not valid any more"))
}

async fn first_text(socket: &mut Socket) -> Result<String, Farewell> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err(no_key("the first message must bring the API key")),
            Some(Err(error)) => return Err(bad(&error)),
            None => return Err(no_key("no API key came")),
        }
    }
}

/// Until either end has enough.
async fn serve(socket: Socket, mut leaving: Leaving, view: View, good: Option<StillGood>) {
    let keyboard = view.keyboard();
    let (mut sink, mut stream) = socket.split();
    let farewell = {
        let listening = listen(&mut stream, &keyboard, good.clone());
        let telling = tell(&mut sink, view, good);
        tokio::select! {
            farewell = listening => farewell,
            farewell = telling => farewell,
            () = leaving.begun() => Some(Farewell::new(Farewell::LEAVING, "the server is shutting down")),
        }
    };
    let (Some(farewell), Ok(socket)) = (farewell, sink.reunite(stream)) else {
        return;
    };
    part(socket, farewell).await;
}

/// What the client says; none when it left.
async fn listen(
    stream: &mut SplitStream<Socket>,
    keyboard: &Keyboard,
    good: Option<StillGood>,
) -> Option<Farewell> {
    loop {
        let said = stream.next().await;
        if let Some(Ok(Message::Binary(_) | Message::Text(_))) = &said
            && let Some(farewell) = revoked(good.as_ref())
        {
            return Some(farewell);
        }
        match said {
            Some(Ok(Message::Binary(bytes))) => keyboard.input(bytes).await,
            Some(Ok(Message::Text(text))) => match Said::parse(&text) {
                Some(Said::Resize { cols, rows }) => keyboard.resize(TerminalSize { cols, rows }),
                // Who showed its key in a header may show it again.
                Some(Said::Auth { .. }) => {}
                None => {
                    let reason = "a text message must be a known JSON object";
                    return Some(Farewell::new(Farewell::NOT_UNDERSTOOD, reason));
                }
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) | None => return None,
            Some(Err(error)) => return Some(bad(&error)),
        }
    }
}

fn bad(error: &SocketError) -> Farewell {
    match error {
        SocketError::Capacity(_) => {
            Farewell::new(Farewell::TOO_LARGE, "a message may have at most 64 KiB")
        }
        _ => Farewell::new(1002, "not the websocket protocol"),
    }
}

/// What the client is told.
async fn tell(
    sink: &mut SplitSink<Socket, Message>,
    mut view: View,
    good: Option<StillGood>,
) -> Option<Farewell> {
    let mut ping = tokio::time::interval(timing::WEBSOCKET_PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut message = ready(&view);
    loop {
        sink.send(message).await.ok()?;
        message = tokio::select! {
            _ = ping.tick() => {
                if let Some(farewell) = revoked(good.as_ref()) {
                    return Some(farewell);
                }
                Message::Ping(bytes::Bytes::new())
            }
            seen = view.next() => match seen? {
                Viewed::Output(bytes) => Message::Binary(bytes),
                Viewed::Gap(bytes) => Told::Gap { bytes }.message(),
                Viewed::Asleep => Told::Asleep.message(),
                Viewed::Awake(woken) => Told::Awake { woken: word(woken) }.message(),
                Viewed::Exited(exit_code) => {
                    sink.send(Told::Exit { exit_code }.message()).await.ok()?;
                    return Some(Farewell::new(Farewell::EXITED, "the program has exited"));
                }
                Viewed::Gone => {
                    sink.send(Told::Exit { exit_code: -1 }.message()).await.ok()?;
                    let reason = "the terminal ended with its workspace's processes";
                    return Some(Farewell::new(Farewell::GONE, reason));
                }
                Viewed::Failed(error) => return Some(Farewell::of(&error.into())),
            },
        };
    }
}

fn word(woken: Woken) -> &'static str {
    match woken {
        Woken::Memory => "memory",
        Woken::Volume => "volume",
    }
}

/// Says goodbye and waits a little for the client to agree.
async fn part(mut socket: Socket, farewell: Farewell) {
    let goodbye = async {
        // Who is gone needs none.
        let _ = socket.close(Some(farewell.frame())).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(timing::CLOSING, goodbye).await;
}
