//! Hands the current certificate to TLS, and takes a new one at any time.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::{CertError, Leaf};

/// Sessions of TLS 1.2 clients that take no tickets; all others resume by ticket, without memory
/// on our side.
const STORED_SESSIONS: usize = 1024;

/// Serves one certificate to everyone. A client that names no host, or a foreign one, gets it too:
/// the request that follows is then refused with a text that a person can read (421, 404).
#[derive(Debug)]
pub struct CertResolver {
    current: ArcSwap<Leaf>,
}

impl CertResolver {
    /// One that serves `leaf`.
    pub fn new(leaf: Leaf) -> Self {
        Self {
            current: ArcSwap::from_pointee(leaf),
        }
    }

    /// The certificate that the next handshake gets.
    pub fn current(&self) -> Arc<Leaf> {
        self.current.load_full()
    }

    /// Serves `leaf` from the next handshake on. Handshakes under way and open connections go on
    /// with the old one.
    pub fn replace(&self, leaf: Leaf) {
        self.current.store(Arc::new(leaf));
    }

    /// Whether the certificate served now is valid for `host` (no port): if not, a request for it
    /// on our connection is misdirected.
    pub fn covers(&self, host: &str) -> bool {
        self.current.load().covers(host)
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified().clone())
    }
}

/// TLS 1.3 and 1.2 by ring, h2 and http/1.1, resumption by tickets whose keys rotate.
///
/// # Errors
/// When the crypto provider fails.
pub fn server_config(resolver: Arc<CertResolver>) -> Result<Arc<ServerConfig>, CertError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(STORED_SESSIONS);
    Ok(Arc::new(config))
}
