//! Which name servers containers may ask: the host's, if a container can reach them at all.

use std::net::Ipv4Addr;
use std::path::Path;

/// Looked at in this order; a stub resolver on loopback names its own upstreams in the second.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's name servers outside loopback. Empty when there are none; names then do not resolve
/// inside, and the doctor says so.
pub fn of_host() -> Vec<Ipv4Addr> {
    FILES
        .iter()
        .filter_map(|file| std::fs::read_to_string(Path::new(file)).ok())
        .map(|text| parse(&text))
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

fn parse(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(Ok(server)) = words.next().map(str::parse::<Ipv4Addr>) else {
            continue;
        };
        let reachable = !server.is_loopback() && !server.is_unspecified();
        if reachable && !servers.contains(&server) {
            servers.push(server);
        }
    }
    // More than three are ignored by every libc.
    servers.truncate(3);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_noise_are_left_out() {
        let text = "# comment\nsearch lan\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n\
                    nameserver fe80::1\nnameserver\nnameserver 10.0.0.2\n  nameserver 9.9.9.9 x\n";
        assert_eq!(
            parse(text),
            [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(9, 9, 9, 9)]
        );
    }
}
