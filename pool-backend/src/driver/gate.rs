//! The gate of one generation of a container: who is inside, and whether anybody may still come
//! in. The driver opens and closes it; the door lets visitors through.
//!
//! Must never happen here: a decision about the workspace's life, or a visitor through a closed
//! gate.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use dashmap::DashMap;
use fleet::door::Visit;
use fleet::id::Generation;
use parking_lot::Mutex;

use super::ports::Ports;
use crate::init_client::InitClient;

/// See the module.
pub(crate) struct Gate {
    pub(crate) generation: Generation,
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
}

/// How an app is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// At the container's address.
    Direct,
    /// Through init: it listens on 127.0.0.1 only.
    Forward,
}

#[derive(Debug, Default)]
struct Count {
    closed: bool,
    in_flight: u32,
    attached: u32,
}

impl Gate {
    /// An open gate. `serial` must differ from every other gate's.
    pub(crate) fn open(
        generation: Generation,
        address: Ipv4Addr,
        init: InitClient,
        main_ports: Vec<u16>,
        serial: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            generation,
            address,
            ports: Ports::new(init.clone(), main_ports),
            init,
            ways: DashMap::new(),
            serial,
            count: Mutex::default(),
        })
    }

    /// Lets a visitor in, unless the gate is closed.
    pub(crate) fn enter(self: &Arc<Self>, visit: Visit) -> Option<Pass> {
        let mut count = self.count.lock();
        if count.closed {
            return None;
        }
        match visit {
            Visit::InFlight => count.in_flight += 1,
            Visit::Attached => count.attached += 1,
        }
        drop(count);
        Some(Pass {
            gate: Arc::clone(self),
            visit,
        })
    }

    /// Nobody comes in any more. Those inside may stay until the container goes.
    pub(crate) fn close(&self) {
        self.count.lock().closed = true;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.count.lock().closed
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
    visit: Visit,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut count = self.gate.count.lock();
        let visits = match self.visit {
            Visit::InFlight => &mut count.in_flight,
            Visit::Attached => &mut count.attached,
        };
        *visits = visits.saturating_sub(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(serial: u64) -> Arc<Gate> {
        let address = Ipv4Addr::LOCALHOST;
        let init = InitClient::new((address, 9).into(), "token");
        Gate::open(Generation(1), address, init, Vec::new(), serial)
    }

    #[test]
    fn a_closed_gate_lets_nobody_in_and_everybody_out() {
        let gate = gate(1);
        let inside = gate.enter(Visit::InFlight).unwrap();
        let attached = gate.enter(Visit::Attached).unwrap();
        assert_eq!(gate.count.lock().in_flight, 1);
        gate.close();
        assert!(gate.enter(Visit::InFlight).is_none() && !gate.is_open());
        drop((inside, attached));
        let count = gate.count.lock();
        assert_eq!((count.in_flight, count.attached), (0, 0));
    }

    #[test]
    fn keys_tell_gates_and_ports_apart() {
        let (one, other) = (gate(1), gate(2));
        let keys = [one.pool_key(80), one.pool_key(81), other.pool_key(80)];
        assert_eq!(keys[0], one.pool_key(80));
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert_ne!(one.pool_key(u16::MAX), other.pool_key(0));
    }

    #[test]
    fn the_way_that_worked_is_tried_first() {
        let gate = gate(1);
        assert_eq!(gate.way(3000), Way::Direct);
        gate.worked(3000, Way::Forward);
        assert_eq!(
            (gate.way(3000), gate.way(3001)),
            (Way::Forward, Way::Direct)
        );
        gate.failed(3000);
        assert_eq!(gate.way(3000), Way::Direct);
    }
}
