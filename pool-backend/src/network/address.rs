//! The addresses of containers: who has which, and which is next.
//!
//! Must never happen here: an address given out twice.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use fleet::id::InstanceId;

/// Shared address space for carriers (RFC 6598): never routed on the internet, and rarely used on
/// a machine that runs containers.
const RANGE_START: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const RANGE_LEN: u32 = 1 << 22;
/// Kept back from both ends of the range; the gateway is among them.
const RESERVED: u32 = 256;
const USABLE: u32 = RANGE_LEN - 2 * RESERVED;

/// The node's own address as containers see it: their gateway, and where visits come from. The
/// same on every machine, so that a connection survives a wake elsewhere.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Hands out addresses round-robin, so that one is not soon reused.
#[derive(Debug)]
pub struct AddressPool {
    used: HashSet<Ipv4Addr>,
    cursor: u32,
}

impl AddressPool {
    /// The pool of `instance`, of which `used` are taken. Each instance begins elsewhere, so that
    /// two data dirs on one machine rarely want the same address.
    pub fn new(instance: &InstanceId, used: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let start = instance.as_str().bytes().fold(0u32, |hash, byte| {
            hash.wrapping_mul(31_337) ^ u32::from(byte)
        });
        Self {
            used: used.into_iter().collect(),
            cursor: start % USABLE,
        }
    }

    /// The next free address, now taken. None when all are.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        if self.used.len() >= USABLE as usize {
            return None;
        }
        for _ in 0..USABLE {
            let address = Ipv4Addr::from(RANGE_START + RESERVED + self.cursor);
            self.cursor = (self.cursor + 1) % USABLE;
            if self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// Makes an address free again.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(used: &[Ipv4Addr]) -> AddressPool {
        AddressPool::new(&"fabcdef".parse().unwrap(), used.iter().copied())
    }

    #[test]
    fn addresses_differ_and_stay_in_the_range() {
        let mut pool = pool(&[]);
        let taken: HashSet<_> = (0..5000).map(|_| pool.take().unwrap()).collect();
        assert_eq!(taken.len(), 5000);
        assert!(taken.iter().all(|a| {
            let [first, second, ..] = a.octets();
            first == 100 && (64..128).contains(&second) && *a != GATEWAY
        }));
    }

    #[test]
    fn what_records_name_is_not_given_out() {
        let first = pool(&[]).take().unwrap();
        assert_ne!(pool(&[first]).take().unwrap(), first);
    }

    #[test]
    fn a_freed_address_waits_for_its_turn() {
        let mut pool = pool(&[]);
        let first = pool.take().unwrap();
        pool.give_back(first);
        assert_ne!(pool.take().unwrap(), first);
    }

    #[test]
    fn the_cursor_wraps() {
        let mut pool = pool(&[]);
        pool.cursor = USABLE - 1;
        let last = pool.take().unwrap();
        let first = pool.take().unwrap();
        assert_eq!(last, Ipv4Addr::from(RANGE_START + RANGE_LEN - RESERVED - 1));
        assert_eq!(first, Ipv4Addr::from(RANGE_START + RESERVED));
    }
}
