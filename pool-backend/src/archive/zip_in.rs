//! Entries of a zip, in the order of its directory.
//!
//! Must never happen here: a directory read whose count of entries was not looked at first.

use std::io::{self, Read, Seek, SeekFrom};

use super::incoming::{Meter, Visit, damaged};
use super::plan::{Found, Kind};
use super::{invalid, shown, too_large};
use crate::error::{Error, ErrorKind};

/// The record at the end: its signature and length without the comment.
const END: &[u8; 4] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
/// Of the larger kind of directory, which archives of the size taken here do not need.
const LARGE: &[u8; 4] = b"PK\x06\x07";
const LARGE_LENGTH: usize = 20;
/// Most entries that the record can say.
const MOST: u16 = u16::MAX - 1;
/// Longest comment at the end.
const MAX_COMMENT: usize = u16::MAX as usize;
/// Longest target of a link.
const MAX_TARGET: u64 = 8192;

/// Kinds in the mode of an entry that was made on Unix.
const S_IFMT: u32 = 0o170_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// Visits each entry.
///
/// # Errors
/// `Invalid`, `TooLarge`; what `visit` says.
pub(super) fn each(
    mut reader: impl Read + Seek,
    size: u64,
    meter: &Meter,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let said = look_at_end(&mut reader, size)?;
    let mut archive = zip::ZipArchive::new(reader).map_err(refused)?;
    // The library keeps the last one of a name.
    if archive.len() != usize::from(said) {
        return Err(invalid("the archive has a name more than once"));
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(refused)?;
        let name = entry.name().as_bytes().to_vec();
        let mode = entry.unix_mode().unwrap_or(0);
        let mut target = Vec::new();
        let kind = match mode & S_IFMT {
            S_IFLNK => {
                let content = meter.counted(&mut entry);
                content
                    .take(MAX_TARGET)
                    .read_to_end(&mut target)
                    .map_err(damaged)?;
                Kind::Link(&target)
            }
            _ if name.ends_with(b"/") => Kind::Directory,
            S_IFDIR => Kind::Directory,
            0 | S_IFREG => Kind::File,
            _ => Kind::Other("device or the like"),
        };
        let mode = match (mode & 0o777, kind) {
            (0, Kind::Directory) => 0o755,
            (0, _) => 0o644,
            (mode, _) => mode,
        };
        let found = Found {
            name: &name,
            mode,
            kind,
        };
        visit(&found, &mut meter.counted(&mut entry))?;
    }
    Ok(())
}

/// The record at the end has to be the only one, exactly at the end, and of the usual kind: then
/// the library finds the same one, and reads no more entries than it says. How many that are.
fn look_at_end(reader: &mut (impl Read + Seek), size: u64) -> Result<u16, Error> {
    let length = size.min((END_LENGTH + MAX_COMMENT + LARGE_LENGTH) as u64);
    reader
        .seek(SeekFrom::Start(size - length))
        .map_err(damaged)?;
    let mut tail = Vec::new();
    reader
        .take(length)
        .read_to_end(&mut tail)
        .map_err(damaged)?;
    reader.seek(SeekFrom::Start(0)).map_err(damaged)?;
    let broken = || invalid("the archive is damaged, or was cut off");
    let places: Vec<usize> = tail
        .windows(END.len())
        .enumerate()
        .filter(|(_, window)| window == END)
        .map(|(at, _)| at)
        .collect();
    let [at] = places[..] else {
        return Err(match places.len() {
            0 => broken(),
            _ => invalid("the archive has more than one end"),
        });
    };
    let end = &tail[at..];
    let short = |at: usize| {
        let bytes = end.get(at..at + 2).and_then(|two| two.try_into().ok());
        bytes.map_or(0, u16::from_le_bytes)
    };
    if end.len() < END_LENGTH || end.len() != END_LENGTH + usize::from(short(20)) {
        return Err(broken());
    }
    let before = at
        .checked_sub(LARGE_LENGTH)
        .map(|from| &tail[from..from + 4]);
    let entries = short(10);
    if before == Some(LARGE) || entries > MOST {
        return Err(too_large(format!(
            "the zip has more than {MOST} entries or 4 GiB; send a tar.gz"
        )));
    }
    if (short(4), short(6)) != (0, 0) || short(8) != entries {
        return Err(invalid("a part of a zip of several parts is not taken"));
    }
    Ok(entries)
}

fn refused(error: zip::result::ZipError) -> Error {
    use zip::result::ZipError;
    let message = match &error {
        ZipError::UnsupportedArchive(_) => {
            "the zip has an entry that is encrypted, or compressed in another way than deflate"
                .to_owned()
        }
        ZipError::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => String::new(),
        other => format!(
            "the archive is damaged: {}",
            shown(other.to_string().as_bytes())
        ),
    };
    Error::caused(ErrorKind::Invalid, message, error)
}
