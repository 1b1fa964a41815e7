//! Server-sent events, as they come.
//!
//! Must never happen here: an event of unknown size in memory.

use hyper::body::Incoming;
use serde_json::Value;

use super::{ClientError, next_part};

/// Largest event that is taken.
const EVENT_MAX: usize = 4 << 20;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Where to go on after it.
    pub id: Option<String>,
    /// What it says.
    pub data: Value,
}

/// An answer that goes on.
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
        }
    }

    /// The next event; none at the answer's end.
    ///
    /// # Errors
    /// `Broken`, also for what is no event.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(end) = find(&self.buffer) {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&block)? {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.buffer.len() > EVENT_MAX {
                return Err(ClientError::Broken("an event is too large".to_owned()));
            }
            match next_part(&mut self.body).await? {
                Some(part) => self.buffer.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
    }
}

fn find(buffer: &[u8]) -> Option<usize> {
    buffer.windows(2).position(|pair| pair == b"\n\n")
}

/// None: a comment.
fn parse(block: &[u8]) -> Result<Option<Event>, ClientError> {
    let broken = || ClientError::Broken("it is not an event stream".to_owned());
    let text = std::str::from_utf8(block).map_err(|_| broken())?;
    let mut event = Event {
        name: "message".to_owned(),
        id: None,
        data: Value::Null,
    };
    let mut some = false;
    for line in text.lines().filter(|line| !line.starts_with(':')) {
        let (field, value) = line.split_once(": ").unwrap_or((line, ""));
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => {
                some = true;
                event.data = serde_json::from_str(value).map_err(|_| broken())?;
            }
            _ => {}
        }
    }
    Ok(some.then_some(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_told_from_comments() {
        let event = parse(b"event: change\nid: 1-2\ndata: {\"a\":1}\n\n").unwrap();
        let expected = Event {
            name: "change".to_owned(),
            id: Some("1-2".to_owned()),
            data: json!({"a": 1}),
        };
        assert_eq!(event, Some(expected));
        assert_eq!(parse(b": still here\n\n").unwrap(), None);
        assert!(parse(b"data: {\n\n").is_err());
        assert!(parse(b"data: \xff\n\n").is_err());
        assert_eq!(find(b"a\nb\n\nc"), Some(3));
    }
}
