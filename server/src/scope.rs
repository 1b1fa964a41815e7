//! What a request needs a key to be good for. Pure.
//!
//! Must never happen here: a new way to run something that counts as a look. What is not known is
//! a change.

use fleet::record::Scope;
use http::{HeaderMap, Method, header};

/// None: any valid key will do.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Scope> {
    let path = path.trim_end_matches('/');
    let own = [
        "/api/v1/sdk/auth/key-info",
        "/api/v1/auth/me",
        "/api/v1/sdk/usage/stats",
        "/api/v1/billing/usage",
    ];
    if own.contains(&path) {
        return None;
    }
    if path.starts_with("/api/v1/keys") || path.starts_with("/api/v1/owners") {
        return Some(Scope::Keys);
    }
    let look = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // Looking at a terminal is a read, but to sit at one, which begins with a GET.
    if let Some(terminal) = terminals(path) {
        let sits = terminal.ends_with("/ws");
        return Some(if look && !sits {
            Scope::Read
        } else {
            Scope::Exec
        });
    }
    if look {
        return Some(Scope::Read);
    }
    let previews = path.strip_prefix("/api/v1/preview/sessions/");
    if previews.is_some_and(|rest| rest.ends_with("/detect")) && *method == Method::POST {
        return Some(Scope::Read);
    }
    let container = path.strip_prefix("/api/v1/sdk/containers/");
    let runs = path.starts_with("/api/v1/sdk/terminal/")
        || container.is_some_and(|rest| rest.ends_with("/exec"))
        || previews.is_some();
    Some(if runs { Scope::Exec } else { Scope::Write })
}

/// What a path names below a workspace's terminals, if it is one of those.
fn terminals(path: &str) -> Option<&str> {
    let below = path.strip_prefix("/api/v1/sdk/workspaces/")?;
    let (_, rest) = below.split_once('/')?;
    let rest = rest.strip_prefix("terminals")?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Whether the key may come later than the head: in the first message of a terminal's websocket,
/// where a browser can send no header of its own.
pub(crate) fn key_may_follow(path: &str, headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && terminals(path).is_some_and(|terminal| terminal.ends_with("/ws"))
}

/// A scope in words.
pub(crate) fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Exec => "exec",
        Scope::Keys => "keys",
    }
}

/// The scope of a word.
pub(crate) fn parse(word: &str) -> Option<Scope> {
    let all = [Scope::Read, Scope::Write, Scope::Exec, Scope::Keys];
    all.into_iter().find(|scope| self::word(*scope) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_need() {
        let table = [
            ("GET", "/api/v1/sdk/workspaces", Some(Scope::Read)),
            ("POST", "/api/v1/sdk/workspaces", Some(Scope::Write)),
            ("DELETE", "/api/v1/sdk/workspaces/x", Some(Scope::Write)),
            ("GET", "/api/v1/sdk/files/x/content", Some(Scope::Read)),
            ("POST", "/api/v1/sdk/files/exec", Some(Scope::Write)),
            ("POST", "/api/v1/sdk/terminal/execute", Some(Scope::Exec)),
            ("DELETE", "/api/v1/sdk/terminal/jobs/x", Some(Scope::Exec)),
            ("GET", "/api/v1/sdk/terminal/jobs", Some(Scope::Read)),
            ("POST", "/api/v1/sdk/containers/c/exec", Some(Scope::Exec)),
            (
                "POST",
                "/api/v1/sdk/containers/c/hibernate",
                Some(Scope::Write),
            ),
            (
                "POST",
                "/api/v1/preview/sessions/x/start",
                Some(Scope::Exec),
            ),
            (
                "POST",
                "/api/v1/preview/sessions/x/detect",
                Some(Scope::Read),
            ),
            ("DELETE", "/api/v1/preview/sessions/x", Some(Scope::Exec)),
            ("GET", "/api/v1/keys", Some(Scope::Keys)),
            ("PUT", "/api/v1/owners/x/quota", Some(Scope::Keys)),
            ("GET", "/api/v1/sdk/auth/key-info", None),
            (
                "POST",
                "/api/v1/sdk/workspaces/x/terminals",
                Some(Scope::Exec),
            ),
            (
                "POST",
                "/api/v1/sdk/workspaces/x/terminals/",
                Some(Scope::Exec),
            ),
            (
                "GET",
                "/api/v1/sdk/workspaces/x/terminals",
                Some(Scope::Read),
            ),
            (
                "DELETE",
                "/api/v1/sdk/workspaces/x/terminals/t",
                Some(Scope::Exec),
            ),
            (
                "GET",
                "/api/v1/sdk/workspaces/x/terminals/t/ws",
                Some(Scope::Exec),
            ),
            (
                "DELETE",
                "/api/v1/sdk/workspaces/terminals",
                Some(Scope::Write),
            ),
            ("PATCH", "/api/v1/unknown", Some(Scope::Write)),
        ];
        for (method, path, scope) in table {
            let method = method.parse().unwrap();
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
    }

    #[test]
    fn a_key_may_follow_to_a_terminal_only() {
        let mut upgrade = HeaderMap::new();
        let terminal = "/api/v1/sdk/workspaces/x/terminals/t/ws";
        assert!(!key_may_follow(terminal, &upgrade));
        upgrade.insert(header::UPGRADE, "websocket".parse().unwrap());
        assert!(key_may_follow(terminal, &upgrade));
        for other in [
            "/api/v1/sdk/workspaces/x/ws",
            "/api/v1/sdk/workspaces/x/terminals/t",
            "/api/v1/sdk/files/x/content",
        ] {
            assert!(!key_may_follow(other, &upgrade), "{other}");
        }
    }
}
