//! Ending connections between this machine and a container.
//!
//! Must never happen here: a connection to anything but the container ended.

use std::net::Ipv4Addr;
use std::process::Stdio;

use fleet::timing;
use init_protocol::CONTROL_PORT;
use tokio::process::Command;

use super::NetworkError;

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

/// By the kernel's own call for that: both ends hear of it at once.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn end(address: Ipv4Addr) -> Result<(), NetworkError> {
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
