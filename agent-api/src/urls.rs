//! How the world reaches what runs here: the URLs that answers carry.
//!
//! Must never happen here: a URL made of what a client sent.

use fleet::id::Slug;

/// Where the gateway is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrls {
    /// Suffix of every host, e.g. `fleeks.localhost`.
    pub domain: String,
    /// TLS in front (ours or a proxy's).
    pub https: bool,
    /// Port of returned URLs; the scheme's own is left out.
    pub port: u16,
    /// Port of the loopback HTTP listener, for URLs without certificate warnings.
    pub loopback_http_port: Option<u16>,
}

impl PublicUrls {
    /// Where a workspace's main port is shown.
    pub fn preview(&self, slug: &Slug) -> String {
        self.preview_at(slug, None)
    }

    /// Where one of its ports is shown; none: the main one.
    pub fn preview_at(&self, slug: &Slug, port: Option<u16>) -> String {
        let scheme = if self.https { "https" } else { "http" };
        self.url(scheme, &label(slug, port))
    }

    /// The same for websockets.
    pub fn websocket(&self, slug: &Slug) -> String {
        self.websocket_at(slug, None)
    }

    /// The same for websockets.
    pub fn websocket_at(&self, slug: &Slug, port: Option<u16>) -> String {
        let scheme = if self.https { "wss" } else { "ws" };
        self.url(scheme, &label(slug, port))
    }

    /// The warning-free twin on this machine.
    pub fn preview_http(&self, slug: &Slug) -> Option<String> {
        self.preview_http_at(slug, None)
    }

    /// The warning-free twin of one port.
    pub fn preview_http_at(&self, slug: &Slug, port: Option<u16>) -> Option<String> {
        let outer = self.loopback_http_port?;
        let host = format!("{}.{}", label(slug, port), self.domain);
        Some(match outer {
            80 => format!("http://{host}"),
            _ => format!("http://{host}:{outer}"),
        })
    }

    /// Where this API is.
    pub fn api(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        self.url(scheme, "api")
    }

    fn url(&self, scheme: &str, label: &str) -> String {
        let own_port = if self.https { 443 } else { 80 };
        if self.port == own_port {
            format!("{scheme}://{label}.{}", self.domain)
        } else {
            format!("{scheme}://{label}.{}:{}", self.domain, self.port)
        }
    }
}

fn label(slug: &Slug, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("{port}--{slug}"),
        None => slug.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_unless_the_scheme_implies_them() {
        let slug: Slug = "workspace-abcdefghij".parse().unwrap();
        let mut urls = PublicUrls {
            domain: "fleeks.localhost".to_owned(),
            https: true,
            port: 8443,
            loopback_http_port: Some(8080),
        };
        assert_eq!(
            urls.preview(&slug),
            "https://workspace-abcdefghij.fleeks.localhost:8443"
        );
        assert_eq!(
            urls.websocket(&slug),
            "wss://workspace-abcdefghij.fleeks.localhost:8443"
        );
        assert_eq!(
            urls.preview_http(&slug).unwrap(),
            "http://workspace-abcdefghij.fleeks.localhost:8080"
        );
        assert_eq!(
            urls.preview_at(&slug, Some(3000)),
            "https://3000--workspace-abcdefghij.fleeks.localhost:8443"
        );
        urls.port = 443;
        urls.loopback_http_port = None;
        assert_eq!(
            urls.preview(&slug),
            "https://workspace-abcdefghij.fleeks.localhost"
        );
        assert_eq!(urls.preview_http(&slug), None);
        urls.https = false;
        assert_eq!(urls.api(), "http://api.fleeks.localhost:443");
    }
}
