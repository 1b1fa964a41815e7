//! Ending connections between this machine and a container.
//!
//! Must never happen here: a connection to anything but the container ended.

use std::net::Ipv4Addr;
use std::process::Stdio;

use fleet::timing;
use init_protocol::CONTROL_PORT;
use tokio::process::Command;

use super::NetworkError;

/// This machine's TCP sockets over IPv4, a line each.
const TABLE: &str = "/proc/net/tcp";
/// States of sockets without a connection: `TCP_TIME_WAIT`, `TCP_CLOSE`, `TCP_LISTEN`.
const NOT_CONNECTED: [&str; 3] = ["06", "07", "0A"];

/// `  0: 0100007F:1F90 0200407F:0BB8 01 …`: the second address is the peer's.
fn is_to(line: &str, address: Ipv4Addr) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(2);
    let (Some(peer), Some(state)) = (fields.next(), fields.next()) else {
        return false;
    };
    // A number of the machine's byte order.
    let wanted = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
    let spare = format!("{CONTROL_PORT:04X}");
    let port = peer.strip_prefix(&wanted);
    port.is_some_and(|port| port != spare) && !NOT_CONNECTED.contains(&state)
}

/// What `ss` is told to end.
fn arguments(address: Ipv4Addr) -> Vec<String> {
    let spare = format!(":{CONTROL_PORT}");
    let address = address.to_string();
    let words = [
        "--kill",
        "--no-header",
        "--numeric",
        "--tcp",
        "dst",
        &address,
        "and",
        "dport",
        "!=",
        &spare,
    ];
    words.map(str::to_owned).to_vec()
}

/// By the kernel's own call for that: both ends hear of it at once. Costs a fork, if there are any.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn end(address: Ipv4Addr) -> Result<(), NetworkError> {
    // A table that cannot be read says nothing about them.
    let table = tokio::fs::read_to_string(TABLE).await;
    if table.is_ok_and(|table| !table.lines().any(|line| is_to(line, address))) {
        return Ok(());
    }
    let refused = |reason: String| NetworkError::Refused {
        action: "end connections",
        reason,
    };
    let run = Command::new("ss")
        .args(arguments(address))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(timing::RUNTIME_COMMAND, run)
        .await
        .map_err(|_| refused("ss took too long".to_owned()))?
        .map_err(|error| refused(format!("ss cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refused(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_a_container_are_told_from_others() {
        let address = Ipv4Addr::new(127, 93, 7, 1);
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        let any = || {
            let table = std::fs::read_to_string(TABLE).unwrap();
            table.lines().any(|line| is_to(line, address))
        };
        assert!(!any());
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(any());
        drop((near, listener));
        assert!(!any());
        let peer = u32::from_ne_bytes(address.octets());
        let line = |port: u16, state: &str| format!("0: 0:0 {peer:08X}:{port:04X} {state} 0");
        assert!(is_to(&line(3000, "01"), address));
        assert!(!is_to(&line(3000, "06"), address));
        assert!(!is_to(&line(CONTROL_PORT, "01"), address));
        assert!(!is_to("", address));
    }
}
