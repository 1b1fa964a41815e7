//! The certificates that visitors see: names, the issuer that makes them, renewal, and the
//! resolver that hands them to TLS and can be given a new one while connections go on.
//!
//! ```text
//! DATA/ca.pem                      the development CA's certificate, for people and `--cacert`
//! DATA/certs/<domain>/ca.pem       its certificate and key, 0600
//! DATA/certs/<domain>/leaf.pem     the served certificate, its chain and key, 0600
//! ```
//! [`Certificates::open`] gives all that a server needs. Damaged files are set aside and made anew.
//!
//! Must never happen here: a certificate that is served and was not checked, a key that others can
//! read, anything of the platform beyond names.

mod authority;
mod error;
mod files;
mod leaf;
mod names;
mod renewal;
mod resolver;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use time::OffsetDateTime;
use tracing::{error, info};

pub use authority::CertAuthority;
pub use error::CertError;
pub use leaf::Leaf;
pub use names::{Domain, InvalidDomain, covers};
pub use renewal::{is_due, renew_at};
pub use resolver::{CertResolver, server_config};

/// Where certificates come from: the seam at which a public CA (ACME, DNS-01) joins as a second
/// kind. An enum and not a trait: there are few, all known here, and each keeps its own state.
#[derive(Debug)]
#[non_exhaustive]
pub enum Issuer {
    /// Our own CA, trusted by whoever installs `ca.pem`.
    Development(Box<CertAuthority>),
}

impl Issuer {
    /// A new certificate for the domain and all labels below it.
    ///
    /// # Errors
    /// When the issuer refuses or cannot be reached; the one in use stays.
    #[expect(
        clippy::unused_async,
        reason = "an issuer beyond this process is asked by network"
    )]
    pub async fn issue(&self, now: OffsetDateTime) -> Result<Leaf, CertError> {
        match self {
            Self::Development(authority) => authority.issue(now),
        }
    }

    /// Whether a stored certificate may be served now.
    fn check(&self, leaf: &Leaf, now: OffsetDateTime) -> Result<(), CertError> {
        match self {
            Self::Development(authority) => authority.check(leaf, now),
        }
    }
}

/// The certificates of one domain, current and to come.
#[derive(Debug)]
pub struct Certificates {
    issuer: Issuer,
    resolver: Arc<CertResolver>,
    ca_file: PathBuf,
    leaf_file: PathBuf,
}

impl Certificates {
    /// Loads what the data dir has for this domain; makes what is missing, damaged, foreign or
    /// due. For the start: it reads and writes a few small files.
    ///
    /// # Errors
    /// When neither the stored nor a new certificate can be used.
    pub async fn open(data_dir: &Path, domain: &Domain) -> Result<Self, CertError> {
        let now = OffsetDateTime::now_utc();
        let dir = data_dir.join("certs").join(domain.as_str());
        let ca_file = data_dir.join("ca.pem");
        files::make_dir(&dir)?;
        let authority = CertAuthority::open(&dir.join("ca.pem"), domain, now)?;
        authority.publish(&ca_file)?;
        let issuer = Issuer::Development(Box::new(authority));
        let leaf_file = dir.join("leaf.pem");
        let leaf = match load(&leaf_file, &issuer, now)? {
            Some(leaf) => leaf,
            None => issue(&issuer, &leaf_file, now).await?,
        };
        Ok(Self {
            issuer,
            resolver: Arc::new(CertResolver::new(leaf)),
            ca_file,
            leaf_file,
        })
    }

    /// What TLS asks for a certificate.
    pub fn resolver(&self) -> Arc<CertResolver> {
        self.resolver.clone()
    }

    /// A server's TLS settings, with these certificates.
    ///
    /// # Errors
    /// When the crypto provider fails.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertError> {
        server_config(self.resolver())
    }

    /// The file that a client has to trust.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Replaces the certificate if its time has come. The old one stays until the new one is
    /// checked and stored.
    ///
    /// # Errors
    /// As [`Issuer::issue`]; the old one goes on being served.
    pub async fn renew_if_due(&self, now: OffsetDateTime) -> Result<bool, CertError> {
        if !self.resolver.current().is_due(now) {
            return Ok(false);
        }
        let leaf = issue(&self.issuer, &self.leaf_file, now).await?;
        self.resolver.replace(leaf);
        Ok(true)
    }

    /// Renews for ever; run it as a task and drop it to stop. Looks at the wall clock every
    /// `check_every`, because machines sleep and clocks are set.
    pub async fn keep_renewed(&self, check_every: Duration) {
        loop {
            tokio::time::sleep(check_every).await;
            if let Err(error) = self.renew_if_due(OffsetDateTime::now_utc()).await {
                let not_after = self.resolver.current().not_after();
                error!(%error, %not_after, "certificate not renewed; will try again");
            }
        }
    }
}

/// The stored certificate, if it can be served and is not due.
fn load(path: &Path, issuer: &Issuer, now: OffsetDateTime) -> Result<Option<Leaf>, CertError> {
    let Some(pem) = files::read(path)? else {
        return Ok(None);
    };
    let checked = Leaf::from_pem(&pem).and_then(|leaf| issuer.check(&leaf, now).map(|()| leaf));
    match checked {
        Ok(leaf) if leaf.is_due(now) => Ok(None),
        Ok(leaf) => Ok(Some(leaf)),
        Err(error) => {
            files::set_aside(path, &error);
            Ok(None)
        }
    }
}

async fn issue(issuer: &Issuer, path: &Path, now: OffsetDateTime) -> Result<Leaf, CertError> {
    let leaf = issuer.issue(now).await?;
    issuer.check(&leaf, now)?;
    let (target, pem) = (path.to_owned(), leaf.to_pem());
    tokio::task::spawn_blocking(move || files::write_private(&target, &pem))
        .await
        .map_err(|error| CertError::storage(path, std::io::Error::other(error)))??;
    let (names, not_after) = (leaf.names(), leaf.not_after());
    info!(?names, %not_after, "certificate issued");
    Ok(leaf)
}

#[cfg(test)]
mod tests;
