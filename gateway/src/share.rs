//! Who may see a private workspace: whoever shows the token of a share link, in the address once
//! and from then on in a cookie of that host alone. Pure.
//!
//! Must never happen here: a token that reaches an app, or an address to go on at that leads to
//! another host.

use fleet::id::{LinkId, Slug};
use fleet::record::Private;
use fleet::share::{Grant, ShareKey, TOKEN_MAX};
use http::HeaderMap;
use http::header::COOKIE;
use time::OffsetDateTime;

use crate::forward::cookies;
use crate::refusal::{Kind, Refusal};

/// The query's name for a token.
pub(crate) const PARAMETER: &str = "fleeks_share";
/// Begins our cookies' names; `forward` keeps all of `__Host-fleeks…` from apps.
const COOKIE_PREFIX: &str = "__Host-fleeks-share-";
/// Tokens of one request that are looked at.
const TOKENS_MAX: usize = 4;

/// What a visitor shows.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// From the query, with the address without it.
    pub link: Option<(String, String)>,
    /// From cookies.
    pub tokens: Vec<String>,
}

impl Shown {
    /// Of a request for `host` (with its port). `path` is path and query.
    pub fn of(headers: &HeaderMap, path: &str, host: &str, key: &ShareKey) -> Self {
        Self {
            link: take_token(path),
            tokens: tokens(headers, || cookie_name(host, key)),
        }
    }
}

/// The cookie of a host, unlike any other host's: browsers mix up ports, and people run more than
/// one platform.
fn cookie_name(host: &str, key: &ShareKey) -> String {
    format!("{COOKIE_PREFIX}{}", key.mark(host))
}

fn tokens(headers: &HeaderMap, name: impl Fn() -> String) -> Vec<String> {
    let ours = |cookie: &&[u8]| cookie.starts_with(COOKIE_PREFIX.as_bytes());
    let mut fields = headers.get_all(COOKIE).iter();
    if !fields.any(|field| cookies(field.as_bytes()).any(|cookie| ours(&cookie))) {
        return Vec::new();
    }
    let start = format!("{}=", name());
    let fields = headers.get_all(COOKIE).iter();
    let cookies = fields.flat_map(|field| cookies(field.as_bytes()));
    cookies
        .filter_map(|cookie| cookie.strip_prefix(start.as_bytes()))
        .filter(|token| token.len() <= TOKEN_MAX)
        .filter_map(|token| String::from_utf8(token.to_vec()).ok())
        .take(TOKENS_MAX)
        .collect()
}

/// The token in a query, and path and query without it.
fn take_token(path: &str) -> Option<(String, String)> {
    let (path, query) = path.split_once('?')?;
    let is_token = |part: &&str| {
        let rest = part.strip_prefix(PARAMETER);
        rest.is_some_and(|rest| rest.starts_with('='))
    };
    let token = query.split('&').find(is_token)?;
    let token = token.get(PARAMETER.len() + 1..)?.to_owned();
    let rest: Vec<&str> = query.split('&').filter(|part| !is_token(part)).collect();
    Some(match rest.is_empty() {
        true => (token, path.to_owned()),
        false => (token, format!("{path}?{}", rest.join("&"))),
    })
}

/// One port of one workspace, as a visitor asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub slug: &'a Slug,
    pub port: Option<u16>,
}

/// The links whose tokens we signed for this place and that are not over.
pub(crate) fn links(key: &ShareKey, place: Place<'_>, tokens: &[String]) -> Vec<LinkId> {
    let now = OffsetDateTime::now_utc();
    let grants = tokens
        .iter()
        .filter_map(|token| key.check(token, place.slug, place.port));
    grants
        .filter(|grant| grant.expires_at > now)
        .map(|grant| grant.link)
        .collect()
}

/// Whether one of them still counts.
pub(crate) fn opens(private: &Private, links: &[LinkId]) -> bool {
    links.iter().any(|link| private.links.contains(link))
}

