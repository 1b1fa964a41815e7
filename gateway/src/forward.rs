//! What crosses the gateway and what does not: header fields of requests and responses.
//!
//! Host and Origin reach the app as the visitor sent them (dev servers compare the two). Who the
//! visitor is, we say: whatever a visitor says about that is dropped.
//!
//! Must never happen here: a field of ours that a visitor or an app could have forged.

use std::net::IpAddr;

use http::header::{ALT_SVC, COOKIE, FORWARDED, HeaderName, HeaderValue, SET_COOKIE};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

/// Cookies with these name prefixes are ours: apps neither see nor set them.
const OUR_COOKIES: &[&str] = &["__Host-fleeks", "__Secure-fleeks", "fleeks_"];

/// Claims about the visitor or the request that only we or a proxy before us could make.
const CLAIMS: &[&str] = &[
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "proxy",
    "proxy-authorization",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// What we say about a request.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    /// The visitor's address.
    pub address: Option<IpAddr>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The host that was asked for, checked, with its port.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// Makes a visitor's request head the one that an app or the API gets.
pub(crate) fn scrub_request(req: &mut RequestHeader, client: &Client<'_>) -> Result<()> {
    let unwanted: Vec<HeaderName> = req
        .headers
        .keys()
        .filter(|name| is_unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        req.remove_header(name.as_str());
    }
    scrub_cookies(req)?;

    let proto = if client.tls { "https" } else { "http" };
    req.insert_header("x-forwarded-proto", proto)?;
    req.insert_header("x-forwarded-host", client.host)?;
    req.insert_header("x-request-id", client.request_id)?;
    let node = match client.address {
        Some(address) => {
            let address = address.to_canonical();
            req.insert_header("x-forwarded-for", address.to_string())?;
            match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("\"[{v6}]\""),
            }
        }
        None => "unknown".to_owned(),
    };
    let host = client.host;
    req.insert_header(
        FORWARDED,
        format!("for={node};host=\"{host}\";proto={proto}"),
    )
}

/// Many servers read `X_Forwarded_For` as `X-Forwarded-For`, so no name with `_` passes.
fn is_unwanted(name: &str) -> bool {
    name.contains('_') || name.starts_with("x-forwarded-") || CLAIMS.contains(&name)
}

/// Drops our cookies and joins the rest: HTTP/2 may split them, HTTP/1 wants one field.
fn scrub_cookies(req: &mut RequestHeader) -> Result<()> {
    let mut fields = req.headers.get_all(COOKIE).iter();
    let (Some(first), second) = (fields.next(), fields.next()) else {
        return Ok(());
    };
    let ours = |field: &HeaderValue| cookies(field.as_bytes()).any(is_our_cookie);
    if second.is_none() && !ours(first) {
        return Ok(());
    }
    let mut kept: Vec<u8> = Vec::new();
    for field in req.headers.get_all(COOKIE) {
        for cookie in cookies(field.as_bytes()).filter(|cookie| !is_our_cookie(cookie)) {
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(cookie);
        }
    }
    req.remove_header(&COOKIE);
    match kept.is_empty() {
        true => Ok(()),
        false => req.insert_header(COOKIE, kept),
    }
}

pub(crate) fn cookies(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|cookie| !cookie.is_empty())
}

