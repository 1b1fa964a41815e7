//! The manifest's file, and whether images are what it says.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use fleet::id::{Generation, WorkspaceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::store::IMAGES;
use super::{ImageFile, Manifest, Reader, machine};
use crate::runtime::RuntimeKind;

const FILE: &str = "manifest.json";
const BUFFER: usize = 1 << 18;

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    manifest: Manifest,
    /// Of the manifest's own text.
    digest: String,
}

/// Writes it into a snapshot's directory, durably.
///
/// # Errors
/// What the file system said.
pub fn write(directory: &Path, manifest: &Manifest) -> io::Result<()> {
    let signed = Signed {
        manifest: manifest.clone(),
        digest: digest(manifest)?,
    };
    let mut file = File::create_new(directory.join(FILE))?;
    file.write_all(&serde_json::to_vec(&signed)?)?;
    file.sync_all()
}

/// Reads it from a snapshot's directory.
///
/// # Errors
/// What is wrong with it.
pub fn read(
    directory: &Path,
    workspace: &WorkspaceId,
    generation: Generation,
) -> Result<Manifest, String> {
    let text = std::fs::read(directory.join(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
    let signed: Signed =
        serde_json::from_slice(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let manifest = signed.manifest;
    if digest(&manifest).ok().as_ref() != Some(&signed.digest) {
        return Err(format!("{FILE} does not match its digest"));
    }
    if &manifest.workspace != workspace || manifest.generation != generation {
        return Err(format!("{FILE} is another snapshot's"));
    }
    Ok(manifest)
}

fn digest(manifest: &Manifest) -> io::Result<String> {
    let text = serde_json::to_vec(manifest)?;
    Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(text)))
}

/// Why `reader` cannot read it, if so.
pub fn foreign(manifest: &Manifest, reader: &Reader) -> Option<String> {
    let written = &manifest.about.reader;
    if written.runtime != reader.runtime {
        let (from, here) = (written.runtime.name(), reader.runtime.name());
        return Some(format!("it is of {from}, here is {here}"));
    }
    if written.version != reader.version {
        let (from, here) = (&written.version, &reader.version);
        return Some(format!("it is of version {from}, here is {here}"));
    }
    if written.cpu_features != reader.cpu_features {
        return Some("this CPU has other features".to_owned());
    }
    if written.layout != reader.layout {
        return Some("containers are laid out differently now".to_owned());
    }
    if written.runtime == RuntimeKind::Runc && machine::clock_ms() < manifest.clock_ms {
        return Some("the machine was started anew".to_owned());
    }
    None
}

/// Lists and reads all images.
///
/// # Errors
/// What the file system said, or that it is not plain files.
pub fn look(directory: &Path) -> io::Result<Vec<ImageFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory.join(IMAGES))? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let (Ok(name), true) = (name, entry.file_type()?.is_file()) else {
            return Err(io::Error::other("something that is not an image"));
        };
        let (size, crc32) = checksum(&entry.path())?;
        files.push(ImageFile { name, size, crc32 });
    }
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Compares the images with the manifest; sizes first, all that costs nothing.
///
/// # Errors
/// What is wrong with them.
pub fn compare(directory: &Path, manifest: &Manifest) -> Result<(), String> {
    for file in &manifest.files {
        let path = directory.join(IMAGES).join(&file.name);
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && found.len() == file.size => {}
            Ok(_) => return Err(format!("{} has another size", file.name)),
            Err(error) => return Err(format!("{}: {error}", file.name)),
        }
    }
    let found = look(directory).map_err(|error| error.to_string())?;
    if found.len() != manifest.files.len() {
        return Err("there are more files than there were".to_owned());
    }
    let changed = found.iter().find(|file| !manifest.files.contains(file));
    match changed {
        Some(file) => Err(format!("{} has changed", file.name)),
        None => Ok(()),
    }
}

fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
