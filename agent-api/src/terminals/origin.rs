//! Which pages may open a terminal: the console's own, and no other. A program that is no browser
//! sends no Origin. Pure.
//!
//! Must never happen here: a host name compared by its end.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};

/// Whether a websocket of this request may be opened. `domain` is the platform's.
pub(super) fn fits(headers: &HeaderMap, domain: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let text = |value: Option<&HeaderValue>| {
        value.and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    let (Some(origin), Some(host)) = (text(Some(origin)), text(headers.get(HOST))) else {
        return false;
    };
    let scheme = match text(headers.get("x-forwarded-proto")).as_deref() {
        Some("https") => "https",
        _ => "http",
    };
    origins.next().is_none() && is_console(&host, domain) && origin == format!("{scheme}://{host}")
}

/// `console.<domain>`, or this machine, with any port. The gateway passes hosts in lower case.
fn is_console(host: &str, domain: &str) -> bool {
    let port = |rest: &str| {
        rest.is_empty()
            || rest
                .strip_prefix(':')
                .is_some_and(|digits| digits.parse::<u16>().is_ok())
    };
    let console = format!("console.{domain}");
    ["localhost", "127.0.0.1", "[::1]", &console]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits_with(fields: &[(&'static str, &'static str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        fits(&headers, "fleeks.localhost")
    }

    #[test]
    fn only_the_console_of_this_very_host() {
        let https = ("x-forwarded-proto", "https");
        for (good, scheme, host, origin) in [
            (
                true,
                "https",
                "console.fleeks.localhost:8443",
                "https://console.fleeks.localhost:8443",
            ),
            (
                true,
                "https",
                "console.fleeks.localhost",
                "https://console.fleeks.localhost",
            ),
            (true, "http", "127.0.0.1:8080", "http://127.0.0.1:8080"),
            (true, "http", "localhost:8080", "http://localhost:8080"),
            (true, "http", "[::1]:8080", "http://[::1]:8080"),
            (false, "http", "127.0.0.1:8080", "https://127.0.0.1:8080"),
            (false, "http", "127.0.0.1:8080", "http://127.0.0.1:8081"),
            (false, "http", "127.0.0.1:8080", "http://localhost:8080"),
            (
                false,
                "https",
                "console.fleeks.localhost:8443",
                "https://console.fleeks.localhost:8443/",
            ),
            (
                false,
                "https",
                "console.fleeks.localhost:8443",
                "https://workspace-aaaaaaaaaa.fleeks.localhost:8443",
            ),
            (false, "https", "console.fleeks.localhost:8443", "null"),
            (
                false,
                "https",
                "api.fleeks.localhost",
                "https://api.fleeks.localhost",
            ),
            (
                false,
                "https",
                "api.fleeks.localhost",
                "https://console.fleeks.localhost",
            ),
            (
                false,
                "http",
                "127.0.0.1.evil.example",
                "http://127.0.0.1.evil.example",
            ),
            (
                false,
                "http",
                "localhost.evil.example",
                "http://localhost.evil.example",
            ),
            (
                false,
                "https",
                "console.fleeks.localhost.evil.example",
                "https://console.fleeks.localhost.evil.example",
            ),
        ] {
            let fields = [
                ("x-forwarded-proto", scheme),
                ("host", host),
                ("origin", origin),
            ];
            assert_eq!(fits_with(&fields), good, "{origin} at {host}");
        }
        assert!(fits_with(&[https, ("host", "api.fleeks.localhost")]));
        let console = "https://console.fleeks.localhost";
        let twice = [
            https,
            ("host", "console.fleeks.localhost"),
            ("origin", console),
            ("origin", console),
        ];
        assert!(!fits_with(&twice));
        assert!(!fits_with(&[https, ("origin", console)]));
    }
}
