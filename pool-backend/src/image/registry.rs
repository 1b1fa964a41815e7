//! A registry, as far as pulling goes: manifest, configuration and layers, each checked against
//! its digest before it is used. What a lost connection broke off goes on where it was.
//!
//! TLS everywhere, with the machine's own certificates; plain HTTP only to registries on this
//! machine.
//!
//! Must never happen here: a credential sent without TLS beyond this machine, a digest believed
//! because the registry says so, or a wait without an end.

use std::net::Ipv4Addr;
use std::path::Path;

use fleet::timing;
use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, manifest};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::{ImageError, credentials, hex_of};

/// Of what a registry complains, this much is shown.
const SHOWN: usize = 300;
/// A manifest may be this large.
const LARGEST_MANIFEST: usize = 4 << 20;
/// A broken transfer is taken up again this often without a byte more.
const TRIES: u32 = 4;
const MANIFESTS: [&str; 4] = [
    manifest::OCI_IMAGE_MEDIA_TYPE,
    manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];
const LAYERS: [&str; 6] = [
    manifest::IMAGE_LAYER_MEDIA_TYPE,
    manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE,
    "application/vnd.oci.image.layer.v1.tar+zstd",
    manifest::IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    manifest::IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Where an image is.
pub(super) struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

/// Something that a registry has, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// `sha256:…`, certainly.
    pub(super) digest: String,
    pub(super) size: u64,
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Blob,
    pub(super) layers: Vec<Blob>,
}

impl Registry {
    /// The one that the reference names.
    ///
    /// # Errors
    /// Credentials that cannot be used; no certificates on this machine.
    pub(super) fn new(reference: &Reference, credentials: &Path) -> Result<Self, ImageError> {
        let name = reference.resolve_registry();
        let protocol = if is_loopback(name) {
            ClientProtocol::HttpsExcept(vec![name.to_owned()])
        } else {
            ClientProtocol::Https
        };
        let config = ClientConfig {
            protocol,
            read_timeout: Some(timing::REGISTRY_SILENT),
            connect_timeout: Some(timing::REGISTRY_CONNECT),
            user_agent: concat!("fleeks/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Not `Client::new`: it would go on without these settings if they cannot be had.
        let client = Client::try_from(config).map_err(|error| ImageError::Unreachable {
            registry: name.to_owned(),
            problem: shortened(&error.to_string()),
        })?;
        Ok(Self {
            client,
            auth: credentials::of(name, credentials)?,
            reference: reference.clone(),
        })
    }

    /// The manifest for this machine's kind, and its digest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(super) async fn manifest(&self) -> Result<(Manifest, String), ImageError> {
        let (first, digest) = self.any_manifest(&self.reference).await?;
        let (image, digest) = match first {
            OciManifest::Image(image) => (image, digest),
            OciManifest::ImageIndex(index) => {
                let ours = oci_client::client::linux_amd64_resolver(&index.manifests);
                let ours = ours.ok_or_else(|| {
                    ImageError::Unfit("it has no variant for linux on amd64".to_owned())
                })?;
                hex_of(&ours).ok_or_else(|| {
                    ImageError::Unfit(format!("{:?} is no SHA-256 digest", shortened(&ours)))
                })?;
                let reference = self.reference.clone_with_digest(ours);
                match self.any_manifest(&reference).await? {
                    (OciManifest::Image(image), digest) => (image, digest),
                    _ => return Err(ImageError::Unfit("its index leads to an index".to_owned())),
                }
            }
        };
        Ok((understood(&image)?, digest))
    }

    async fn any_manifest(&self, which: &Reference) -> Result<(OciManifest, String), ImageError> {
        if let Some(wanted) = which.digest()
            && hex_of(wanted).is_none()
        {
            let problem = format!("{wanted:?} is no SHA-256 digest");
            return Err(ImageError::Unfit(problem));
        }
        let asked = self.client.pull_manifest_raw(which, &self.auth, &MANIFESTS);
        let asked = tokio::time::timeout(timing::REGISTRY_ANSWER, asked).await;
        let (text, _) = asked
            .map_err(|_| self.unreachable("it took too long"))?
            .map_err(|error| self.failed(error))?;
        if text.len() > LARGEST_MANIFEST {
            let problem = format!("its manifest has {} bytes", text.len());
            return Err(ImageError::Unfit(problem));
        }
        let digest = digest_of(&text);
        if which.digest().is_some_and(|wanted| wanted != digest) {
            let what = "its manifest".to_owned();
            return Err(ImageError::Tampered { what });
        }
        let parsed = serde_json::from_slice(&text).map_err(|error| {
            ImageError::Unfit(format!(
                "its manifest is none: {}",
                shortened(&error.to_string())
            ))
        })?;
        Ok((parsed, digest))
    }

    /// A small blob, checked.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(super) async fn small(&self, blob: &Blob, largest: u64) -> Result<Vec<u8>, ImageError> {
        if blob.size > largest {
            let problem = format!("its configuration has {} bytes", blob.size);
            return Err(ImageError::Unfit(problem));
        }
        let mut received = Vec::new();
        let asked = self.receive(blob, &mut received, &|_| {});
        let asked = tokio::time::timeout(timing::REGISTRY_ANSWER, asked).await;
        asked.map_err(|_| self.unreachable("it took too long"))??;
        Ok(received)
    }

