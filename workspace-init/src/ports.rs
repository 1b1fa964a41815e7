//! Which TCP ports are listened on in this network namespace: the kernel's diagnostics say it at
//! once, and where there are none (gVisor) `/proc/net/tcp` does. And how many connections there
//! are with the outside.

mod diag;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use init_protocol::{CONTROL_PORT, ListeningPort, MAX_PORTS};

/// By number, each once.
pub fn listening() -> Vec<ListeningPort> {
    collect(diag::listeners().unwrap_or_else(|_| table::listeners()))
}

/// Connections of which one end is elsewhere, but those to ourselves.
///
/// # Errors
/// What the system said.
pub fn connections() -> io::Result<u32> {
    let far = |(local, remote): &(SocketAddr, SocketAddr)| {
        let loopback = remote.ip().to_canonical().is_loopback();
        local.port() != CONTROL_PORT && !loopback && local.ip() != remote.ip()
    };
    let all = table::connections()?;
    let count = all.iter().filter(|pair| far(pair)).count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

fn collect(addresses: Vec<SocketAddr>) -> Vec<ListeningPort> {
    let mut ports = BTreeMap::new();
    for address in addresses {
        let port = address.port();
        if port != 0 && port != CONTROL_PORT {
            let loopback_only = ports.entry(port).or_insert(true);
            *loopback_only &= address.ip().to_canonical().is_loopback();
        }
    }
    let entry = |(port, loopback_only)| ListeningPort {
        port,
        loopback_only,
    };
    ports.into_iter().map(entry).take(MAX_PORTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Vec<(u16, bool)> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        collect(addresses.collect())
            .into_iter()
            .map(|entry| (entry.port, entry.loopback_only))
            .collect()
    }

    #[test]
    fn loopback_and_open_listeners_are_told_apart() {
        let addresses = [
            "192.168.0.1:9",
            "0.0.0.0:8",
            "[::]:7",
            "127.0.0.1:6",
            "127.9.0.1:5",
            "[::1]:4",
            "[::ffff:127.0.0.1]:3",
        ];
        let open = [(7, false), (8, false), (9, false)];
        let local = [(3, true), (4, true), (5, true), (6, true)];
        assert_eq!(found(&addresses), [&local[..], &open[..]].concat());
    }

    #[test]
    fn a_port_on_loopback_and_elsewhere_is_open() {
        assert_eq!(
            found(&["127.0.0.1:3000", "0.0.0.0:3000", "[::1]:3000"]),
            [(3000, false)]
        );
    }

    #[test]
    fn the_control_port_is_left_out() {
        assert_eq!(found(&["0.0.0.0:64999", "127.0.0.1:0"]), []);
        assert_eq!(CONTROL_PORT, 64_999);
    }

    #[test]
    fn connections_within_are_not_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _near = std::net::TcpStream::connect(address).unwrap();
        let all = table::connections().unwrap();
        assert!(all.iter().any(|(_, remote)| *remote == address));
        let far = |(_, remote): &&(SocketAddr, SocketAddr)| !remote.ip().is_loopback();
        assert!(connections().unwrap() as usize <= all.iter().filter(far).count());
    }

    #[test]
    fn both_ways_agree() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for addresses in [diag::listeners().unwrap(), table::listeners()] {
            let entry = collect(addresses)
                .into_iter()
                .find(|entry| entry.port == port);
            assert!(entry.is_some_and(|entry| entry.loopback_only));
        }
    }
}
