//! Entries of a tar. Long names and links are read here, within bounds, rather than by the library,
//! which would take as much memory as an archive says.
//!
//! Must never happen here: more than [`MAX_EXTENSION`] in memory.

use std::io::Read;

use tar::{EntryType, Header, PaxExtensions};

use super::incoming::{Visit, damaged};
use super::plan::{Found, Kind};
use super::{invalid, shown};
use crate::error::Error;

/// Longest description of the entry that follows it.
const MAX_EXTENSION: u64 = 64 * 1024;
/// Such descriptions in a row.
const MAX_IN_A_ROW: usize = 16;

/// What was said of the next entry.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    count: usize,
}

/// Whether it begins like a tar.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(head) else {
        return false;
    };
    // An empty one.
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    // Its header's sum counts the sum's own field as spaces.
    let sum: u32 = (0..512)
        .map(|at| match at {
            148..156 => u32::from(b' '),
            at => u32::from(block[at]),
        })
        .sum();
    Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|said| said == sum)
}

/// Visits each entry.
///
/// # Errors
/// `Invalid`; what `visit` says.
pub(super) fn each(reader: impl Read, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut archive = tar::Archive::new(reader);
    let mut ahead = Ahead::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => ahead.name = Some(text(&mut entry, &mut ahead.count)?),
            EntryType::GNULongLink => ahead.target = Some(text(&mut entry, &mut ahead.count)?),
            EntryType::XHeader => {
                let said = extension(&mut entry, &mut ahead.count)?;
                ahead.read(&said)?;
            }
            // Of all that follows: only comments and the like are known to be in use.
            EntryType::XGlobalHeader => {
                extension(&mut entry, &mut ahead.count)?;
            }
            _ => {
                let said = std::mem::take(&mut ahead);
                let header = entry.header().clone();
                let name = said
                    .name
                    .unwrap_or_else(|| header.path_bytes().into_owned());
                let size = header.entry_size().map_err(damaged)?;
                if said.size.is_some_and(|said| said != size) {
                    return Err(invalid(format!(
                        "an entry of the archive has two sizes: '{}'",
                        shown(&name)
                    )));
                }
                let target = said
                    .target
                    .or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
                let kind = match kind {
                    // As the oldest tars had directories.
                    EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
                    EntryType::Regular | EntryType::Continuous => Kind::File,
                    EntryType::Directory => Kind::Directory,
                    EntryType::Symlink => Kind::Link(target.as_deref().unwrap_or_default()),
                    EntryType::Link => Kind::Other("hard link (use --hard-dereference)"),
                    EntryType::Char | EntryType::Block => Kind::Other("device"),
                    EntryType::Fifo => Kind::Other("FIFO"),
                    EntryType::GNUSparse => Kind::Other("sparse file"),
                    _ => Kind::Other("thing of an unknown kind"),
                };
                let mode = header.mode().unwrap_or(0o644);
                let found = Found {
                    name: &name,
                    mode,
                    kind,
                };
                visit(&found, &mut entry)?;
            }
        }
    }
    // What follows the end says whether what came is what was packed.
    let rest = std::io::copy(&mut archive.into_inner(), &mut std::io::sink());
    rest.map(drop).map_err(damaged)
}

impl Ahead {
    fn read(&mut self, said: &[u8]) -> Result<(), Error> {
        for pair in PaxExtensions::new(said) {
            let pair = pair.map_err(damaged)?;
            let value = pair.value_bytes();
            match pair.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok();
                    let size = size.and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| invalid("a size in the archive is none"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid(
                        "the archive has a sparse file, which is not taken (leave --sparse out)",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn extension(entry: &mut impl Read, count: &mut usize) -> Result<Vec<u8>, Error> {
    *count += 1;
    let mut said = Vec::new();
    let read = entry.take(MAX_EXTENSION + 1).read_to_end(&mut said);
    let long = read.map_err(damaged)? as u64 > MAX_EXTENSION;
    if long || *count > MAX_IN_A_ROW {
        return Err(invalid("the archive says too much of an entry"));
    }
    Ok(said)
}

/// A name that ends at its first NUL.
fn text(entry: &mut impl Read, count: &mut usize) -> Result<Vec<u8>, Error> {
    let mut text = extension(entry, count)?;
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}
