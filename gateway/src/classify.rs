//! What a host name means. Pure.
//!
//! Hosts are compared in lower case: upper case is legal on the wire and means the same, so it is
//! lowered here and the lowered form is what apps get. A trailing dot is refused: it would be a
//! second spelling of one origin.
//!
//! Must never happen here: I/O, or a guess. What is not understood is refused.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use fleet::id::Slug;

/// Over which listener a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// TLS, from anywhere.
    Tls,
    /// The loopback HTTP listener.
    Plain,
}

/// A `Host` field or `:authority`, checked and in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// Name or address, without the port; IPv6 in brackets.
    pub name: Cow<'a, str>,
    /// The port, if given.
    pub port: Option<u16>,
}

impl Host<'_> {
    /// As it is passed on.
    pub fn to_field(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An app in a workspace; its main port unless one is named.
    Preview {
        /// Whose.
        slug: Slug,
        /// Which port.
        port: Option<u16>,
    },
    /// Embeds.
    Embed,
    /// The agent API, and the console beside it.
    Api,
    /// The domain itself.
    Apex,
    /// Nothing of ours has this name.
    Unknown,
}

/// Why a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHost {
    /// Nothing there.
    #[error("the Host field is empty")]
    Empty,
    /// Not a host name.
    #[error("the Host field is not a host name with an optional port")]
    Malformed,
    /// Our certificate does not cover it, so the request was meant for somebody else.
    #[error("this server does not answer for that host")]
    NotCovered,
}

/// Parses a `Host` field: DNS name, IPv4 or bracketed IPv6, then an optional port 1–65535.
pub(crate) fn parse_host(field: &[u8]) -> Result<Host<'_>, BadHost> {
    let text = std::str::from_utf8(field).map_err(|_| BadHost::Malformed)?;
    if text.is_empty() {
        return Err(BadHost::Empty);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(BadHost::Malformed)?;
        let address: Ipv6Addr = address.parse().map_err(|_| BadHost::Malformed)?;
        let port = match rest {
            "" => None,
            _ => Some(port(rest.strip_prefix(':').ok_or(BadHost::Malformed)?)?),
        };
        return Ok(Host {
            name: Cow::Owned(format!("[{address}]")),
            port,
        });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, digits)) => (name, Some(port(digits)?)),
        None => (text, None),
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(BadHost::Malformed);
    }
    let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    };
    Ok(Host { name, port })
}

/// 1–63 of letters, digits and inner hyphens. An empty label (`a..b`, `a.`) is none.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// 1–65535 in plain decimal digits without leading zeros: one spelling for each port.
fn port(digits: &str) -> Result<u16, BadHost> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(BadHost::Malformed),
    }
}

/// What `host` means on a platform with this `domain` (lower case).
pub(crate) fn classify(
    host: &Host<'_>,
    domain: &str,
    via: Via,
    forbidden_ports: &[u16],
) -> Result<Target, BadHost> {
    if via == Via::Plain && matches!(&*host.name, "127.0.0.1" | "localhost" | "[::1]") {
        return Ok(Target::Api);
    }
    if host.name == domain {
        return Ok(Target::Apex);
    }
    let label = host
        .name
        .strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix('.'));
    match label {
        // The certificate is for `domain` and `*.domain`: exactly one label more.
        Some(label) if !label.contains('.') => Ok(label_target(label, forbidden_ports)),
        _ if via == Via::Tls => Err(BadHost::NotCovered),
        _ => Ok(Target::Unknown),
    }
}

