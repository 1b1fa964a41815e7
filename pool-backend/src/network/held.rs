//! The set of containers that get and send nothing, changed by netlink: `nft` would be a program
//! to start for one address, twice in each sleep.
//!
//! ```text
//! batch begin │ NEWSETELEM or DELSETELEM: table, set, [address] │ batch end     → one answer
//! ```
//!
//! Must never happen here: a change to anything but an element of the instance's own set.

use std::io;
use std::net::Ipv4Addr;

use fleet::timing;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// The set's name in [`super::rules`].
pub const SET: &str = "held";

// linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const NEW_ELEMENT: u16 = NFTABLES << 8 | 12;
const DELETE_ELEMENT: u16 = NFTABLES << 8 | 14;
const INET: u8 = 1;
const NESTED: u16 = 0x8000;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const VALUE: u16 = 1;

const HEADER: usize = 16;
/// Tells the answer from others.
const SEQUENCE: u32 = 1;

/// Puts an address into the set of a table of the inet family, or takes it out. Idempotent. Blocks
/// for some microseconds.
///
/// # Errors
/// What the kernel said.
pub fn set(table: &str, address: Ipv4Addr, held: bool) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(timing::KERNEL_ANSWER))?;
    send(&socket, &batch(table, address, held), SendFlags::empty())?;
    let mut buffer = [0_u8; 8192];
    loop {
        let (_, count) = recv(&socket, &mut buffer, RecvFlags::empty())?;
        let Some(code) = answer(buffer.get(..count).unwrap_or_default()) else {
            continue;
        };
        return match io::Error::from_raw_os_error(code) {
            _ if code == 0 => Ok(()),
            // Taken out already.
            error if !held && error.kind() == io::ErrorKind::NotFound => Ok(()),
            error => Err(error),
        };
    }
}

fn batch(table: &str, address: Ipv4Addr, held: bool) -> Vec<u8> {
    let (kind, flags) = match held {
        true => (NEW_ELEMENT, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE),
        false => (DELETE_ELEMENT, NLM_F_REQUEST | NLM_F_ACK),
    };
    let value = attribute(VALUE, &address.octets());
    let element = attribute(KEY | NESTED, &value);
    let elements = attribute(ELEMENT | NESTED, &element);
    let body = [
        attribute(LIST_TABLE, &text(table)),
        attribute(LIST_SET, &text(SET)),
        attribute(LIST_ELEMENTS | NESTED, &elements),
    ];
    [
        message(BATCH_BEGIN, NLM_F_REQUEST, 0, 0, NFTABLES, &[]),
        message(kind, flags, SEQUENCE, INET, 0, &body.concat()),
        message(BATCH_END, NLM_F_REQUEST, 0, 0, NFTABLES, &[]),
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    body: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(HEADER + 4 + body.len()).unwrap_or(0);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // From whom: the kernel fills it in.
    message.extend(0_u32.to_ne_bytes());
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(body);
    message
}

/// With the zeros that bring the next one to its place.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut attribute = Vec::with_capacity(length + 3);
    attribute.extend(u16::try_from(length).unwrap_or(0).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(length.next_multiple_of(4), 0);
    attribute
}

/// The error code of our message, 0 for none, if the answer is among these.
fn answer(mut messages: &[u8]) -> Option<i32> {
    let field = |of: &[u8], at: usize| Some(<[u8; 4]>::try_from(of.get(at..at + 4)?).ok());
    while messages.len() >= HEADER {
        let length = u32::from_ne_bytes(field(messages, 0)??) as usize;
        let kind = u16::from_ne_bytes([messages[4], messages[5]]);
        let sequence = u32::from_ne_bytes(field(messages, 8)??);
        // What is about the batch itself is bad news only.
        if kind == NLMSG_ERROR {
            let code = i32::from_ne_bytes(field(messages, HEADER)??);
            if sequence == SEQUENCE || code != 0 {
                return Some(code.saturating_neg());
            }
        }
        messages = messages.get(length.max(HEADER).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_three_messages_of_whole_words() {
        let batch = batch("fleeks_fabcdef", Ipv4Addr::new(100, 64, 1, 2), true);
        let (mut rest, mut kinds) = (&batch[..], Vec::new());
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            assert_eq!(length % 4, 0);
            kinds.push(u16::from_ne_bytes(rest[4..6].try_into().unwrap()));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [BATCH_BEGIN, NEW_ELEMENT, BATCH_END]);
        let address = [100, 64, 1, 2];
        assert_eq!(batch.windows(4).filter(|four| *four == address).count(), 1);
    }

    #[test]
    fn answers_are_found() {
        let error = |sequence, code: i32| {
            let mut body = code.to_ne_bytes().to_vec();
            body.extend([0; 12]);
            let mut message = message(NLMSG_ERROR, 0, sequence, 0, 0, &body[4..]);
            message[16..20].copy_from_slice(&code.to_ne_bytes());
            message
        };
        assert_eq!(answer(&error(SEQUENCE, 0)), Some(0));
        assert_eq!(answer(&error(SEQUENCE, -2)), Some(2));
        assert_eq!(
            answer(&[error(0, 0), error(SEQUENCE, -1)].concat()),
            Some(1)
        );
        assert_eq!(answer(&error(0, -12)), Some(12));
        assert_eq!(answer(&error(0, 0)), None);
        assert_eq!(answer(&[1, 2, 3]), None);
        assert_eq!(answer(&[0; 40]), None);
    }

    #[test]
    fn a_table_that_is_not_there_is_said() {
        let address = Ipv4Addr::new(100, 64, 1, 2);
        // Without the right to change filters at all, that is what is said.
        assert!(set("fleeks_nowhere", address, true).is_err());
    }
}
