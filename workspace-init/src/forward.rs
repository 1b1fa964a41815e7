//! A connection of the node's, carried on to an app that listens on loopback only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use init_protocol::{CONTROL_PORT, RefusalKind};
use tokio::net::TcpStream;

use crate::refusal::Refusal;
use crate::server::Connection;
use crate::timing;

/// Bytes on their way, per direction.
const BUFFER: usize = 16 * 1024;

/// Connects to 127.0.0.1, then to ::1.
pub async fn connect(port: u16) -> Result<TcpStream, Refusal> {
    if port == 0 || port == CONTROL_PORT {
        return Err(Refusal::bad("this port is never forwarded"));
    }
    let mut reason = None;
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ] {
        match tokio::time::timeout(timing::CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(app)) => {
                let _ = app.set_nodelay(true);
                return Ok(app);
            }
            Ok(Err(error)) => reason = reason.or(Some(error)),
            Err(_) => {}
        }
    }
    match reason {
        Some(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
            Err(Refusal::failed("cannot connect", &error))
        }
        _ => Err(Refusal::new(
            RefusalKind::NotListening,
            format!("nothing answers on port {port}"),
        )),
    }
}

/// Carries bytes both ways until both ends are done. A broken end breaks the other: what was cut
/// must not look complete.
pub async fn carry(node: &mut Connection, mut app: TcpStream) {
    let carried = tokio::io::copy_bidirectional_with_sizes(node, &mut app, BUFFER, BUFFER).await;
    if carried.is_err() {
        let _ = node.get_ref().set_zero_linger();
        let _ = app.set_zero_linger();
    }
}
