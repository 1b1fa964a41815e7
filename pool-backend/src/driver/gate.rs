//! The gate of one generation of a container: who is inside, and whether anybody may still come
//! in. The driver opens and closes it; the door lets visitors through.
//!
//! While the container stands still the gate is *shut*: who comes then knocks, and the driver
//! opens again. A *closed* gate stays closed: behind it there is, or will be, no container. All of
//! it is one lock, so a visitor either is inside before the gate is shut, and nothing is frozen,
//! or knocks and is heard.
//!
//! Must never happen here: a decision about the workspace's life, or a visitor through a closed
//! gate.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use dashmap::DashMap;
use fleet::door::Visit;
use fleet::id::Generation;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ports::Ports;
use crate::init_client::InitClient;

/// See the module.
pub(crate) struct Gate {
    pub(crate) generation: Generation,
    pub(crate) connections: Connections,
    pub(crate) address: Ipv4Addr,
    /// How to talk to the container's init.
    pub(crate) init: InitClient,
    /// What listens inside, as last heard.
    pub(crate) ports: Ports,
    /// Which way worked last, by port.
    ways: DashMap<u16, Way>,
    /// Unlike any other gate's of this process.
    serial: u64,
    count: Mutex<Count>,
    bell: Notify,
    outside: Mutex<Option<u32>>,
    tails: tokio::sync::watch::Sender<u32>,
}

/// What becomes of connections in sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections {
    /// The first generation whose connections came along into this one.
    pub(crate) since: Generation,
    /// They come along into the next one.
    pub(crate) kept: bool,
}

/// How an app is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// At the container's address.
    Direct,
    /// Through init: it listens on 127.0.0.1 only.
    Forward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Passage {
    #[default]
    Open,
    Shut {
        /// Somebody wants in.
        knocked: bool,
    },
    Closed,
}

#[derive(Debug, Default)]
struct Count {
    passage: Passage,
    in_flight: u32,
    attached: u32,
}

impl Count {
    fn of(&mut self, visit: Visit) -> &mut u32 {
        match visit {
            Visit::InFlight => &mut self.in_flight,
            Visit::Attached => &mut self.attached,
        }
    }
}

/// Who is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Inside {
    /// Requests and calls that are being answered.
    pub(crate) in_flight: u32,
    /// Websockets and event streams.
    pub(crate) attached: u32,
}

/// Why a visitor was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The container stands still; the driver has been told, and the gate opens again, or closes.
    Shut,
    /// For good.
    Closed,
}

