//! A visitor who does not keep to the rules: chosen bytes over TCP or TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::world::World;

/// Silence that ends a conversation.
const SILENCE: Duration = Duration::from_secs(40);

/// A plain connection.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// A verified TLS connection that asked for `name` by SNI and speaks HTTP/1.1.
pub fn connect_tls(world: &World, name: &str) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let ready = world.ready()?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&ready.ca_file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
    Ok(StreamOwned::new(connection, connect(ready.https)?))
}

/// Says it and listens until the other side closes. What had come when the line broke counts.
pub fn talk(stream: &mut (impl Read + Write), request: &[u8]) -> Result<String> {
    // A refusal may come, and the door close, before all of it was said.
    let said = stream.write_all(request).and_then(|()| stream.flush());
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error)
                if heard.is_empty()
                    && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return Err(error).context("no answer");
            }
            Err(_) => break,
        }
        if complete(&heard) {
            break;
        }
    }
    if heard.is_empty() {
        said.context("say it")?;
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

/// Status of an HTTP/1 answer; none for a connection that was closed without one.
pub fn status(answer: &str) -> Option<u16> {
    answer
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

/// Whether a whole answer with a Content-Length is there.
fn complete(heard: &[u8]) -> bool {
    let text = String::from_utf8_lossy(heard);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| heard.len() >= head.len() + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        assert_eq!(status("HTTP/1.1 421 Misdirected\r\n\r\n"), Some(421));
        assert_eq!(status("nonsense"), None);
        assert!(!complete(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"));
        assert!(complete(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"));
        assert!(!complete(b"HTTP/1.1 200 OK\r\n\r\nabc"));
    }
}
