//! The node's door: visitors in, and connections to the apps that they want.
//!
//! Must never happen here: a question to the directory, or a way to a container's control port.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use async_trait::async_trait;
use fleet::door::{
    Admission, Connect, ConnectError, Door, DoorUnavailable, Guard, NotListening, PortChoice,
    Standing, Stay, Upstream, Visit,
};
use fleet::id::{Generation, WorkspaceId};
use fleet::timing;
use init_protocol::{CONTROL_PORT, JobStatus};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::driver::gate::{Gate, Pass, Way};
use crate::driver::ports::Known;
use crate::driver::{Entry, Handle};
use crate::engine::Engine;
use crate::init_client::InitError;

/// See the module.
pub(crate) struct NodeDoor {
    engine: Arc<Engine>,
}

impl NodeDoor {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Door for NodeDoor {
    async fn admit(
        &self,
        workspace: &WorkspaceId,
        generation: Generation,
        port: PortChoice,
        visit: Visit,
    ) -> Result<Admission, DoorUnavailable> {
        let Some(handle) = self.engine.table.by_id(workspace) else {
            return Ok(Admission::Moved);
        };
        let (gate, pass) = match handle.enter(Some(generation), visit).await {
            Entry::Entered(gate, pass) => (gate, pass),
            Entry::Moved => return Ok(Admission::Moved),
            Entry::Asleep => return Ok(Admission::Asleep),
        };
        let visitor = Visitor::new(&handle, &gate, pass);
        let by_choice = port == PortChoice::Main && handle.preview_port.get().is_none();
        Ok(match choose(&handle, &gate, port).await {
            Choice::Port(port) => {
                Admission::Admitted(guard(handle, gate, port, by_choice, visitor))
            }
            Choice::Nothing(nothing) => Admission::NotListening(nothing),
            Choice::Dead => Admission::Asleep,
        })
    }
}

/// Somebody inside. Its coming is activity, if its owner counts visits, and so is the end of a
/// request; a tab that is closed is none.
struct Visitor {
    handle: Arc<Handle>,
    /// When it came in: its connections are of that generation.
    generation: Generation,
    pass: Pass,
}

impl Visitor {
    fn new(handle: &Arc<Handle>, gate: &Gate, pass: Pass) -> Self {
        let visitor = Self {
            handle: Arc::clone(handle),
            generation: gate.generation,
            pass,
        };
        visitor.used();
        visitor
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if self.pass.visit() == Visit::InFlight {
            self.used();
        }
    }
}

#[async_trait]
impl Stay for Visitor {
    fn attach(&self) {
        self.pass.attach();
    }

    fn used(&self) {
        if self.handle.settings().keep_alive_on_preview {
            self.handle.touch();
        }
    }

    fn answered(&self) {
        self.handle.activity.said_something();
    }

    fn standing(&self) -> Standing {
        self.handle.standing(self.generation)
    }

