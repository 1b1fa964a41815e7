//! The development CA: made on this machine, for one domain. Whoever trusts it trusts it for that
//! domain only: it is constrained to it, may make no other CA, and none of its certificates is for
//! an address.
//!
//! Must never happen here: a certificate for a name outside the domain that clients would accept.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};
use tracing::warn;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::leaf::About;
use crate::{CertError, Domain, Leaf, files};

/// Long: every renewal has to be installed by people again.
const CA_LIFE: Duration = Duration::days(3650);
/// Short: no browser accepts long ones for ever, and renewal costs nothing.
const LEAF_LIFE: Duration = Duration::days(90);
/// Clients' clocks may be a little behind ours.
const BACKDATED: Duration = Duration::hours(1);

/// See the module.
#[derive(Debug)]
pub struct CertAuthority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The certificate alone, as clients install it.
    pem: String,
    domain: Domain,
}

impl CertAuthority {
    /// The CA stored at `path`, or a new one if there is none that could issue now. A CA that
    /// cannot be used is set aside.
    ///
    /// # Errors
    /// When none can be made or stored.
    pub fn open(path: &Path, domain: &Domain, now: OffsetDateTime) -> Result<Self, CertError> {
        if let Some(pem) = files::read(path)? {
            let usable = Self::from_pem(&pem, domain).and_then(|authority| {
                authority.check(&authority.issue(now)?, now)?;
                Ok(authority)
            });
            match usable {
                Ok(authority) => return Ok(authority),
                Err(error) => files::set_aside(path, &error),
            }
            warn!(%domain, "a new development CA is made; run `fleeks trust` again where it was trusted");
        }
        let (authority, pem_with_key) = Self::generate(domain, now)?;
        files::write_private(path, &pem_with_key)?;
        Ok(authority)
    }

    fn generate(domain: &Domain, now: OffsetDateTime) -> Result<(Self, String), CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (now - BACKDATED, now + CA_LIFE);
        params.distinguished_name = subject(domain, &params.key_identifier(&key));
        // It makes leaves for TLS servers, no further CAs.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_string())],
            // A constraint on one kind of name leaves the other kinds open.
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
            ],
        });
        let certificate = params.self_signed(&key)?;
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        Ok((Self::from_pem(&pem, domain)?, pem))
    }

    fn from_pem(pem: &str, domain: &Domain) -> Result<Self, CertError> {
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CertError::malformed)?;
        require_constrained(&certificate, domain)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let key = KeyPair::try_from(&key.map_err(CertError::malformed)?)?;
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key)?;
        // The first block only: the key stays here.
        let end = "-----END CERTIFICATE-----";
        let alone = pem.split_inclusive(end).next().unwrap_or_default().trim();
        Ok(Self {
            issuer,
            pem: format!("{alone}\n"),
            certificate,
            domain: domain.clone(),
        })
    }

    /// Writes the certificate, without key, where people and clients find it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(&self, path: &Path) -> Result<(), CertError> {
        if files::read(path)?.as_deref() == Some(&self.pem) {
            return Ok(());
        }
        files::write_public(path, &self.pem)
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A new key and certificate for `*.domain` and `domain`.
    ///
    /// # Errors
    /// When the crypto provider fails.
    pub fn issue(&self, now: OffsetDateTime) -> Result<Leaf, CertError> {
        self.issue_for(self.domain.names().to_vec(), now)
    }

    pub(crate) fn issue_for(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Leaf, CertError> {
        let ends = About::read(&self.certificate)?.not_after;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.not_before = now - BACKDATED;
        // None outlives its CA.
        params.not_after = (params.not_before + LEAF_LIFE).min(ends);
        params.distinguished_name = DistinguishedName::new();
        let name = self.domain.as_str();
        params
            .distinguished_name
            .push(DnType::CommonName, at_most_64(name));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Leaf::from_pem(&format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    /// Whether a client that trusts this CA accepts `leaf` now, for the domain and below it.
    ///
    /// # Errors
    /// What such a client would say.
    pub fn check(&self, leaf: &Leaf, now: OffsetDateTime) -> Result<(), CertError> {
        let below = format!("workspace.{}", self.domain);
        for host in [self.domain.as_str(), &below] {
            let name = ServerName::try_from(host).map_err(CertError::malformed)?;
            self.verify(leaf, &name, now)?;
        }
        Ok(())
    }

    pub(crate) fn verify(
        &self,
        leaf: &Leaf,
        name: &ServerName<'_>,
        now: OffsetDateTime,
    ) -> Result<(), CertError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(CertError::malformed)?;
        let since_epoch = (now - OffsetDateTime::UNIX_EPOCH).unsigned_abs();
        let now = UnixTime::since_unix_epoch(since_epoch);
        let [end, chain @ ..] = leaf.certified().cert.as_slice() else {
            return Err(CertError::malformed("no certificate"));
        };
        verifier.verify_server_cert(end, chain, name, &[], now)?;
        Ok(())
    }
}

/// Clients take a trusted certificate as it is, a leaf for a CA included: what we ask people to
/// trust has to be a CA, and one for this domain only.
fn require_constrained(der: &CertificateDer<'_>, domain: &Domain) -> Result<(), CertError> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(CertError::malformed)?;
    let constraints = parsed.name_constraints().map_err(CertError::malformed)?;
    let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
    let only_the_domain = permitted.is_some_and(|subtrees| {
        let is_it = |base: &GeneralName<'_>| *base == GeneralName::DNSName(domain.as_str());
        subtrees.len() == 1 && subtrees.iter().all(|subtree| is_it(&subtree.base))
    });
    if parsed.is_ca() && only_the_domain {
        Ok(())
    } else {
        Err(CertError::malformed("not a CA for this domain only"))
    }
}

/// Says what it is, for what, and from where: people find it in their system's list years later.
fn subject(domain: &Domain, key_id: &[u8]) -> DistinguishedName {
    let id: String = key_id.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "an unknown host".to_owned());
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "fleeks development CA");
    let unit = format!("made on {}", host.trim());
    subject.push(DnType::OrganizationalUnitName, at_most_64(&unit));
    let name = format!("fleeks {id}, only for {domain}");
    subject.push(DnType::CommonName, at_most_64(&name));
    subject
}

/// The bound that X.509 sets on parts of a name.
fn at_most_64(text: &str) -> String {
    text.chars().take(64).collect()
}
