//! Pages of a list: which entries, and from where the next one goes on. Pure.
//!
//! Must never happen here: an entry left out because another came or went between two pages.

use data_encoding::BASE64URL_NOPAD;
use pool_backend::workspaces::FileInfo;

use crate::Problem;
use crate::input::number;

/// Most entries of a page.
const PAGE_MAX: u64 = 10_000;

/// The page of `all`, which is sorted by path, that follows `cursor`, and the cursor of the next.
pub(super) fn page(
    mut all: Vec<FileInfo>,
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Result<(Vec<FileInfo>, Option<String>), Problem> {
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let wrong = || Problem::invalid("cursor must be the next_cursor of an earlier answer");
    let after = match cursor {
        None => None,
        Some(cursor) => {
            let bytes = BASE64URL_NOPAD
                .decode(cursor.as_bytes())
                .map_err(|_| wrong())?;
            Some(String::from_utf8(bytes).map_err(|_| wrong())?)
        }
    };
    if limit.is_none() && after.is_none() {
        return Ok((all, None));
    }
    let limit = number("limit", limit, 1000, 1..=PAGE_MAX)?;
    let from = after.map_or(0, |after| all.partition_point(|one| one.path <= after));
    all.drain(..from);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = all.len() > limit;
    all.truncate(limit);
    let last = all.last().filter(|_| more);
    let next = last.map(|last| BASE64URL_NOPAD.encode(last.path.as_bytes()));
    Ok((all, next))
}

#[cfg(test)]
mod tests {
    use pool_backend::workspaces::FileKind;
    use time::OffsetDateTime;

    use super::*;

    fn found(path: &str) -> FileInfo {
        FileInfo {
            path: path.to_owned(),
            kind: FileKind::File,
            size: 3,
            mode: 0o644,
            created_at: OffsetDateTime::UNIX_EPOCH,
            modified_at: OffsetDateTime::UNIX_EPOCH,
            write_id: None,
        }
    }

    #[test]
    fn pages_follow_each_other_whatever_comes_and_goes() {
        let all = || ["a", "b", "b/c", "bz", "d"].map(found).to_vec();
        let names = |page: &[FileInfo]| page.iter().map(|one| one.path.clone()).collect::<Vec<_>>();
        let (whole, none) = page(all(), None, None).unwrap();
        assert_eq!((whole.len(), none), (5, None));
        let (first, next) = page(all(), Some("2"), None).unwrap();
        assert_eq!(names(&first), ["a", "b"]);
        // What the cursor names is gone meanwhile.
        let mut fewer = all();
        fewer.remove(1);
        let (second, next) = page(fewer, Some("2"), next.as_deref()).unwrap();
        assert_eq!(names(&second), ["b/c", "bz"]);
        let (last, next) = page(all(), Some("2"), next.as_deref()).unwrap();
        assert_eq!((names(&last), next), (vec!["d".to_owned()], None));
        for (limit, cursor) in [("0", ""), ("10001", ""), ("x", ""), ("1", "?"), ("1", "_w")] {
            assert!(
                page(all(), Some(limit), Some(cursor)).is_err(),
                "{limit} {cursor}"
            );
        }
    }
}
