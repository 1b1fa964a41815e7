//! Domain names, and which hosts a certificate's names cover. Pure.

use std::fmt;
use std::str::FromStr;

/// A DNS name in lower case that has room for our labels below it: `fleeks.localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain(String);

/// Why a text is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the domain {0}")]
pub struct InvalidDomain(&'static str);

impl Domain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names that our certificates are for. One label covers ports too: `3000--workspace-x.d`.
    pub fn names(&self) -> [String; 2] {
        [format!("*.{self}"), self.0.clone()]
    }
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        // The longest label below: a port, two dashes and a slug.
        const LONGEST: usize = 253 - 64;
        let text = text.to_ascii_lowercase();
        if text.len() > LONGEST {
            return Err(InvalidDomain("is too long"));
        }
        if !text.split('.').all(is_label) {
            return Err(InvalidDomain(
                "must be labels of a-z, 0-9 and '-' between dots, such as fleeks.localhost",
            ));
        }
        if !text.contains('.') {
            return Err(InvalidDomain(
                "needs a dot: browsers accept no wildcard directly below a top-level name",
            ));
        }
        if text
            .split('.')
            .all(|label| label.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(InvalidDomain("must not be an IP address"));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a certificate for `names` is valid for `host` (no port). A wildcard stands for exactly
/// one label. What is no plain DNS name (a trailing dot, an empty label, an address) is covered by
/// nothing.
pub fn covers(names: &[impl AsRef<str>], host: &str) -> bool {
    // Underscores are no hostname characters, but exist in DNS; a `*` must not match itself.
    let plain = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if !host.split('.').all(plain) {
        return false;
    }
    names.iter().map(AsRef::as_ref).any(|name| {
        match (name.strip_prefix("*."), host.split_once('.')) {
            (Some(parent), Some((_, rest))) => rest.eq_ignore_ascii_case(parent),
            (Some(_), None) => false,
            (None, _) => host.eq_ignore_ascii_case(name),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_exactly_one_label() {
        let names = "Fleeks.Localhost".parse::<Domain>().unwrap().names();
        assert_eq!(names, ["*.fleeks.localhost", "fleeks.localhost"]);
        for host in [
            "fleeks.localhost",
            "api.fleeks.localhost",
            "3000--workspace-abcdefghij.fleeks.localhost",
            "API.Fleeks.LOCALHOST",
        ] {
            assert!(covers(&names, host), "{host}");
        }
        for host in [
            "",
            ".",
            "localhost",
            ".fleeks.localhost",
            "fleeks.localhost.",
            "a.b.fleeks.localhost",
            "a..fleeks.localhost",
            "*.fleeks.localhost",
            "evilfleeks.localhost",
            "fleeks.localhost.evil",
            "api.fleeks.localhost:8443",
            "api.fleeks.localhost/",
            "user@fleeks.localhost",
            "a\0.fleeks.localhost",
            "é.fleeks.localhost",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(!covers(&names, host), "{host}");
        }
        assert!(!covers(&[] as &[&str], "fleeks.localhost"));
    }

    #[test]
    fn domains_are_plain_names_with_a_dot() {
        for text in [
            "fleeks.localhost",
            "fleeks.run",
            "a.b.c.example",
            "xn--4ca.test",
            "1.test",
        ] {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), text);
        }
        let long = format!("{}.test", vec!["a".repeat(60); 4].join("."));
        for text in [
            "",
            ".",
            "localhost",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.b",
            "a-.b",
            "a/b.c",
            "../a.b",
            "a b.c",
            "*.a.b",
            "a.b:1",
            "127.0.0.1",
            "é.test",
            "a\0.b",
            "a_b.test",
            long.as_str(),
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }
}
