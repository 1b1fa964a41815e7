//! The name of a request: in its answer's header, in errors, in logs.

use http::HeaderMap;
use rand::Rng as _;

/// Header of requests (set by the gateway) and of answers.
pub(crate) const HEADER: &str = "x-request-id";

/// The gateway's, if it is one; else a new one.
pub(crate) fn of(headers: &HeaderMap) -> String {
    let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
    match given.filter(|text| is_valid(text)) {
        Some(text) => text.to_owned(),
        None => format!("req_{:020x}", rand::rng().random::<u128>() >> 48),
    }
}

fn is_valid(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_ids_are_replaced() {
        let mut headers = HeaderMap::new();
        let minted = of(&headers);
        assert!(is_valid(&minted) && minted.len() == 24, "{minted}");
        for (text, kept) in [("abc-1", true), ("a b", false), ("<x>", false), ("", false)] {
            headers.insert(HEADER, text.parse().unwrap());
            assert_eq!(of(&headers) == text, kept, "{text}");
        }
        headers.insert(HEADER, "a".repeat(65).parse().unwrap());
        assert_eq!(of(&headers).len(), 24);
    }
}
