//! What a request needs a key to be good for. Pure.
//!
//! Must never happen here: a new way to run something that counts as a look. What is not known is
//! a change.

use fleet::record::Scope;
use http::{HeaderMap, Method, header};

/// None: any valid key will do.
pub(crate) fn needed(method: &Method, path: &str, headers: &HeaderMap) -> Option<Scope> {
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
    // A shell is opened with a GET.
    if headers.contains_key(header::UPGRADE) {
        return Some(Scope::Exec);
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
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

/// Whether the key may come later than the head: in the first message of a terminal's websocket,
/// where a browser can send no header of its own.
pub(crate) fn key_may_follow(path: &str, headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && path.starts_with("/api/v1/sdk/workspaces/")
        && path.ends_with("/ws")
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
            ("PATCH", "/api/v1/unknown", Some(Scope::Write)),
        ];
        for (method, path, scope) in table {
            let method = method.parse().unwrap();
            assert_eq!(
                needed(&method, path, &HeaderMap::new()),
                scope,
                "{method} {path}"
            );
        }
        let mut shell = HeaderMap::new();
        shell.insert(header::UPGRADE, "websocket".parse().unwrap());
        assert_eq!(needed(&Method::GET, "/any", &shell), Some(Scope::Exec));
    }
}
