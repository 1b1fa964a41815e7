//! The only map from what went wrong to what a visitor is told: kind, status, public text; HTML
//! for a person at a browser, JSON for everything else.
//!
//! Must never happen here: text from inside (addresses, paths, errors of libraries), or HTML where
//! a script or JSON was asked for.

use fleet::directory::DirectoryError;
use fleet::door::{ConnectError, NotListening};
use http::HeaderMap;
use http::header::ACCEPT;

use crate::classify::BadHost;
use crate::head::Fault;
use crate::page;

/// What kind of answer it is; a metric label and the JSON's `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Not HTTP as we read it.
    BadRequest,
    /// TRACE, CONNECT.
    MethodNotAllowed,
    /// An expectation other than 100-continue.
    ExpectationFailed,
    /// HTTP/2.0 in a request line, or older than 1.0.
    VersionNotSupported,
    /// 64 KiB or 100 fields.
    HeadersTooLarge,
    /// A host that our certificate does not cover.
    Misdirected,
    /// Our domain, but nothing there.
    NotFound,
    /// The head came too slowly.
    HeadTimeout,
    /// The body came too slowly.
    BodyTooSlow,
    /// Nothing listens where the visitor wants to go.
    NotListening,
    /// The app broke off or talked nonsense.
    AppFailed,
    /// The app is silent.
    AppTimeout,
    /// Only for who came by a share link.
    Private,
    /// Came by a share link: goes on without its token. Not an error.
    Shared,
    /// Asleep, and requests may not wake it.
    Asleep,
    /// It wakes; the page continues by itself.
    Waking,
    /// It did not wake within the deadline.
    WakeTimeout,
    /// Its last start failed.
    WakeFailed,
    /// Too many wait already.
    Busy,
    /// Directory or node cannot be asked.
    Unavailable,
    /// Our own mistake.
    Internal,
}

impl Kind {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Shared => 302,
            Self::BadRequest => 400,
            Self::Private => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::HeadTimeout | Self::BodyTooSlow => 408,
            Self::ExpectationFailed => 417,
            Self::Misdirected => 421,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::NotListening | Self::AppFailed => 502,
            Self::Asleep
            | Self::Waking
            | Self::WakeTimeout
            | Self::WakeFailed
            | Self::Busy
            | Self::Unavailable => 503,
            Self::AppTimeout => 504,
            Self::VersionNotSupported => 505,
        }
    }

    /// Its name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::VersionNotSupported => "version_not_supported",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Misdirected => "misdirected",
            Self::NotFound => "not_found",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTooSlow => "body_too_slow",
            Self::NotListening => "not_listening",
            Self::AppFailed => "app_failed",
            Self::AppTimeout => "app_timeout",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Asleep => "asleep",
            Self::Waking => "waking",
            Self::WakeTimeout => "wake_timeout",
            Self::WakeFailed => "wake_failed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Seconds after which a retry makes sense.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::Waking | Self::Unavailable => Some(1),
            Self::WakeTimeout | Self::Busy => Some(2),
            Self::WakeFailed => Some(5),
            _ => None,
        }
    }

    /// Whether what follows on the connection cannot be trusted to be a request.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::MethodNotAllowed
                | Self::ExpectationFailed
                | Self::VersionNotSupported
                | Self::HeadersTooLarge
                | Self::HeadTimeout
                | Self::BodyTooSlow
                | Self::Internal
        )
    }
}

/// A refusal, ready to be told.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// One sentence for the visitor.
    pub detail: String,
    /// Links for a person: (text, address).
    pub links: Vec<(String, String)>,
    /// Further header fields.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal without links.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            links: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Not without a share link.
    pub fn private() -> Self {
        Self::new(
            Kind::Private,
            "This preview is private. Open it with a share link from its owner.",
        )
    }

    /// No workspace has this address.
    pub fn no_workspace() -> Self {
        Self::new(Kind::NotFound, "There is no workspace at this address.")
    }

    /// Nothing listens; `link` makes the address of another port.
    pub fn not_listening(what: &NotListening, link: impl Fn(u16) -> String) -> Self {
        let asked = match what.port {
            Some(port) => format!("Nothing listens on port {port} of this workspace"),
            None => "Nothing listens in this workspace yet".to_owned(),
        };
        // A container can listen on thousands of ports; nobody reads more than a few.
        let shown = &what.listening[..what.listening.len().min(16)];
        let others = match shown {
            [] => String::new(),
            _ => {
                let list: Vec<_> = shown.iter().map(u16::to_string).collect();
                format!("; these ports do: {}", list.join(", "))
            }
        };
        Self {
            kind: Kind::NotListening,
            detail: format!(
                "{asked}{others}. Start the app so that it binds 0.0.0.0 or localhost."
            ),
            links: shown
                .iter()
                .map(|port| (format!("Port {port}"), link(*port)))
                .collect(),
            headers: Vec::new(),
        }
    }

    /// Its body and the headers that go with it.
    pub fn render(&self, format: Format, request_id: &str) -> Rendered {
        let (content_type, body) = match format {
            Format::Html => ("text/html; charset=utf-8", page::render(self, request_id)),
            Format::Json => (
                "application/json",
                serde_json::json!({
                    "detail": self.detail,
                    "error": self.kind.name(),
                    "request_id": request_id,
                })
                .to_string(),
            ),
        };
        let mut headers = vec![
            ("content-type", content_type.to_owned()),
            ("content-length", body.len().to_string()),
            ("cache-control", "no-store".to_owned()),
            ("x-request-id", request_id.to_owned()),
            ("x-fleeks-error", self.kind.name().to_owned()),
        ];
        if format == Format::Html {
            headers.push(("content-security-policy", page::POLICY.to_owned()));
            headers.push(("x-content-type-options", "nosniff".to_owned()));
            headers.push(("referrer-policy", "no-referrer".to_owned()));
        }
        headers.extend(self.headers.iter().cloned());
        if self.kind == Kind::Shared && format == Format::Json {
            headers.push(("referrer-policy", "no-referrer".to_owned()));
        }
        if let Some(seconds) = self.kind.retry_after() {
            headers.push(("retry-after", seconds.to_string()));
        }
        if self.kind == Kind::MethodNotAllowed {
            let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            headers.push(("allow", allow.to_owned()));
        }
        Rendered {
            status: self.kind.status(),
            headers,
            body,
        }
    }
}

