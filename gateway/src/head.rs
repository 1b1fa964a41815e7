//! The strict reading of an HTTP/1 request head, on its raw bytes, before any parser that forgives.
//!
//! Two parsers that disagree about where a request ends are request smuggling; so everything that
//! has two readings is refused here: bare LF and CR, folded lines, blanks around names, two framings.
//! Pure; it copies nothing.
//!
//! Must never happen here: I/O, or a repair of what came in.

use crate::classify::{self, BadHost};

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Not the syntax of RFC 9112.
    #[error("{0}")]
    Malformed(&'static str),
    /// Too many bytes or fields.
    #[error("the request's header fields are too large or too many")]
    TooLarge,
    /// TRACE and CONNECT are not for previews.
    #[error("the method is not allowed")]
    Method,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// An expectation other than 100-continue.
    #[error("the expectation is not known")]
    Expectation,
}

/// Looks for the end of a head in `buf`, of which the first `seen` bytes were looked at before.
/// `Ok(Some(n))`: the head is the first `n` bytes. Each byte is looked at once.
pub(crate) fn find_end(buf: &[u8], seen: usize) -> Result<Option<usize>, Fault> {
    for (index, byte) in buf.iter().enumerate().skip(seen) {
        if *byte != b'\n' {
            continue;
        }
        let line = &buf[..index];
        if !line.ends_with(b"\r") {
            return Err(Fault::Malformed("a line ends in a bare LF"));
        }
        if line.ends_with(b"\r\n\r") {
            return Ok(Some(index + 1));
        }
        if index == 1 {
            return Err(Fault::Malformed("the request line is empty"));
        }
    }
    Ok(None)
}

/// Checks a whole head as found by [`find_end`].
pub(crate) fn check(head: &[u8], max_headers: usize) -> Result<(), Fault> {
    let mut lines = Lines(head);
    let request = lines.next().unwrap_or_default();
    let (method, target, old) = request_line(request)?;

    let mut fields = Fields::default();
    let mut count = 0;
    for line in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > max_headers {
            return Err(Fault::TooLarge);
        }
        fields.add(line)?;
    }
    fields.agree(method, target, old)
}

/// Whether a head that was checked asks to speak something else than HTTP from here on. HTTP/2
/// over plain connections is not among it.
pub(crate) fn asks_for_upgrade(head: &[u8]) -> bool {
    let mut fields = Fields::default();
    for line in Lines(head).skip(1) {
        // Empty at the head's end, and of what follows nothing is a field.
        if line.is_empty() || fields.add(line).is_err() {
            break;
        }
    }
    let http = |upgrade: &[u8]| upgrade.to_ascii_lowercase().starts_with(b"h2");
    head.starts_with(b"GET ")
        && fields.connection_upgrade
        && fields.length.is_none_or(|length| length == b"0")
        && fields.encoding.is_none()
        && fields.upgrade.is_some_and(|upgrade| !http(upgrade))
}

/// Whether a head, checked or not, asks for HTML; for the refusal of a bad one.
pub(crate) fn wants_html(head: &[u8]) -> bool {
    Lines(head).skip(1).any(|line| {
        split_field(line).is_ok_and(|(name, value)| {
            name.eq_ignore_ascii_case(b"accept")
                && std::str::from_utf8(value).is_ok_and(|value| value.contains("text/html"))
        })
    })
}

/// `METHOD target HTTP/1.x`; the last of the result: it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], bool), Fault> {
    let malformed = Fault::Malformed("the request line is malformed");
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed);
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(malformed);
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if version.starts_with(b"HTTP/") => return Err(Fault::Version),
        _ => return Err(malformed),
    };
    if matches!(method, b"TRACE" | b"CONNECT" | b"TRACK") {
        return Err(Fault::Method);
    }
    if !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err(Fault::Malformed("the request target is malformed"));
    }
    let form_fits = match target.first() {
        Some(b'/') => true,
        Some(b'*') => method == b"OPTIONS" && target.len() == 1,
        _ => absolute_authority(target).is_some(),
    };
    match form_fits {
        true => Ok((method, target, old)),
        false => Err(Fault::Malformed("the request target is malformed")),
    }
}

/// The authority of an absolute-form target.
pub(crate) fn absolute_authority(target: &[u8]) -> Option<&[u8]> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then(|| &target[scheme.len()..])
    })?;
    rest.split(|byte| matches!(byte, b'/' | b'?' | b'\\'))
        .next()
}