fn is_our_cookie(cookie: &[u8]) -> bool {
    OUR_COOKIES.iter().any(|prefix| {
        cookie
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

/// Takes from an app's response what would reach beyond its own host.
pub(crate) fn scrub_response(response: &mut ResponseHeader, domain: &str) -> Result<()> {
    // An app cannot announce other endpoints for a name that we serve.
    response.remove_header(&ALT_SVC);
    let bad = |value: &HeaderValue| reaches_siblings(value.as_bytes(), domain);
    if !response.headers.get_all(SET_COOKIE).iter().any(bad) {
        return Ok(());
    }
    let kept: Vec<HeaderValue> = response
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| !bad(value))
        .cloned()
        .collect();
    response.remove_header(&SET_COOKIE);
    for value in kept {
        response.append_header(SET_COOKIE, value)?;
    }
    Ok(())
}

/// Whether a cookie is ours by name, or would be sent to hosts of other workspaces: its Domain is
/// the platform's domain or above it.
fn reaches_siblings(cookie: &[u8], domain: &str) -> bool {
    if is_our_cookie(cookie.trim_ascii()) {
        return true;
    }
    cookie.split(|byte| *byte == b';').skip(1).any(|attribute| {
        let mut parts = attribute.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"domain") {
            return false;
        }
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        let value = value.trim_matches(['.', '"']);
        let above = domain
            .strip_suffix(value)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        !value.is_empty() && above
    })
}

/// A request id that the API's callers may choose: it is logged and echoed, so it is plain. The
/// node's listener has the same rule.
pub(crate) fn valid_request_id(id: &[u8]) -> bool {
    (1..=64).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A new request id.
pub(crate) fn mint_request_id() -> String {
    format!("req_{:020x}", rand::random::<u128>() >> 48)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[(&str, &str)]) -> RequestHeader {
        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            req.append_header((*name).to_owned(), *value).unwrap();
        }
        let client = Client {
            address: Some("192.0.2.7".parse().unwrap()),
            tls: true,
            host: "a.fleeks.localhost:8443",
            request_id: "r-1234567",
        };
        scrub_request(&mut req, &client).unwrap();
        req
    }

    fn all<'a>(req: &'a RequestHeader, name: &str) -> Vec<&'a str> {
        let values = req.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn who_the_visitor_is_we_say() {
        let req = request(&[
            ("Host", "a.fleeks.localhost:8443"),
            ("Origin", "https://a.fleeks.localhost:8443"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-For", "7.7.7.7"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("X-Forwarded-Anything", "x"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("X-Request-Id", "forged-by-visitor"),
            ("Authorization", "Bearer app"),
        ]);
        assert_eq!(all(&req, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(all(&req, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&req, "x-forwarded-host"), ["a.fleeks.localhost:8443"]);
        assert_eq!(all(&req, "x-request-id"), ["r-1234567"]);
        assert_eq!(
            all(&req, "forwarded"),
            ["for=192.0.2.7;host=\"a.fleeks.localhost:8443\";proto=https"]
        );
        assert_eq!(all(&req, "host"), ["a.fleeks.localhost:8443"]);
        assert_eq!(all(&req, "origin"), ["https://a.fleeks.localhost:8443"]);
        assert_eq!(all(&req, "authorization"), ["Bearer app"]);
        for name in ["x_forwarded_for", "x-forwarded-anything", "x-real-ip"] {
            assert!(all(&req, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn our_cookies_stay_with_us() {
        let cookie = "a=1; __Host-fleeks-share=secret; b=2";
        assert_eq!(all(&request(&[("Cookie", cookie)]), "cookie"), ["a=1; b=2"]);
        let split = request(&[
            ("Cookie", "a=1"),
            ("Cookie", "__host-FLEEKS=x"),
            ("Cookie", "b=2"),
        ]);
        assert_eq!(all(&split, "cookie"), ["a=1; b=2"]);
        assert!(all(&request(&[("Cookie", "__Host-fleeks=x")]), "cookie").is_empty());
        assert_eq!(
            all(&request(&[("Cookie", "a=1;b=2")]), "cookie"),
            ["a=1;b=2"]
        );
    }

    #[test]
    fn cookies_of_apps_stay_with_their_host() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for cookie in [
            "ok=1; Path=/",
            "own=1; Domain=workspace-abcdefgh27.fleeks.localhost",
            "elsewhere=1; Domain=example.com",
            "bad=1; Domain=fleeks.localhost",
            "bad=1; domain = .FLEEKS.localhost ; Secure",
            "bad=1; Domain=localhost",
            "bad=1; Domain=\"fleeks.localhost\"",
            "__Host-fleeks-share=1; Path=/",
            "plain=1; Domain=; HttpOnly",
        ] {
            response.append_header(SET_COOKIE, cookie).unwrap();
        }
        response.append_header("alt-svc", "h3=\":443\"").unwrap();
        scrub_response(&mut response, "fleeks.localhost").unwrap();
        let left: Vec<_> = response.headers.get_all(SET_COOKIE).iter().collect();
        let names: Vec<_> = left
            .iter()
            .map(|value| value.to_str().unwrap().split('=').next().unwrap())
            .collect();
        assert_eq!(names, ["ok", "own", "elsewhere", "plain"]);
        assert!(!response.headers.contains_key("alt-svc"));
    }

    proptest! {
        #[test]
        fn no_forged_name_passes(name in "[xX][-_][fF]orwarded[-_]([fF]or|HOST|proto|port)|[fF]orwarded|x_REAL_ip") {
            let forged = request(&[(&name, "forged")]);
            for value in forged.headers.values() {
                prop_assert_ne!(value.as_bytes(), b"forged");
            }
        }
    }
}
