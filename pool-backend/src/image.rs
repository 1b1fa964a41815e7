//! OCI images as root file systems: pulled from a registry, every byte checked against a digest,
//! unpacked once into a read-only directory that all containers of its templates share.
//!
//! ```text
//! DATA/images/<manifest digest>              an image: in `root` what becomes `/`, in `image.json` what
//!                                            it says of itself, as far as it counts
//! DATA/images/refs/<digest of a reference>   which image a reference led to when it was pulled
//! DATA/images/.staging                       what is being pulled; gone at the next start
//! DATA/registry-auth.json                    who we are at registries, see [`credentials`]
//! ```
//!
//! Must never happen here: a byte of an image used before its digest was checked, anything written
//! outside the image's own directory, or a half-unpacked image that looks like a whole one.

mod about;
mod credentials;
mod registry;
mod unpack;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use oci_client::Reference;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::{rootfs, volume};
pub(crate) use about::About;
use registry::Registry;

/// An image may say this much of itself.
const LARGEST_CONFIG: u64 = 4 << 20;
/// All its layers together, as they come over the network.
const LARGEST_DOWNLOAD: u64 = 8 << 30;
/// How many layers it may have; overlay file systems end there too.
const MOST_LAYERS: usize = 127;

/// Why an image cannot be had, or not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The registry does not answer, or stopped in the middle.
    #[error("the registry {registry} does not answer: {problem}")]
    Unreachable { registry: String, problem: String },
    /// It answers, and says no.
    #[error("the registry {registry} refuses: {problem}")]
    Refused { registry: String, problem: String },
    /// What came is not what its digest says.
    #[error("{what} is not what its digest says: nothing of it is kept")]
    Tampered { what: String },
    /// It cannot be a root file system here.
    #[error("the image cannot be used: {0}")]
    Unfit(String),
    /// Ours to mend.
    #[error("the credentials for registries cannot be used: {0}")]
    Credentials(String),
    /// The platform ends.
    #[error("shutting down")]
    Ended,
    /// The disk.
    #[error("the image could not be written")]
    Io(#[from] io::Error),
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        if let ImageError::Io(error) = error {
            return Self::from_io("the image could not be written", error);
        }
        Self::new(ErrorKind::NotReady, error.to_string())
    }
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulling {
    /// For people.
    pub(crate) step: String,
    /// Bytes that came, of those that will.
    pub(crate) bytes: Option<(u64, u64)>,
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Of its manifest, `sha256:…`.
    pub(crate) digest: String,
    /// What becomes `/`.
    pub(crate) root: PathBuf,
    pub(crate) about: About,
}

/// The images of a data dir.
#[derive(Debug)]
pub(crate) struct Images {
    directory: PathBuf,
    credentials: PathBuf,
}

/// What a file in `refs/` says.
#[derive(Debug, Serialize, Deserialize)]
struct Led {
    reference: String,
    digest: String,
}