/// What the fields of one head say about authority and framing.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    connection_upgrade: bool,
}

impl<'a> Fields<'a> {
    fn add(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        let (name, value) = split_field(line)?;
        let once = |slot: &mut Option<&'a [u8]>, twice| match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(Fault::Malformed(twice)),
        };
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.host, "more than one Host field")?;
            }
            6 if name.eq_ignore_ascii_case(b"expect")
                && !value.eq_ignore_ascii_case(b"100-continue") =>
            {
                return Err(Fault::Expectation);
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                once(&mut self.upgrade, "more than one Upgrade field")?;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= value
                    .split(|byte| *byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(&mut self.length, "more than one Content-Length field")?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                once(&mut self.encoding, "more than one Transfer-Encoding field")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn agree(&self, method: &[u8], target: &[u8], old: bool) -> Result<(), Fault> {
        let Some(host) = self.host else {
            return Err(Fault::Malformed("the Host field is missing"));
        };
        if classify::parse_host(host).is_err_and(|bad| bad == BadHost::Malformed) {
            return Err(Fault::Malformed("the Host field is not a host name"));
        }
        if absolute_authority(target).is_some_and(|authority| authority != host) {
            return Err(Fault::Malformed("Host and request target disagree"));
        }
        if let Some(length) = self.length {
            let plain = (1..=18).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
            if !plain {
                return Err(Fault::Malformed("Content-Length is not a number"));
            }
        }
        if let Some(encoding) = self.encoding {
            if self.length.is_some() {
                return Err(Fault::Malformed(
                    "both Content-Length and Transfer-Encoding",
                ));
            }
            if old || !encoding.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Malformed(
                    "the transfer encoding is not plain chunked",
                ));
            }
        }
        let websocket = self
            .upgrade
            .is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"));
        if websocket {
            let body = self.encoding.is_some() || self.length.is_some_and(|length| length != b"0");
            if method != b"GET" || old || body || !self.connection_upgrade {
                return Err(Fault::Malformed("the websocket handshake is malformed"));
            }
        }
        Ok(())
    }
}

/// Name and trimmed value of a field line.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Fault::Malformed("a header field's name is malformed"));
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let fits = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    match value.iter().all(fits) {
        true => Ok((name, value)),
        false => Err(Fault::Malformed("a header field's value is malformed")),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Lines without their CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.0.split_at(end.map_or(self.0.len(), |end| end + 1));
        self.0 = rest;
        Some(line.strip_suffix(b"\r\n").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(head: &str) -> Result<(), Fault> {
        let end = find_end(head.as_bytes(), 0)?.expect("a whole head");
        check(&head.as_bytes()[..end], 100)
    }

    #[test]
    fn good_heads() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x?y=%20 HTTP/1.0\r\nhost:a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n",
            "PROPFIND / HTTP/1.1\r\nHost: a\r\nX-Utf8: caf\u{e9}\r\nEmpty:\r\n\r\n",
        ] {
            assert_eq!(verdict(head), Ok(()), "{head:?}");
        }
    }

    #[test]
    fn bad_heads() {
        for head in [
            "\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\n",
        ] {
            assert!(
                matches!(verdict(head), Err(Fault::Malformed(_))),
                "{head:?} {:?}",
                verdict(head)
            );
        }
        for (head, fault) in [
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Fault::Version),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n",
                Fault::Expectation,
            ),
        ] {
            assert_eq!(verdict(head), Err(fault), "{head:?}");
        }
        let many = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "A: b\r\n".repeat(100)
        );
        assert_eq!(verdict(&many), Err(Fault::TooLarge));
    }

    #[test]
    fn html_is_asked_for_by_accept() {
        assert!(wants_html(b"BAD\r\naccept: text/html,*/*\r\n\r\n"));
        assert!(!wants_html(b"BAD\r\naccept: */*\r\n\r\n"));
        assert!(!wants_html(b""));
    }

    proptest! {
        #[test]
        fn the_end_does_not_depend_on_how_bytes_arrive(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(b':')], 0..40),
            cuts in proptest::collection::vec(0usize..40, 0..6),
        ) {
            let whole = find_end(&bytes, 0);
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut seen = 0;
            let mut found = Ok(None);
            for cut in cuts {
                found = find_end(&bytes[..cut], seen);
                if !matches!(found, Ok(None)) {
                    break;
                }
                seen = cut;
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = find_end(&bytes, 0);
            let _ = check(&bytes, 10);
            let _ = wants_html(&bytes);
        }
    }
}
