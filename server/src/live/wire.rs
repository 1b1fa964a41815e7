//! Names on the wire: the Python SDK spells with underscores, the TypeScript one in camel case, and
//! both look at the raw event. So each name is there twice.

use init_protocol::JobStatus;
use serde_json::{Map, Value};

/// The fields under both spellings.
pub(super) fn both(fields: Map<String, Value>) -> Map<String, Value> {
    let mut both = Map::new();
    for (name, value) in fields {
        let other = camel(&name);
        if other != name {
            both.insert(other, value.clone());
        }
        both.insert(name, value);
    }
    both
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// The first of these fields that is there.
pub(super) fn first<'a>(data: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| data.get(name))
}

/// Longest piece of output in one event, in bytes.
const PIECE: usize = 16 * 1024;

/// A text cut into pieces that are not too long; no letter is cut.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.floor_char_boundary(PIECE);
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Bytes of a value as JSON.
pub(super) fn size(value: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Values have no key that is not a text, and counting does not fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// As over HTTP.
pub(super) fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed | JobStatus::Stopped => "failed",
        JobStatus::Timeout => "timeout",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_cut_between_letters() {
        let text = "aü€🦀".repeat(5000);
        let all: Vec<_> = pieces(&text).collect();
        assert!(all.len() > 2 && all.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(all.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }

    #[test]
    fn sizes_are_those_of_the_text() {
        let value = json!({"a": "ü\u{0}\n", "b": [1, null]});
        assert_eq!(size(&value), value.to_string().len());
    }

    #[test]
    fn both_spellings_are_there() {
        let Value::Object(fields) = json!({"session_id": "s", "path": "p", "a_b_c": 1}) else {
            return;
        };
        let expected = json!({
            "session_id": "s", "sessionId": "s", "path": "p", "a_b_c": 1, "aBC": 1,
        });
        assert_eq!(Value::Object(both(fields)), expected);
    }
}
