//! What containers may reach: one static rule set per instance, matched by interface prefix, so
//! that a container costs no rule of its own.
//!
//! Must never happen here: another table than ours changed. Ours only ever refuses more than the
//! host's own rules do.

use std::net::Ipv4Addr;
use std::process::Stdio;

use fleet::id::InstanceId;
use fleet::timing;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{NetworkError, held};

/// Where no container goes: this-host, private, carrier, loopback, link-local (cloud metadata),
/// protocol assignments (more metadata), benchmarking, multicast and everything above it.
const DENIED: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, \
                      172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";
/// Connections that one container may have through the host: its tracking table is shared.
const CONNECTIONS: u32 = 8192;

/// The name of an instance's table.
fn name(instance: &InstanceId) -> String {
    format!("fleeks_{instance}")
}

/// The same with its family, for `nft`.
fn table(instance: &InstanceId) -> String {
    format!("inet {}", name(instance))
}

/// Installs the rules, replacing those of an earlier run in one transaction.
///
/// # Errors
/// [`NetworkError::Refused`] with what `nft` said.
pub async fn install(instance: &InstanceId, resolvers: &[Ipv4Addr]) -> Result<(), NetworkError> {
    nft("install the packet filter", &rule_set(instance, resolvers)).await
}

/// Removes the rules. Idempotent.
///
/// # Errors
/// [`NetworkError::Refused`] with what `nft` said.
pub async fn remove(instance: &InstanceId) -> Result<(), NetworkError> {
    let table = table(instance);
    nft(
        "remove the packet filter",
        &format!("table {table}\ndelete table {table}\n"),
    )
    .await
}

/// Adds a container to those that get and send nothing, or takes it from them. Idempotent.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn set_held(
    instance: &InstanceId,
    address: Ipv4Addr,
    held: bool,
) -> Result<(), NetworkError> {
    let table = name(instance);
    tokio::task::spawn_blocking(move || held::set(&table, address, held))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| NetworkError::Refused {
            action: "hold a container's packets",
            reason: error.to_string(),
        })
}

fn rule_set(instance: &InstanceId, resolvers: &[Ipv4Addr]) -> String {
    let table = table(instance);
    let links = format!("\"{instance}-*\"");
    let held = held::SET;
    let resolvers = if resolvers.is_empty() {
        String::new()
    } else {
        let list: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
        format!("elements = {{ {} }};", list.join(", "))
    };
    // Chains that refuse run shortly before the usual filters: what others accept does not matter
    // then, and what we accept they may still refuse.
    format!(
        r#"table {table}
delete table {table}
table {table} {{
  set resolvers {{ type ipv4_addr; {resolvers} }}
  set denied {{ type ipv4_addr; flags interval; elements = {{ {DENIED} }}; }}
  set {held} {{ type ipv4_addr; }}
  set connections {{ type ipv4_addr; flags dynamic; size 65535; }}
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    iifname {links} meta nfproto != ipv4 drop
    iifname {links} fib saddr . iif oif missing drop
    iifname {links} ip saddr @{held} drop
  }}
  chain postrouting_all {{
    type filter hook postrouting priority filter; policy accept;
    oifname {links} ip daddr @{held} drop
  }}
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iifname {links} jump to_host
  }}
  chain to_host {{
    ct state established,related accept
    ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
    reject with icmpx admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter - 5; policy accept;
    oifname {links} jump to_container
    iifname {links} jump to_world
  }}
  chain to_container {{
    iifname {links} reject with icmpx admin-prohibited
    ct state established,related accept
    drop
  }}
  chain to_world {{
    ct state invalid drop
    ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @denied reject with icmpx admin-prohibited
    ct state established accept
    ct state new add @connections {{ ip saddr ct count over {CONNECTIONS} }} reject with icmpx admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname {links} masquerade
  }}
}}
"#
    )
}

async fn nft(action: &'static str, input: &str) -> Result<(), NetworkError> {
    let refused = |reason: String| NetworkError::Refused { action, reason };
    let run = async {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| refused(format!("nft cannot be run: {error}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .await
                .map_err(|error| refused(error.to_string()))?;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| refused(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(refused(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    };
    tokio::time::timeout(timing::RUNTIME_COMMAND, run)
        .await
        .unwrap_or_else(|_| Err(refused("nft took too long".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_set_names_only_this_instance() {
        let instance: InstanceId = "fabcdef".parse().unwrap();
        let text = rule_set(&instance, &[Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(text.contains("delete table inet fleeks_fabcdef\n"));
        assert!(text.contains("elements = { 10.0.0.2 };"));
        assert_eq!(text.matches("table ").count(), 3);
        assert!(!text.contains("flush"));
    }
}