/// What whoever opens a link is told: where to go on, with a cookie if it takes one.
pub(crate) fn redeem(
    key: &ShareKey,
    place: Place<'_>,
    private: Option<&Private>,
    (token, path): &(String, String),
    (tls, host): (bool, &str),
) -> Refusal {
    let on = |cookie: Option<String>| {
        let scheme = if tls { "https" } else { "http" };
        let mut on = Refusal::new(Kind::Shared, "Go on without the token.");
        // With the host: a path of `//elsewhere` alone would be an address.
        on.headers
            .push(("location", format!("{scheme}://{host}{path}")));
        on.headers
            .extend(cookie.map(|cookie| ("set-cookie", cookie)));
        on
    };
    let Some(private) = private else {
        return on(None);
    };
    let now = OffsetDateTime::now_utc();
    let grant = key.check(token, place.slug, place.port);
    let good = |grant: &Grant| grant.expires_at > now && private.links.contains(&grant.link);
    match grant.filter(good) {
        Some(grant) => {
            let name = cookie_name(host, key);
            let age = (grant.expires_at - now).whole_seconds().max(1);
            on(Some(format!(
                "{name}={token}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax"
            )))
        }
        None => Refusal::new(
            Kind::Private,
            "This share link is over, was revoked, or is for another address.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &str = "3000--workspace-abcdefgh27.fleeks.localhost:8443";

    fn key() -> ShareKey {
        ShareKey::from_bits(&[3; 32])
    }

    fn slug() -> Slug {
        "workspace-abcdefgh27".parse().unwrap()
    }

    fn grant(seconds: i64) -> Grant {
        Grant {
            link: LinkId::mint(),
            expires_at: OffsetDateTime::now_utc() + time::Duration::seconds(seconds),
        }
    }

    fn told(private: Option<&Private>, token: &str) -> Refusal {
        let slug = slug();
        let place = Place {
            slug: &slug,
            port: Some(3000),
        };
        let link = (token.to_owned(), "//evil.example/x?a=1".to_owned());
        redeem(&key(), place, private, &link, (true, HOST))
    }

    fn header<'a>(told: &'a Refusal, name: &str) -> Option<&'a str> {
        let mut headers = told.headers.iter();
        headers
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_link_becomes_a_cookie_of_its_host() {
        let grant = grant(100);
        let token = key().sign(&slug(), Some(3000), &grant);
        let links = vec![grant.link.clone()];
        let told = told(Some(&Private { links }), &token);
        assert_eq!(told.kind, Kind::Shared);
        let location = header(&told, "location").unwrap();
        assert_eq!(location, format!("https://{HOST}//evil.example/x?a=1"));
        let cookie = header(&told, "set-cookie").unwrap();
        assert!(cookie.starts_with("__Host-fleeks-share-"), "{cookie}");
        for part in ["; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.to_lowercase().contains("domain"), "{cookie}");
        // And is read back, among others.
        let mut headers = HeaderMap::new();
        let sent = format!("a=1; {}; b=2", cookie.split(';').next().unwrap());
        headers.append(COOKIE, sent.parse().unwrap());
        let shown = Shown::of(&headers, "/", HOST, &key());
        assert_eq!(shown.tokens, [token]);
        assert!(
            Shown::of(&headers, "/", "other:8443", &key())
                .tokens
                .is_empty()
        );
    }

    #[test]
    fn what_is_over_revoked_or_for_elsewhere_opens_nothing() {
        let (good, over) = (grant(100), grant(-1));
        let everything = Private {
            links: vec![good.link.clone(), over.link.clone()],
        };
        let revoked = Private::default();
        let token = |grant: &Grant, port| key().sign(&slug(), port, grant);
        for (private, token) in [
            (&everything, token(&over, Some(3000))),
            (&everything, token(&good, None)),
            (&everything, token(&good, Some(3001))),
            (&revoked, token(&good, Some(3000))),
            (&everything, "nonsense".to_owned()),
        ] {
            let told = told(Some(private), &token);
            assert_eq!(told.kind, Kind::Private);
            assert!(told.headers.is_empty());
        }
        // A public one takes no cookie, and the token goes all the same.
        let told = told(None, "nonsense");
        assert_eq!(
            (told.kind, header(&told, "set-cookie")),
            (Kind::Shared, None)
        );
    }

    #[test]
    fn the_token_is_taken_out_of_the_query() {
        let table = [
            ("/?fleeks_share=t", Some(("t", "/"))),
            ("/a?x=1&fleeks_share=t&y=2", Some(("t", "/a?x=1&y=2"))),
            ("/a?fleeks_share=t&fleeks_share=u", Some(("t", "/a"))),
            ("/a?fleeks_sharer=t", None),
            ("/a?x=fleeks_share=t", None),
            ("/fleeks_share=t", None),
            ("*", None),
        ];
        for (path, expected) in table {
            let expected = expected.map(|(token, rest)| (token.to_owned(), rest.to_owned()));
            assert_eq!(take_token(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_left(path in "/[a-z/]{0,8}\\?([a-z=]{0,5}&?|fleeks_share=[a-z]{0,3}&?){0,5}") {
            if let Some((_, rest)) = take_token(&path) {
                prop_assert!(take_token(&rest).is_none(), "{}", rest);
            }
        }
    }
}