fn label_target(label: &str, forbidden_ports: &[u16]) -> Target {
    match label {
        "api" | "console" => return Target::Api,
        "embed" => return Target::Embed,
        _ => {}
    }
    let (number, slug) = match label.split_once("--") {
        Some((digits, slug)) => match port(digits) {
            Ok(number) if !forbidden_ports.contains(&number) => (Some(number), slug),
            _ => return Target::Unknown,
        },
        None => (None, label),
    };
    match slug.parse() {
        Ok(slug) => Target::Preview { slug, port: number },
        Err(_) => Target::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: &str = "fleeks.localhost";

    fn target(host: &str, via: Via) -> Result<Target, BadHost> {
        classify(&parse_host(host.as_bytes())?, DOMAIN, via, &[64999])
    }

    fn preview(slug: &str, port: Option<u16>) -> Result<Target, BadHost> {
        Ok(Target::Preview {
            slug: slug.parse().unwrap(),
            port,
        })
    }

    #[test]
    fn our_names() {
        let slug = "workspace-abcdefgh27";
        for via in [Via::Tls, Via::Plain] {
            let host = format!("{slug}.{DOMAIN}");
            assert_eq!(target(&host, via), preview(slug, None));
            assert_eq!(target(&format!("{host}:8443"), via), preview(slug, None));
            assert_eq!(target(&host.to_uppercase(), via), preview(slug, None));
            assert_eq!(
                target(&format!("3000--{host}"), via),
                preview(slug, Some(3000))
            );
            assert_eq!(target(&format!("api.{DOMAIN}"), via), Ok(Target::Api));
            let console = format!("console.{DOMAIN}:8443");
            assert_eq!(target(&console, via), Ok(Target::Api));
            assert_eq!(target(&format!("embed.{DOMAIN}"), via), Ok(Target::Embed));
            assert_eq!(target(DOMAIN, via), Ok(Target::Apex));
        }
    }

    #[test]
    fn names_that_lead_nowhere() {
        let slug = "workspace-abcdefgh27";
        for label in [
            "www",
            "workspace-abc",
            &format!("0--{slug}"),
            &format!("03000--{slug}"),
            &format!("65536--{slug}"),
            &format!("64999--{slug}"),
            &format!("a--{slug}"),
            &format!("3000--3000--{slug}"),
        ] {
            let host = format!("{label}.{DOMAIN}");
            assert_eq!(target(&host, Via::Tls), Ok(Target::Unknown), "{host}");
        }
    }

    #[test]
    fn names_of_others() {
        for host in [
            "example.com",
            "a.b.fleeks.localhost",
            "xfleeks.localhost",
            "127.0.0.1",
            "localhost",
            "[::1]:443",
        ] {
            assert_eq!(target(host, Via::Tls), Err(BadHost::NotCovered), "{host}");
        }
        assert_eq!(target("example.com", Via::Plain), Ok(Target::Unknown));
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]",
            "[0:0::1]:80",
        ] {
            assert_eq!(target(host, Via::Plain), Ok(Target::Api), "{host}");
        }
    }

    #[test]
    fn malformed() {
        assert_eq!(target("", Via::Tls), Err(BadHost::Empty));
        for host in [
            "fleeks.localhost.",
            ".fleeks.localhost",
            "a..b",
            "a:",
            "a:0",
            "a:080",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a/b",
            "u@a",
            "a b",
            "a_b.fleeks.localhost",
            "-a.fleeks.localhost",
            "a-.fleeks.localhost",
            "[::1",
            "[::1]80",
            "[zz]",
            "::1",
            "caf\u{e9}.fleeks.localhost",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert_eq!(target(host, Via::Tls), Err(BadHost::Malformed), "{host}");
        }
        assert_eq!(parse_host(b"\xff"), Err(BadHost::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_parses_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(host) = parse_host(&bytes) {
                let field = host.to_field();
                prop_assert!(field.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
                let again = parse_host(field.as_bytes());
                prop_assert_eq!(again.as_ref(), Ok(&host));
            }
        }

        #[test]
        fn a_preview_is_exactly_its_slug(text in "[a-z0-9.:-]{0,70}") {
            let host = format!("{text}.{DOMAIN}");
            if let Ok(Target::Preview { slug, port }) = target(&host, Via::Tls) {
                let label = match port {
                    Some(port) => format!("{port}--{slug}.{DOMAIN}"),
                    None => format!("{slug}.{DOMAIN}"),
                };
                prop_assert_eq!(label, host);
                prop_assert_ne!(port, Some(64999));
            }
        }
    }
}