    /// A blob into a new file, checked; `told` hears how many bytes there are.
    ///
    /// # Errors
    /// [`ImageError`]; what is in the file counts for nothing then.
    pub(super) async fn fetch(
        &self,
        blob: &Blob,
        path: &Path,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ImageError> {
        let mut file = tokio::fs::File::create(path).await?;
        self.receive(blob, &mut file, told).await?;
        file.flush().await?;
        Ok(())
    }

    async fn receive(
        &self,
        blob: &Blob,
        into: &mut (impl tokio::io::AsyncWrite + Unpin),
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ImageError> {
        let mut digest = Sha256::new();
        let (mut received, mut tries) = (0, 0);
        while received < blob.size {
            let before = received;
            let asked = self.client.pull_blob_stream_partial(
                &self.reference,
                blob.digest.as_str(),
                received,
                None,
            );
            let problem = match asked.await {
                // The registry cannot start in the middle.
                Ok(BlobResponse::Full(_)) if received > 0 => {
                    return Err(self.unreachable("the connection was lost"));
                }
                Ok(BlobResponse::Full(mut body) | BlobResponse::Partial(mut body)) => loop {
                    match body.next().await {
                        None => break "the connection was lost".to_owned(),
                        Some(Err(error)) if is_digest(&error) => return Err(tampered(blob)),
                        Some(Err(error)) => break shortened(&error.to_string()),
                        Some(Ok(bytes)) => {
                            received += bytes.len() as u64;
                            if received > blob.size {
                                return Err(tampered(blob));
                            }
                            digest.update(&bytes);
                            into.write_all(&bytes).await?;
                            told(received);
                        }
                    }
                },
                Err(error) => match self.failed(error) {
                    ImageError::Unreachable { problem, .. } => problem,
                    other => return Err(other),
                },
            };
            if received == blob.size {
                break;
            }
            tries = if received > before { 1 } else { tries + 1 };
            if tries >= TRIES {
                return Err(self.unreachable(&problem));
            }
            tracing::info!(%problem, received, of = blob.size, "a layer is asked for again");
            tokio::time::sleep(timing::REGISTRY_RETRY * tries).await;
        }
        let found = format!(
            "sha256:{}",
            data_encoding::HEXLOWER.encode(&digest.finalize())
        );
        if found != blob.digest {
            return Err(tampered(blob));
        }
        Ok(())
    }

    fn unreachable(&self, problem: &str) -> ImageError {
        ImageError::Unreachable {
            registry: self.reference.resolve_registry().to_owned(),
            problem: problem.to_owned(),
        }
    }

    fn failed(&self, error: OciDistributionError) -> ImageError {
        let registry = self.reference.resolve_registry().to_owned();
        let refused = |problem: String| ImageError::Refused {
            registry: registry.clone(),
            problem,
        };
        match error {
            OciDistributionError::DigestError(_) => ImageError::Tampered {
                what: "what the registry sent".to_owned(),
            },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                refused("our credentials for it are missing or wrong".to_owned())
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let codes = envelope.errors.iter().map(|error| {
                    let message = &error.message;
                    match message.is_empty() {
                        true => format!("{:?}", error.code),
                        false => message.clone(),
                    }
                });
                refused(shortened(&codes.collect::<Vec<_>>().join(", ")))
            }
            OciDistributionError::ServerError {
                code: code @ 400..=499,
                ..
            } => refused(format!("it answers {code}")),
            OciDistributionError::ServerError { code, .. } => {
                self.unreachable(&format!("it answers {code}"))
            }
            OciDistributionError::RequestError(error) => self.unreachable(&causes(&error)),
            OciDistributionError::IoError(error) => self.unreachable(&causes(&error)),
            other => refused(shortened(&other.to_string())),
        }
    }
}

fn understood(image: &OciImageManifest) -> Result<Manifest, ImageError> {
    if image.schema_version != 2 {
        return Err(ImageError::Unfit(
            "its manifest is of a version that is not known".to_owned(),
        ));
    }
    let strange = |layer: &&OciDescriptor| !LAYERS.contains(&layer.media_type.as_str());
    if let Some(layer) = image.layers.iter().find(strange) {
        let kind = shortened(&layer.media_type);
        return Err(ImageError::Unfit(format!(
            "it has a layer of type {kind:?}"
        )));
    }
    let layers = image.layers.iter().map(blob).collect::<Result<_, _>>()?;
    Ok(Manifest {
        config: blob(&image.config)?,
        layers,
    })
}

fn blob(said: &OciDescriptor) -> Result<Blob, ImageError> {
    let size = u64::try_from(said.size).unwrap_or(0);
    if size == 0 || hex_of(&said.digest).is_none() {
        let digest = shortened(&said.digest);
        let problem = format!("its manifest names {digest:?} of {} bytes", said.size);
        return Err(ImageError::Unfit(problem));
    }
    Ok(Blob {
        digest: said.digest.clone(),
        size,
    })
}

/// Whether a registry of that name is on this machine: names that mean something else elsewhere do
/// not count.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

fn digest_of(bytes: &[u8]) -> String {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
    format!("sha256:{digest}")
}

fn tampered(blob: &Blob) -> ImageError {
    let what = format!("the blob {}", blob.digest.get(..19).unwrap_or_default());
    ImageError::Tampered { what }
}

fn is_digest(error: &std::io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<oci_client::errors::DigestError>())
}

