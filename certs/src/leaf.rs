//! A certificate that can be served: its chain and key, checked to belong together.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{CertError, renewal};

/// See the module.
#[derive(Debug, Clone)]
pub struct Leaf {
    certified: Arc<CertifiedKey>,
    names: Arc<[String]>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    /// Chain and key as stored; never shown.
    pem: Pem,
}

#[derive(Clone)]
struct Pem(Arc<str>);

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Leaf {
    /// Reads a PEM text with a chain (the leaf first) and its key.
    ///
    /// # Errors
    /// [`CertError::Malformed`]; `Refused` if the key is another one's.
    pub fn from_pem(pem: &str) -> Result<Self, CertError> {
        let bytes = pem.as_bytes();
        let chain = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(CertError::malformed)?;
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(CertError::malformed)?;
        let first = chain
            .first()
            .ok_or_else(|| CertError::malformed("no certificate"))?;
        let about = About::read(first)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Self {
            certified: Arc::new(certified),
            names: about.names.into(),
            not_before: about.not_before,
            not_after: about.not_after,
            pem: Pem(pem.into()),
        })
    }

    pub(crate) fn to_pem(&self) -> String {
        self.pem.0.to_string()
    }

    /// The hosts that it is for, as in the certificate.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it is valid for `host`: [`crate::covers`].
    pub fn covers(&self, host: &str) -> bool {
        crate::covers(&self.names, host)
    }

    /// Its end.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether it is to be replaced: [`crate::is_due`].
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        renewal::is_due(self.not_before, self.not_after, now)
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// What a certificate says about itself.
pub(crate) struct About {
    pub names: Vec<String>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl About {
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(CertError::malformed)?;
        let names = parsed.subject_alternative_name();
        let names = names.map_err(CertError::malformed)?;
        let names = names.map_or(Vec::new(), |extension| {
            let of = extension.value.general_names.iter();
            of.filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect()
        });
        Ok(Self {
            names,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}
