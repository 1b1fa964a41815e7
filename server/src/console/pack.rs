//! The form in which `console/build.mjs` hands its files over: the length of an index as four bytes,
//! least first; the index as JSON; the files' bytes, each as it is and perhaps compressed, at the
//! places that the index names.
//!
//! Must never happen here: bytes copied.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadPack {
    /// It ends before it should.
    #[error("the console's pack is cut off")]
    CutOff,
    /// Its index is none.
    #[error("the console's pack has no index: {0}")]
    Index(#[from] serde_json::Error),
    /// Nothing to begin with.
    #[error("the console's pack has no page")]
    NoPage,
}

/// How a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Br,
}

impl Encoding {
    /// As HTTP has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Br => "br",
        }
    }
}

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    /// Its media type.
    pub(crate) kind: String,
    /// Of its content.
    pub(crate) hash: String,
    /// Its name changes with its content.
    pub(crate) immutable: bool,
    whole: &'static [u8],
    /// Smaller ones.
    encoded: BTreeMap<Encoding, &'static [u8]>,
}

impl File {
    /// The smallest form that `accepts` takes.
    pub(crate) fn best(&self, accepts: impl Fn(Encoding) -> bool) -> (Encoding, &'static [u8]) {
        let encoded = self
            .encoded
            .iter()
            .filter(|(encoding, _)| accepts(**encoding));
        encoded
            .min_by_key(|(_, bytes)| bytes.len())
            .map_or((Encoding::Identity, self.whole), |(encoding, bytes)| {
                (*encoding, *bytes)
            })
    }
}

#[derive(Deserialize)]
struct Index {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    hash: String,
    immutable: bool,
    ranges: BTreeMap<Encoding, (usize, usize)>,
}

/// All files of a pack, by path.
///
/// # Errors
/// [`BadPack`].
pub(crate) fn read(pack: &'static [u8]) -> Result<HashMap<String, File>, BadPack> {
    let (length, rest) = pack.split_first_chunk::<4>().ok_or(BadPack::CutOff)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| BadPack::CutOff)?;
    let (index, bytes) = rest.split_at_checked(length).ok_or(BadPack::CutOff)?;
    let index: Index = serde_json::from_slice(index)?;
    let files = index.files.into_iter().map(|entry| {
        let range = |(start, length): (usize, usize)| {
            let end = start.checked_add(length).ok_or(BadPack::CutOff)?;
            bytes.get(start..end).ok_or(BadPack::CutOff)
        };
        let mut encoded = entry
            .ranges
            .into_iter()
            .map(|(encoding, place)| Ok((encoding, range(place)?)))
            .collect::<Result<BTreeMap<_, _>, BadPack>>()?;
        let whole = encoded.remove(&Encoding::Identity).ok_or(BadPack::CutOff)?;
        let file = File {
            kind: entry.kind,
            hash: entry.hash,
            immutable: entry.immutable,
            whole,
            encoded,
        };
        Ok((entry.path, file))
    });
    files.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A page, and a script in all encodings.
    pub(crate) fn sample() -> Vec<u8> {
        let index = serde_json::json!({"files": [
            {"path": "index.html", "type": "text/html; charset=utf-8", "hash": "p",
             "immutable": false, "ranges": {"identity": [0, 6]}},
            {"path": "assets/a-1.js", "type": "text/javascript; charset=utf-8", "hash": "a",
             "immutable": true, "ranges": {"identity": [6, 5], "gzip": [11, 3], "br": [14, 2]}},
        ]});
        let index = index.to_string();
        let mut pack = u32::try_from(index.len()).unwrap().to_le_bytes().to_vec();
        pack.extend_from_slice(index.as_bytes());
        pack.extend_from_slice(b"<page>let aGZPBR");
        pack
    }

    #[test]
    fn a_pack_that_is_cut_off_is_refused_wherever() {
        let whole: &'static [u8] = Box::leak(sample().into_boxed_slice());
        assert_eq!(read(whole).unwrap().len(), 2);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(read(b"\xff\xff\xff\xff").is_err());
        assert!(read(b"\x02\0\0\0{}").is_err());
        assert!(matches!(read(b""), Err(BadPack::CutOff)));
    }
}