/// An error with what it comes from: "error sending request" alone says nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    shortened(&text)
}

/// For people: one line, not too long.
fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_only_on_this_machine() {
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "10.0.0.1:5000",
            "localhost.example",
            "registry.example:5000",
            "127.0.0.1.example",
            "0.0.0.0:5000",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn layers_of_unknown_kinds_or_digests_are_refused() {
        let descriptor = |kind: &str, digest: &str, size: i64| OciDescriptor {
            media_type: kind.to_owned(),
            digest: digest.to_owned(),
            size,
            ..OciDescriptor::default()
        };
        let good = format!("sha256:{}", "a".repeat(64));
        let image = |layer: OciDescriptor| OciImageManifest {
            config: descriptor(manifest::IMAGE_CONFIG_MEDIA_TYPE, &good, 2),
            layers: vec![layer],
            ..OciImageManifest::default()
        };
        let gzip = manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;
        assert!(understood(&image(descriptor(gzip, &good, 1))).is_ok());
        for layer in [
            descriptor("application/wasm", &good, 1),
            descriptor(gzip, "sha256:../../etc", 1),
            descriptor(gzip, "sha512:aa", 1),
            descriptor(gzip, &good, -1),
        ] {
            assert!(understood(&image(layer)).is_err());
        }
    }
}