impl Images {
    /// Of this data dir. Takes away what pulls left that were cut off.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let images = Self {
            directory: data_dir.join("images"),
            credentials: credentials::file(data_dir),
        };
        if let Err(error) = volume::remove_tree(&images.staging()) {
            tracing::warn!(%error, "what is left of a pull stays");
        }
        images
    }

    /// The image that the reference led to when it was pulled, if it is still here.
    pub(crate) fn find(&self, reference: &Reference) -> Option<Image> {
        let led: Led = serde_json::from_slice(&fs::read(self.led(reference)).ok()?).ok()?;
        (led.reference == reference.to_string()).then(|| self.open(&led.digest))?
    }

    fn open(&self, digest: &str) -> Option<Image> {
        let place = self.place(digest)?;
        let about = serde_json::from_slice(&fs::read(place.join("image.json")).ok()?).ok()?;
        Some(Image {
            digest: digest.to_owned(),
            root: place.join("root"),
            about,
        })
    }

    /// Asks the registry where the reference leads to, and fetches what is not here. Not cancel
    /// safe: ends early when `ended` says so.
    ///
    /// # Errors
    /// [`ImageError`]; nothing is left then.
    pub(crate) async fn pull(
        &self,
        reference: &Reference,
        ended: &CancellationToken,
        tell: &(dyn Fn(Pulling) + Sync),
    ) -> Result<Image, ImageError> {
        let registry = Registry::new(reference, &self.credentials)?;
        tell(Pulling {
            step: format!("asks {}", reference.resolve_registry()),
            bytes: None,
        });
        let image = tokio::select! {
            manifest = registry.manifest() => {
                let (manifest, digest) = manifest?;
                match self.open(&digest) {
                    Some(there) => there,
                    None => self.fetch(&registry, &manifest, &digest, ended, tell).await?,
                }
            }
            () = ended.cancelled() => return Err(ImageError::Ended),
        };
        let led = Led {
            reference: reference.to_string(),
            digest: image.digest.clone(),
        };
        fs::create_dir_all(self.directory.join("refs"))?;
        let (path, text) = (self.led(reference), serde_json::to_vec(&led)?);
        let temporary = path.with_extension("new");
        fs::write(&temporary, text)?;
        fs::rename(temporary, path)?;
        Ok(image)
    }

    async fn fetch(
        &self,
        registry: &Registry,
        manifest: &registry::Manifest,
        digest: &str,
        ended: &CancellationToken,
        tell: &(dyn Fn(Pulling) + Sync),
    ) -> Result<Image, ImageError> {
        let unfit = |problem: &str| ImageError::Unfit(problem.to_owned());
        let place = self
            .place(digest)
            .ok_or_else(|| unfit("its digest is none that is known"))?;
        let staging = self.staging();
        fs::create_dir_all(&staging)?;
        let staged = tempdir_in(&staging)?;
        let fetched = self
            .fetch_into(&staged, registry, manifest, ended, tell)
            .await;
        let committed = fetched.and_then(|about| {
            match fs::rename(&staged, &place) {
                // Another pull of the same image was faster.
                Err(_) if place.is_dir() => {}
                other => other?,
            }
            Ok(Image {
                digest: digest.to_owned(),
                root: place.join("root"),
                about,
            })
        });
        let left = staged.clone();
        let removed = tokio::task::spawn_blocking(move || volume::remove_tree(&left)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!(
                ?removed,
                "what is left of a pull stays until the next start"
            );
        }
        committed
    }

    async fn fetch_into(
        &self,
        staged: &Path,
        registry: &Registry,
        manifest: &registry::Manifest,
        ended: &CancellationToken,
        tell: &(dyn Fn(Pulling) + Sync),
    ) -> Result<About, ImageError> {
        let config = registry.small(&manifest.config, LARGEST_CONFIG).await?;
        let (mut about, uncompressed) = about::read(&config)?;
        let layers = &manifest.layers;
        let count = layers.len();
        if count != uncompressed.len() {
            let problem = format!("{count} layers, but {} are described", uncompressed.len());
            return Err(ImageError::Unfit(problem));
        }
        if count > MOST_LAYERS {
            return Err(ImageError::Unfit(format!(
                "it has {count} layers; {MOST_LAYERS} are allowed"
            )));
        }
        let total: u64 = layers.iter().map(|layer| layer.size).sum();
        if total > LARGEST_DOWNLOAD {
            return Err(ImageError::Unfit(format!(
                "its layers have {total} bytes; {LARGEST_DOWNLOAD} are allowed"
            )));
        }
        fs::create_dir(staged.join("root"))?;
        let mut budget = unpack::Budget::default();
        let mut done = 0;
        for (number, (layer, diff)) in layers.iter().zip(uncompressed).enumerate() {
            let number = number + 1;
            let path = staged.join("layer");
            let tell_bytes = |here: u64| {
                tell(Pulling {
                    step: format!("pulls layer {number} of {count}"),
                    bytes: Some((done + here, total)),
                });
            };
            tell_bytes(0);
            tokio::select! {
                fetched = registry.fetch(layer, &path, &tell_bytes) => fetched?,
                () = ended.cancelled() => return Err(ImageError::Ended),
            }
            done += layer.size;
            tell(Pulling {
                step: format!("unpacks layer {number} of {count}"),
                bytes: Some((done, total)),
            });
            let work = unpack::Work {
                layer: path,
                root: staged.join("root"),
                digest: diff,
                number,
                budget,
                ended: ended.clone(),
            };
            budget = blocking(move || work.run()).await?;
        }
        let root = staged.join("root");
        let has_bash = blocking(move || {
            rootfs::fit(&root).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => ImageError::Unfit(error.to_string()),
                _ => error.into(),
            })
        })
        .await?;
        if !has_bash {
            about.environment.push(("SHELL".into(), "/bin/sh".into()));
        }
        fs::write(staged.join("image.json"), serde_json::to_vec(&about)?)?;
        Ok(about)
    }

    /// What leads to images that are not here any more goes.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn forget_missing(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.directory.join("refs")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let led = serde_json::from_slice::<Led>(&fs::read(&path)?).ok();
            if led.is_none_or(|led| self.open(&led.digest).is_none()) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn staging(&self) -> PathBuf {
        self.directory.join(".staging")
    }

    fn led(&self, reference: &Reference) -> PathBuf {
        let name = Sha256::digest(reference.to_string());
        let name = data_encoding::HEXLOWER.encode(&name);
        self.directory.join("refs").join(name)
    }

    /// None for a digest that is not one.
    fn place(&self, digest: &str) -> Option<PathBuf> {
        Some(self.directory.join(hex_of(digest)?))
    }
}

/// The 64 letters of `sha256:…`.
pub(crate) fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let plain = hex.len() == 64
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    plain.then_some(hex)
}

fn tempdir_in(parent: &Path) -> io::Result<PathBuf> {
    let path = parent.join(fleet::id::ContainerId::mint().as_str());
    fs::create_dir(&path)?;
    Ok(path)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ImageError::Io(io::Error::other(error))))
}

impl From<serde_json::Error> for ImageError {
    fn from(error: serde_json::Error) -> Self {
        Self::Io(error.into())
    }
}
