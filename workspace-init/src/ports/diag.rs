//! The kernel's socket diagnostics over netlink: asks for listeners alone. `/proc/net/tcp` walks
//! the machine's whole table of connections instead, some 10 ms whatever is in it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// Of `nlmsghdr`.
const HEADER: usize = 16;
/// Of `nlmsghdr` and `inet_diag_req_v2`.
const REQUEST: usize = 72;
/// The bit of `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
/// Datagrams of one dump that are read; each has up to 8 KiB.
const MAX_DATAGRAMS: usize = 4096;

/// Addresses listened on.
pub fn listeners() -> Result<Vec<SocketAddr>, Errno> {
    let mut all = Vec::new();
    for family in [INET, INET6] {
        dump(family, &mut all)?;
    }
    Ok(all)
}

fn dump(family: u8, all: &mut Vec<SocketAddr>) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&socket, &request(family), SendFlags::empty())?;
    let mut datagram = vec![0; 32 * 1024];
    for _ in 0..MAX_DATAGRAMS {
        // The kernel has the answer ready, or goes on with it as we read: nothing to wait for.
        let (bytes, _) = rustix::net::recv(&socket, &mut datagram[..], RecvFlags::DONTWAIT)?;
        if parse(&datagram[..bytes], all)? {
            return Ok(());
        }
    }
    Err(Errno::MSGSIZE)
}

fn request(family: u8) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    request[16] = family;
    request[17] = TCP;
    request[20..24].copy_from_slice(&LISTEN.to_ne_bytes());
    request
}

/// Takes the messages of one datagram; true after the last of the dump.
fn parse(mut datagram: &[u8], all: &mut Vec<SocketAddr>) -> Result<bool, Errno> {
    while let Some((length, kind)) = header(datagram) {
        let Some(message) = datagram.get(HEADER..length) else {
            break;
        };
        match kind {
            DONE => return Ok(true),
            ERROR => return Err(Errno::OPNOTSUPP),
            BY_FAMILY => all.extend(address(message)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

fn header(datagram: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(datagram.get(0..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    Some(((length as usize).max(HEADER), kind))
}

/// The local end in `inet_diag_msg`.
fn address(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    match *message.first()? {
        INET => {
            let octets: [u8; 4] = message.get(8..12)?.try_into().ok()?;
            Some((Ipv4Addr::from(octets), port).into())
        }
        INET6 => {
            let octets: [u8; 16] = message.get(8..24)?.try_into().ok()?;
            Some((Ipv6Addr::from(octets), port).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_finds_its_own_listeners() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            assert!(
                listeners()
                    .unwrap()
                    .contains(&listener.local_addr().unwrap())
            );
        }
    }

    proptest! {
        #[test]
        fn no_datagram_is_too_odd(datagram in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u16..32) {
            let mut all = Vec::new();
            let _ = parse(&datagram, &mut all);
            if let Some(bytes) = datagram.get(..HEADER) {
                let mut likely = bytes.to_vec();
                likely[0..4].copy_from_slice(&(datagram.len() as u32).to_ne_bytes());
                likely[4..6].copy_from_slice(&kind.to_ne_bytes());
                likely.extend(&datagram[HEADER..]);
                let _ = parse(&likely, &mut all);
            }
        }
    }
}