    async fn changed(&self, seen: Standing) -> Standing {
        let mut status = self.handle.watch();
        loop {
            // Seen before the question: whatever is published from here on wakes us.
            status.borrow_and_update();
            let standing = self.standing();
            if standing != seen {
                return standing;
            }
            if status.changed().await.is_err() {
                return Standing::Lost;
            }
        }
    }
}

enum Choice {
    Port(u16),
    Nothing(NotListening),
    /// The container turned out to be gone.
    Dead,
}

/// What is known decides if it can; else init is asked.
async fn choose(handle: &Arc<Handle>, gate: &Arc<Gate>, wanted: PortChoice) -> Choice {
    let is_main = wanted == PortChoice::Main;
    let wanted = match wanted {
        PortChoice::Number(port) => Some(port),
        PortChoice::Main => handle.preview_port.get(),
    };
    if wanted == Some(CONTROL_PORT) {
        let listening = gate.ports.cached().map(|known| known.numbers());
        return Choice::Nothing(NotListening {
            port: wanted,
            listening: listening.unwrap_or_default(),
        });
    }
    if let Some(port) = gate.ports.cached().and_then(|known| pick(&known, wanted)) {
        return Choice::Port(port);
    }
    let asked = tokio::select! {
        asked = gate.ports.refresh() => asked,
        () = handle.death_after_silence(gate.generation) => return Choice::Dead,
    };
    match asked {
        Ok(known) => match pick(&known, wanted) {
            Some(port) => Choice::Port(port),
            None => {
                let other = match is_main {
                    true => after_failed(handle, gate, &known).await,
                    false => None,
                };
                let nothing = || NotListening {
                    port: wanted,
                    listening: known.numbers(),
                };
                other.map_or_else(|| Choice::Nothing(nothing()), Choice::Port)
            }
        },
        Err(error) => {
            tracing::debug!(workspace = %handle.id(), %error, "init does not tell the ports");
            if !handle.check(gate.generation).await {
                return Choice::Dead;
            }
            // A busy init is no reason to turn away somebody who knows the port.
            match wanted {
                Some(port) => Choice::Port(port),
                None => Choice::Nothing(NotListening {
                    port: None,
                    listening: Vec::new(),
                }),
            }
        }
    }
}

/// The port of the youngest preview that listens, if the apps of all younger ones have ended: one that
/// failed takes no address from one that works, and one that starts does.
async fn after_failed(handle: &Handle, gate: &Gate, known: &Known) -> Option<u16> {
    let showing = handle.showing();
    for preview in showing.shown() {
        if known.has(preview.port) {
            return Some(preview.port);
        }
        let state = gate.init.job(preview.job.as_ref()?).await.ok()?;
        if state.status == JobStatus::Running {
            return None;
        }
    }
    None
}

fn pick(known: &Known, wanted: Option<u16>) -> Option<u16> {
    match wanted {
        Some(port) => known.has(port).then_some(port),
        None => known.main,
    }
}

fn guard(
    handle: Arc<Handle>,
    gate: Arc<Gate>,
    port: u16,
    by_choice: bool,
    visitor: Visitor,
) -> Guard {
    let address = SocketAddrV4::new(gate.address, port);
    Guard {
        port,
        upstream: Upstream {
            address: SocketAddr::V4(address),
            pool_key: gate.pool_key(port),
            connector: Arc::new(Connector {
                handle,
                gate,
                address,
                by_choice,
            }),
        },
        stay: Arc::new(visitor),
    }
}

/// Connects to one port of one generation of a container.
struct Connector {
    handle: Arc<Handle>,
    gate: Arc<Gate>,
    address: SocketAddrV4,
    /// The port is our choice, not the visitor's.
    by_choice: bool,
}

/// What became of one way.
enum Tried {
    Connected(TcpStream),
    /// The container answers, nothing listens.
    Refused,
    /// The container does not answer.
    Silent,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self) -> Result<TcpStream, ConnectError> {
        if !self.gate.is_open() {
            return Err(ConnectError::Gone);
        }
        tokio::select! {
            connected = self.try_both_ways() => connected,
            () = self.handle.death_after_silence(self.gate.generation) => Err(ConnectError::Gone),
        }
    }
}

impl Connector {
    async fn try_both_ways(&self) -> Result<TcpStream, ConnectError> {
        let port = self.address.port();
        let first = self.gate.way(port);
        let second = match first {
            Way::Direct => Way::Forward,
            Way::Forward => Way::Direct,
        };
        let mut silent = false;
        for way in [first, second] {
            match self.try_way(way).await {
                Tried::Connected(stream) => {
                    self.gate.worked(port, way);
                    return Ok(stream);
                }
                Tried::Refused => {}
                Tried::Silent => silent = true,
            }
        }
        self.gate.failed(port);
        Err(self.explain(silent).await)
    }

    async fn try_way(&self, way: Way) -> Tried {
        match way {
            Way::Direct => {
                match timeout(timing::CONNECT, TcpStream::connect(self.address)).await {
                    Ok(Ok(stream)) => {
                        // Best effort: small writes of an app must not wait for each other.
                        let _ = stream.set_nodelay(true);
                        Tried::Connected(stream)
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        Tried::Refused
                    }
                    Ok(Err(_)) | Err(_) => Tried::Silent,
                }
            }
            Way::Forward => match self.gate.init.forward(self.address.port()).await {
                Ok(stream) => Tried::Connected(stream),
                Err(InitError::Refused { .. }) => Tried::Refused,
                Err(_) => Tried::Silent,
            },
        }
    }

    /// Why neither way led in.
    async fn explain(&self, silent: bool) -> ConnectError {
        match self.gate.ports.refresh().await {
            // The app moved to another port: who asks for the main one again gets there.
            Ok(known)
                if self.by_choice && known.main.is_some_and(|main| main != self.address.port()) =>
            {
                ConnectError::Gone
            }
            Ok(known) if !silent => ConnectError::NotListening(NotListening {
                port: Some(self.address.port()),
                listening: known.numbers(),
            }),
            Ok(_) => ConnectError::TimedOut,
            Err(_) if self.handle.check(self.gate.generation).await => ConnectError::TimedOut,
            Err(_) => ConnectError::Gone,
        }
    }
}
