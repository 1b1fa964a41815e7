//! The connection of a call: plain to this machine, TLS to any other.
//!
//! Must never happen here: a key that crosses a network in the clear, or a certificate that is not
//! checked.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use fleet::timing;
use hyper::Uri;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ClientError;

/// Bytes both ways.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where a platform's API is, and how to get there.
#[derive(Clone)]
pub(super) struct Place {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    /// Value of the Host field.
    pub(super) authority: String,
}

impl Place {
    /// For `http://` on this machine, or `https://` anywhere: checked against the machine's
    /// certificates and those in `authorities`.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Authorities`].
    pub(super) fn new(base_url: &str, authorities: &[PathBuf]) -> Result<Self, ClientError> {
        let wrong = |problem| ClientError::Address {
            url: base_url.to_owned(),
            problem,
        };
        let uri: Uri = base_url.parse().map_err(|_| wrong("is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        if !secure && !is_here(host) {
            return Err(wrong(
                "must be this machine, or begin with https://: the key would cross the network in \
                 the clear",
            ));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("must have no path"));
        }
        let port = uri.port_u16();
        if port.is_none_or(|port| port == 0) && says_port(&uri, host) {
            // The usual one in place of a wrong one would send the key to somebody else.
            return Err(wrong("has no port from 1 to 65535 behind its colon"));
        }
        let tls = secure.then(|| connector(authorities)).transpose()?;
        Ok(Self {
            authority: port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            host: host.trim_matches(['[', ']']).to_owned(),
            tls,
        })
    }

    /// Connects, and shakes hands if need be.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Untrusted`].
    pub(super) async fn connect(&self) -> Result<Box<dyn Wire>, ClientError> {
        let unreachable = |problem: String| ClientError::Unreachable {
            authority: self.authority.clone(),
            problem,
        };
        let host = match is_localhost(&self.host) {
            // Few systems resolve the names below it, and RFC 6761 says where they lead.
            true => Ipv4Addr::LOCALHOST.to_string(),
            false => self.host.clone(),
        };
        let stream = timeout(timing::CONNECT, TcpStream::connect((host, self.port)))
            .await
            .map_err(|_| unreachable("no connection in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| unreachable("that is no name for a certificate".to_owned()))?;
        let stream = timeout(timing::TLS_HANDSHAKE, tls.connect(name, stream))
            .await
            .map_err(|_| unreachable("no TLS handshake in time".to_owned()))?
            .map_err(|error| self.no_handshake(&error))?;
        Ok(Box::new(stream))
    }

    fn no_handshake(&self, error: &io::Error) -> ClientError {
        let (authority, problem) = (self.authority.clone(), error.to_string());
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => ClientError::Untrusted {
                authority,
                problem,
                unknown_issuer: *why == CertificateError::UnknownIssuer,
            },
            _ => ClientError::Unreachable { authority, problem },
        }
    }
}

/// Whether something stands behind the host, were it no more than a colon.
fn says_port(uri: &Uri, host: &str) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let place = authority.rsplit('@').next().unwrap_or_default();
    place != host
}

/// Whether a base URL leads to this machine only.
pub fn is_local(base_url: &str) -> bool {
    let uri: Option<Uri> = base_url.parse().ok();
    uri.and_then(|uri| uri.host().map(is_here))
        .unwrap_or_default()
}

fn is_here(host: &str) -> bool {
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match address {
        Some(address) => address.is_loopback(),
        None => is_localhost(host),
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn connector(authorities: &[PathBuf]) -> Result<TlsConnector, ClientError> {
    let mut roots = RootCertStore::empty();
    // What of the machine's own cannot be read is missed when it is needed.
    if let Ok(native) = rustls_native_certs::load_native_certs() {
        roots.add_parsable_certificates(native);
    }
    for path in authorities {
        let unusable = |problem: String| ClientError::Authorities {
            path: path.display().to_string(),
            problem,
        };
        let before = roots.len();
        let found = CertificateDer::pem_file_iter(path);
        for certificate in found.map_err(|error| unusable(error.to_string()))? {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| unusable(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unusable("there is none in it".to_owned()));
        }
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for here in [
            "http://127.0.0.1:8080",
            "https://api.fleeks.localhost:8443",
            "http://[::1]",
        ] {
            assert!(is_local(here), "{here}");
        }
        for elsewhere in ["https://10.0.0.1", "https://localhost.example.org", "x"] {
            assert!(!is_local(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn plain_on_this_machine_tls_elsewhere() {
        // One provider for the whole process; another test may have been quicker.
        let _ = rustls::crypto::ring::default_provider().install_default();
        for fine in [
            "http://127.0.0.1:8080",
            "http://localhost",
            "http://[::1]:80/",
            "https://api.example.org",
            "https://10.0.0.1:8443",
        ] {
            assert!(Place::new(fine, &[]).is_ok(), "{fine}");
        }
        let wrong = [
            "ftp://127.0.0.1",
            "http://10.0.0.1",
            "http://127.0.0.1.example.org",
            "http://127.0.0.1/path",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://127.0.0.1:",
            "https://[::1]:x/",
            "https://api.example.org/api/v1",
            "127.0.0.1:8080",
            "",
            "http://",
        ];
        for url in wrong {
            assert!(Place::new(url, &[]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_file_without_certificates_vouches_for_nobody() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = connector(&[file.path().to_owned()]).err();
        assert!(matches!(refused, Some(ClientError::Authorities { .. })));
    }
}
