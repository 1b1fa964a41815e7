//! Which bytes of a file a request wants: `Range` with `If-Range` (RFC 9110, one range only; of
//! several all of it is answered, which the RFC allows). Pure.
//!
//! Must never happen here: a range beyond the file's end.

use std::ops::Range;

use http::{HeaderMap, header};

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200 with all of it.
    Whole,
    /// 206 with these.
    Part(Range<u64>),
    /// 416: the file does not reach there.
    Beyond,
    /// 304: the client has it already.
    Unchanged,
}

/// Of a file of `size` bytes with this entity tag, quotes included.
pub(super) fn wanted(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| lists(tags, tag)) {
        return Wanted::Unchanged;
    }
    let Some(range) = text(header::RANGE) else {
        return Wanted::Whole;
    };
    // A date, or another tag: the client has parts of another file.
    if text(header::IF_RANGE).is_some_and(|known| known.trim() != tag) {
        return Wanted::Whole;
    }
    parse(range, size)
}

fn lists(tags: &str, tag: &str) -> bool {
    let mut tags = tags.split(',').map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn parse(range: &str, size: u64) -> Wanted {
    let Some((unit, set)) = range.split_once('=') else {
        return Wanted::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        return match number(last) {
            None => Wanted::Whole,
            Some(count) if count == 0 || size == 0 => Wanted::Beyond,
            Some(count) => Wanted::Part(size.saturating_sub(count)..size),
        };
    }
    let Some(first) = number(first) else {
        return Wanted::Whole;
    };
    let end = if last.is_empty() {
        size
    } else {
        match number(last) {
            Some(last) if last >= first => last.saturating_add(1).min(size),
            _ => return Wanted::Whole,
        }
    };
    if first >= size {
        return Wanted::Beyond;
    }
    Wanted::Part(first..end)
}

/// Digits only; more than fit are as many as there can be.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(range: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        wanted(&headers, "\"t\"", size)
    }

    #[test]
    fn ranges() {
        let part = |from, to| Wanted::Part(from..to);
        let table = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-5", part(3, 6)),
            ("Bytes = 3-5", part(3, 6)),
            ("bytes=9-100", part(9, 10)),
            ("bytes=9-99999999999999999999999", part(9, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-3", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
        ];
        for (range, expected) in table {
            assert_eq!(ask(range, 10), expected, "{range}");
        }
        assert_eq!(ask("bytes=0-", 0), Wanted::Beyond);
        assert_eq!(ask("bytes=-1", 0), Wanted::Beyond);
    }

    #[test]
    fn conditions() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=1-2".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"t\"".parse().unwrap());
        assert_eq!(wanted(&headers, "\"t\"", 10), Wanted::Part(1..3));
        for other in ["\"u\"", "W/\"t\"", "Tue, 01 Jan 2030 00:00:00 GMT"] {
            headers.insert(header::IF_RANGE, other.parse().unwrap());
            assert_eq!(wanted(&headers, "\"t\"", 10), Wanted::Whole);
        }
        for known in ["\"t\"", "W/\"t\"", "\"a\", \"t\"", "*"] {
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
            assert_eq!(wanted(&headers, "\"t\"", 10), Wanted::Unchanged);
        }
    }

    proptest! {
        #[test]
        fn no_range_leaves_the_file(range in "(bytes=)?[0-9,-]{0,40}", size in 0_u64..2000) {
            if let Wanted::Part(part) = ask(&range, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
