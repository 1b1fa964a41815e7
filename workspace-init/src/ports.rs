//! Which TCP ports are listened on, from `/proc/net/tcp` and `tcp6` of our network namespace.
//! gVisor fills the same files from its own stack.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr};

use init_protocol::{CONTROL_PORT, ListeningPort, MAX_PORTS};

/// Bytes of a table that are read: some 27,000 sockets.
const MAX_TABLE: u64 = 4 * 1024 * 1024;
/// `TCP_LISTEN` of the kernel's socket states.
const LISTEN: &str = "0A";

/// By number, each once. A table that cannot be read counts as empty: IPv6 may be absent.
pub fn listening() -> Vec<ListeningPort> {
    let table = |path| {
        let mut text = String::new();
        let file = std::fs::File::open(path);
        let read = file.and_then(|file| file.take(MAX_TABLE).read_to_string(&mut text));
        read.map(|_| text).unwrap_or_default()
    };
    parse(&table("/proc/net/tcp"), &table("/proc/net/tcp6"))
}

fn parse(tcp: &str, tcp6: &str) -> Vec<ListeningPort> {
    let mut ports = BTreeMap::new();
    for line in tcp.lines().chain(tcp6.lines()) {
        let Some((address, port)) = listener(line) else {
            continue;
        };
        if port != 0 && port != CONTROL_PORT {
            let loopback_only = ports.entry(port).or_insert(true);
            *loopback_only &= address.is_loopback();
        }
    }
    let entry = |(port, loopback_only)| ListeningPort {
        port,
        loopback_only,
    };
    ports.into_iter().map(entry).take(MAX_PORTS).collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A …` → 127.0.0.1, 8080.
fn listener(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    Some((parse_address(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// Words of four bytes, each printed as a number of the machine's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(local: &str, state: &str) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 12345 1\n"
        )
    }

    fn found(tcp: &[String], tcp6: &[String]) -> Vec<(u16, bool)> {
        parse(
            &(HEADER.to_owned() + &tcp.concat()),
            &(HEADER.to_owned() + &tcp6.concat()),
        )
        .into_iter()
        .map(|port| (port.port, port.loopback_only))
        .collect()
    }

    #[test]
    fn loopback_and_open_listeners_are_told_apart() {
        let tcp = [
            line("00000000:1F90", "0A"),
            line("0100007F:0BB8", "0A"),
            line("0200157F:0BB9", "0A"),
            line("0100A8C0:0BBA", "0A"),
        ];
        let tcp6 = [
            line("00000000000000000000000000000000:0050", "0A"),
            line("00000000000000000000000001000000:0051", "0A"),
            line("0000000000000000FFFF00000100007F:0052", "0A"),
        ];
        assert_eq!(
            found(&tcp, &tcp6),
            [
                (80, false),
                (81, true),
                (82, true),
                (3000, true),
                (3001, true),
                (3002, false),
                (8080, false)
            ]
        );
    }

    #[test]
    fn a_port_on_loopback_and_elsewhere_is_open() {
        let tcp = [line("0100007F:0BB8", "0A"), line("00000000:0BB8", "0A")];
        assert_eq!(found(&tcp, &[]), [(3000, false)]);
    }

    #[test]
    fn connections_and_the_control_port_are_left_out() {
        let control = format!("00000000:{CONTROL_PORT:04X}");
        let tcp = [
            line(&control, "0A"),
            line("0100007F:0BB8", "01"),
            line("0100007F:0000", "0A"),
        ];
        assert_eq!(found(&tcp, &[]), []);
    }

    #[test]
    fn this_process_finds_its_own_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let entry = listening().into_iter().find(|entry| entry.port == port);
        assert!(entry.is_some_and(|entry| entry.loopback_only));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(tcp in ".{0,300}", tcp6 in "[0-9A-F: \n]{0,300}") {
            prop_assert!(parse(&tcp, &tcp6).len() <= MAX_PORTS);
        }
    }
}