/// A refusal as bytes to be.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// HTTP status.
    pub status: u16,
    /// Header fields; Content-Length among them.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// HTML or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person looks at it.
    Html,
    /// A machine reads it.
    Json,
}

impl Format {
    /// What a request asks for. A script's `fetch` says `Sec-Fetch-Mode: cors` or the like and
    /// gets JSON whatever its Accept is.
    pub fn of(headers: &HeaderMap) -> Self {
        let html = headers.get_all(ACCEPT).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|value| value.contains("text/html"))
        });
        match headers.get("sec-fetch-mode").map(|mode| mode.as_bytes()) {
            None if html => Self::Html,
            Some(b"navigate" | b"nested-navigate") => Self::Html,
            _ => Self::Json,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Malformed(_) => Kind::BadRequest,
            Fault::TooLarge => Kind::HeadersTooLarge,
            Fault::Method => Kind::MethodNotAllowed,
            Fault::Version => Kind::VersionNotSupported,
            Fault::Expectation => Kind::ExpectationFailed,
        };
        Self::new(kind, format!("The request was refused: {fault}."))
    }
}

impl From<BadHost> for Refusal {
    fn from(bad: BadHost) -> Self {
        let kind = match bad {
            BadHost::Empty | BadHost::Malformed => Kind::BadRequest,
            BadHost::NotCovered => Kind::Misdirected,
        };
        Self::new(kind, format!("The request was refused: {bad}."))
    }
}

impl From<DirectoryError> for Refusal {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Absent => Self::no_workspace(),
            DirectoryError::Unavailable(_)
            | DirectoryError::Taken(_)
            | DirectoryError::Superseded { .. } => Self::unavailable(),
        }
    }
}

impl Refusal {
    /// There is no connection to an app; `link` makes the address of another port.
    pub fn of_connect(failure: &ConnectError, link: impl Fn(u16) -> String) -> Self {
        match failure {
            ConnectError::NotListening(what) => Self::not_listening(what, link),
            ConnectError::TimedOut => Self::new(
                Kind::AppTimeout,
                "The workspace did not accept a connection in time.",
            ),
            ConnectError::Gone => Self::unavailable(),
        }
    }

    /// The node's HTTP listener does not answer.
    pub fn no_api() -> Self {
        Self::new(
            Kind::Unavailable,
            "The API cannot be reached at the moment; try again shortly.",
        )
    }

    /// Somebody whom we must ask does not answer.
    pub fn unavailable() -> Self {
        Self::new(
            Kind::Unavailable,
            "The workspace cannot be reached at the moment; try again shortly.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(fields: &[(&'static str, &'static str)]) -> Format {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Format::of(&headers)
    }

    #[test]
    fn html_is_for_people_only() {
        let accept = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        assert_eq!(format_of(&[accept]), Format::Html);
        assert_eq!(
            format_of(&[accept, ("sec-fetch-mode", "navigate")]),
            Format::Html
        );
        assert_eq!(
            format_of(&[accept, ("sec-fetch-mode", "cors")]),
            Format::Json
        );
        assert_eq!(format_of(&[("accept", "*/*")]), Format::Json);
        assert_eq!(format_of(&[]), Format::Json);
    }

    #[test]
    fn other_ports_are_named_and_linked() {
        let what = NotListening {
            port: Some(3000),
            listening: vec![5173, 8000],
        };
        let refusal = Refusal::not_listening(&what, |port| format!("//{port}--x"));
        assert!(refusal.detail.contains("port 3000"));
        assert!(refusal.detail.contains("these ports do: 5173, 8000"));
        let html = refusal.render(Format::Html, "r1").body;
        assert!(html.contains("href=\"//5173--x\""), "{html}");
        let json = refusal.render(Format::Json, "r1").body;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["request_id"], "r1");
        assert_eq!(json["error"], "not_listening");
    }

    #[test]
    fn text_is_escaped() {
        let refusal = Refusal::new(Kind::NotFound, "<script>\"&'");
        let html = refusal.render(Format::Html, "<b>").body;
        assert!(!html.contains("<script>\""), "{html}");
        assert!(!html.contains("<b>"), "{html}");
    }
}