impl Gate {
    /// An open gate. `serial` must differ from every other gate's.
    pub(crate) fn open(
        generation: Generation,
        connections: Connections,
        address: Ipv4Addr,
        init: InitClient,
        main_ports: Vec<u16>,
        serial: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            generation,
            connections,
            address,
            ports: Ports::new(init.clone(), main_ports),
            init,
            ways: DashMap::new(),
            serial,
            count: Mutex::default(),
            bell: Notify::new(),
            outside: Mutex::default(),
            tails: tokio::sync::watch::Sender::default(),
        })
    }

    /// Lets a visitor in through an open gate; at a shut one the visitor has knocked.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn enter(self: &Arc<Self>, visit: Visit) -> Result<Pass, Refused> {
        let mut count = self.count.lock();
        match count.passage {
            Passage::Open => {}
            Passage::Closed => return Err(Refused::Closed),
            Passage::Shut { .. } => {
                count.passage = Passage::Shut { knocked: true };
                drop(count);
                self.bell.notify_one();
                return Err(Refused::Shut);
            }
        }
        *count.of(visit) += 1;
        drop(count);
        Ok(Pass {
            gate: Arc::clone(self),
            attached: AtomicBool::new(visit == Visit::Attached),
        })
    }

    /// Somebody wants in, if it is shut.
    pub(crate) fn knock(&self) {
        let mut count = self.count.lock();
        if let Passage::Shut { knocked } = &mut count.passage {
            *knocked = true;
            drop(count);
            self.bell.notify_one();
        }
    }

    /// Lets nobody in from now on, if no request is inside. Those attached may stay.
    ///
    /// # Errors
    /// How many requests are inside; the gate is as it was.
    pub(crate) fn shut(&self) -> Result<(), u32> {
        let mut count = self.count.lock();
        if count.in_flight > 0 {
            return Err(count.in_flight);
        }
        count.passage = Passage::Shut { knocked: false };
        Ok(())
    }

    /// Lets everybody in again.
    pub(crate) fn reopen(&self) {
        self.count.lock().passage = Passage::Open;
    }

    /// Nobody comes in any more. Those inside may stay until the container goes.
    pub(crate) fn close(&self) {
        self.count.lock().passage = Passage::Closed;
    }

    /// Closes a shut gate at which nobody has knocked; false if somebody has.
    pub(crate) fn close_unheard(&self) -> bool {
        let mut count = self.count.lock();
        if count.passage != (Passage::Shut { knocked: false }) {
            return false;
        }
        count.passage = Passage::Closed;
        true
    }

    /// For who listens to init and does not use the workspace: through an open gate. It has to be
    /// given back as soon as the workspace is about to stand still.
    pub(crate) fn tail(self: &Arc<Self>) -> Option<Tail> {
        // One lock with `shut`: whoever is counted after that was let in before.
        let count = self.count.lock();
        if count.passage != Passage::Open {
            return None;
        }
        self.tails.send_modify(|tails| *tails += 1);
        drop(count);
        Some(Tail(Arc::clone(self)))
    }

    /// Returns when nobody listens any more. Cancel safe.
    pub(crate) async fn untailed(&self) {
        // An error: the gate itself is gone.
        let _ = self.tails.subscribe().wait_for(|tails| *tails == 0).await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.count.lock().passage == Passage::Open
    }

    pub(crate) fn is_knocked(&self) -> bool {
        self.count.lock().passage == Passage::Shut { knocked: true }
    }

    /// Returns when somebody knocks, or has. For one listener, the driver.
    pub(crate) async fn knocked(&self) {
        while !self.is_knocked() {
            self.bell.notified().await;
        }
    }

    /// Remembers how many connections to the outside there were when it was last shut, if that is
    /// known.
    pub(crate) fn keep_outside(&self, count: Option<u32>) {
        *self.outside.lock() = count;
    }

    /// See [`Gate::keep_outside`].
    pub(crate) fn outside(&self) -> Option<u32> {
        *self.outside.lock()
    }

    /// How many inside would lose their connections if it fell asleep.
    pub(crate) fn would_lose(&self) -> u32 {
        match self.connections.kept {
            true => 0,
            false => self.inside().attached,
        }
    }

    pub(crate) fn inside(&self) -> Inside {
        let count = self.count.lock();
        Inside {
            in_flight: count.in_flight,
            attached: count.attached,
        }
    }

    /// Equal for equal container, generation and port only.
    pub(crate) fn pool_key(&self, port: u16) -> u64 {
        (self.serial << 16) | u64::from(port)
    }

    /// The way to try first.
    pub(crate) fn way(&self, port: u16) -> Way {
        if let Some(way) = self.ways.get(&port) {
            return *way;
        }
        if self.ports.is_loopback_only(port) {
            Way::Forward
        } else {
            Way::Direct
        }
    }

    /// Remembers the way that worked.
    pub(crate) fn worked(&self, port: u16, way: Way) {
        self.ways.insert(port, way);
    }

    /// Forgets a way that worked once.
    pub(crate) fn failed(&self, port: u16) {
        self.ways.remove(&port);
    }
}

/// Proof of having come through the gate; the visit ends on drop.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    /// Written under the gate's lock.
    attached: AtomicBool,
}

impl Pass {
    pub(crate) fn visit(&self) -> Visit {
        match self.attached.load(Ordering::Relaxed) {
            true => Visit::Attached,
            false => Visit::InFlight,
        }
    }

    /// From here on it may outlive sleep.
    pub(crate) fn attach(&self) {
        let mut count = self.gate.count.lock();
        if !self.attached.swap(true, Ordering::Relaxed) {
            count.in_flight = count.in_flight.saturating_sub(1);
            count.attached += 1;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut count = self.gate.count.lock();
        let visits = count.of(self.visit());
        *visits = visits.saturating_sub(1);
    }
}

/// See [`Gate::tail`].
pub(crate) struct Tail(Arc<Gate>);

impl Drop for Tail {
    fn drop(&mut self) {
        let less = |tails: &mut u32| *tails = tails.saturating_sub(1);
        self.0.tails.send_modify(less);
    }
}

/// The port of a workspace's running preview session; none until one is set.
#[derive(Debug, Default)]
pub(crate) struct PreviewPort(AtomicU16);

impl PreviewPort {
    pub(crate) fn get(&self) -> Option<u16> {
        Some(self.0.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }

    pub(crate) fn set(&self, port: Option<u16>) {
        self.0.store(port.unwrap_or(0), Ordering::Relaxed);
    }
}
