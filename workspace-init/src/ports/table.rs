//! `/proc/net/tcp` and `tcp6`: every socket of the network namespace, a line each.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The second may be absent.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// Bytes of a table that are read: some 27,000 sockets.
const MAX_TABLE: u64 = 4 * 1024 * 1024;
/// `TCP_LISTEN` of the kernel's socket states.
const LISTEN: &str = "0A";
/// Neither open nor closing: `TCP_TIME_WAIT`, `TCP_CLOSE`, `TCP_LISTEN`, `TCP_NEW_SYN_RECV`.
const NOT_CONNECTED: [&str; 4] = ["06", "07", LISTEN, "0C"];

/// Addresses listened on. A table that cannot be read counts as empty: IPv6 may be absent.
pub fn listeners() -> Vec<SocketAddr> {
    let listening = sockets().into_iter().filter(|socket| socket.listens);
    listening.map(|socket| socket.local).collect()
}

/// Both ends of each connection, ours first.
///
/// # Errors
/// What the system said.
pub fn connections() -> io::Result<Vec<(SocketAddr, SocketAddr)>> {
    let mut sockets = parse(&try_read(TABLES[0])?);
    sockets.extend(parse(&read(TABLES[1])));
    let connected = sockets.into_iter().filter(|socket| socket.connected);
    Ok(connected
        .map(|socket| (socket.local, socket.remote))
        .collect())
}

struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    connected: bool,
}

fn sockets() -> Vec<Socket> {
    TABLES
        .into_iter()
        .flat_map(|path| parse(&read(path)))
        .collect()
}

fn read(path: &str) -> String {
    try_read(path).unwrap_or_default()
}

fn try_read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TABLE).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(table: &str) -> Vec<Socket> {
    table.lines().filter_map(socket).collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A …` → 127.0.0.1, 8080, listens.
fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_end(fields.next()?)?;
    let remote = parse_end(fields.next()?)?;
    let state = fields.next()?;
    Some(Socket {
        local,
        remote,
        listens: state == LISTEN,
        connected: !NOT_CONNECTED.contains(&state),
    })
}

fn parse_end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((parse_address(address)?, port).into())
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
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(local: &str, state: &str) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 12345 1\n"
        )
    }

    fn found(lines: &[String]) -> Vec<String> {
        let header =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";
        let sockets = parse(&(header.to_owned() + &lines.concat()));
        let listening = sockets.iter().filter(|socket| socket.listens);
        listening.map(|socket| socket.local.to_string()).collect()
    }

    #[test]
    fn listeners_are_found_among_all_sockets() {
        let lines = [
            line("00000000:1F90", "0A"),
            line("0100007F:0BB8", "0A"),
            line("0100007F:0BB8", "01"),
            line("0200157F:0BB9", "0A"),
            line("00000000000000000000000000000000:0050", "0A"),
            line("00000000000000000000000001000000:0051", "0A"),
            line("0000000000000000FFFF00000100007F:0052", "0A"),
        ];
        let wanted = [
            "0.0.0.0:8080",
            "127.0.0.1:3000",
            "127.21.0.2:3001",
            "[::]:80",
            "[::1]:81",
            "[::ffff:127.0.0.1]:82",
        ];
        assert_eq!(found(&lines), wanted);
    }

    #[test]
    fn what_is_open_or_closing_is_connected() {
        let connected = |state: &str| {
            let line = line("0100007F:0BB8", state);
            socket(&line).unwrap().connected
        };
        for state in ["01", "02", "03", "04", "05", "08", "09", "0B"] {
            assert!(connected(state), "{state}");
        }
        for state in NOT_CONNECTED {
            assert!(!connected(state), "{state}");
        }
    }

    #[test]
    fn this_process_finds_its_own_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listeners().contains(&listener.local_addr().unwrap()));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".{0,300}", hex in "[0-9A-F: \n]{0,300}") {
            parse(&text);
            parse(&hex);
        }
    }
}
