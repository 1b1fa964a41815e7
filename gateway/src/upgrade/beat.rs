//! Heartbeats in text messages: signs of life that known libraries send by themselves. They are no
//! use of an app, and some of them are answered for an app that sleeps, lest the visitor's side
//! gives the connection up. Pure.
//!
//! | who | visitor says | app says | while asleep |
//! |---|---|---|---|
//! | Socket.IO 3, 4 (engine.io 4) | `3` | `2` | we ask `2` at the app's pace and keep the answers |
//! | Socket.IO 2 (engine.io 3) | `2` | `3` | answered |
//! | Phoenix, LiveView | `heartbeat` on `phoenix` | `phx_reply` | answered |
//! | SignalR | `{"type":6}` | the same | answered |
//! | Vite, graphql-ws | `{"type":"ping"}` | `{"type":"pong"}` | kept from the app; graphql's answered |
//! | Next.js | `{"event":"ping"…}` | `pong` | kept from the app |
//! | SockJS (webpack), Action Cable | | `h`, `{"type":"ping"…}` | |
//!
//! Compressed messages are not looked into, so their heartbeats count as use.
//!
//! Must never happen here: a message taken for a heartbeat that a person may have typed.

use std::time::Duration;

use serde_json::{Value, json};

use super::frame::Peek;

/// What engine.io's servers do unless told otherwise.
const ENGINE_INTERVAL: Duration = Duration::from_secs(25);
/// No server is believed to want them more often.
const ENGINE_SHORTEST: Duration = Duration::from_secs(1);
/// The end of a SignalR message.
const RECORD: &str = "\u{1e}";

/// Which heartbeats a connection may have, as its handshake told.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    engine: Option<Engine>,
    graphql: bool,
}

#[derive(Debug)]
struct Engine {
    /// The server asks and the client answers; before version 4 it was the other way round.
    server_asks: bool,
    interval: Duration,
}

/// A visitor's heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The answer to one of the app's, or of ours.
    Reply,
    /// A question; while the app sleeps, it gets this answer.
    Ask(Option<Vec<u8>>),
}

impl Beats {
    /// From the request's target and the subprotocol that the app chose.
    pub fn of(target: &str, protocol: Option<&str>) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let version = query.split('&').find_map(|pair| pair.strip_prefix("EIO="));
        Self {
            engine: version.map(|version| Engine {
                server_asks: !matches!(version, "1" | "2" | "3"),
                interval: ENGINE_INTERVAL,
            }),
            graphql: protocol.is_some_and(|protocol| protocol.starts_with("graphql")),
        }
    }

    /// How often the app asks its visitors for a sign of life, if they leave without that.
    pub fn interval(&self) -> Option<Duration> {
        let engine = self.engine.as_ref()?;
        engine.server_asks.then_some(engine.interval)
    }

    /// What the app asks.
    pub fn question(&self) -> &'static [u8] {
        b"2"
    }

    /// A text message of the visitor, if it is a heartbeat.
    pub fn of_visitor(&self, peek: &Peek) -> Option<Beat> {
        let text = peek.bytes();
        match (&self.engine, text) {
            (Some(engine), b"3") if engine.server_asks => return Some(Beat::Reply),
            (Some(engine), b"2") if !engine.server_asks => {
                return Some(Beat::Ask(Some(b"3".to_vec())));
            }
            _ => {}
        }
        // Next.js tells the page's whole tree along with it.
        if text.starts_with(br#"{"event":"ping""#) {
            return Some(Beat::Ask(None));
        }
        if !peek.whole {
            return None;
        }
        match text {
            br#"{"type":"ping"}"# if self.graphql => {
                return Some(Beat::Ask(Some(br#"{"type":"pong"}"#.to_vec())));
            }
            br#"{"type":"ping"}"# => return Some(Beat::Ask(None)),
            br#"{"type":"pong"}"# => return Some(Beat::Reply),
            [text @ .., 0x1e] if text == br#"{"type":6}"# => {
                let answer = format!("{{\"type\":6}}{RECORD}");
                return Some(Beat::Ask(Some(answer.into_bytes())));
            }
            _ => {}
        }
        let answer = phoenix(text)?;
        Some(Beat::Ask(Some(answer.to_string().into_bytes())))
    }

    /// Whether a text message of the app is a heartbeat.
    pub fn of_app(&mut self, peek: &Peek) -> bool {
        let text = peek.bytes();
        if let Some(engine) = &mut self.engine {
            if let Some(interval) = announced_interval(text) {
                engine.interval = interval.max(ENGINE_SHORTEST);
            }
            if matches!(text, b"2" | b"3") {
                return true;
            }
        }
        let starts = [
            &br#"{"type":"ping""#[..],
            br#"{"type":"pong"}"#,
            br#"{"type":6}"#,
            br#"{"event":"pong""#,
            br#"{"action":"pong""#,
        ];
        text == b"h"
            || starts.iter().any(|start| text.starts_with(start))
            || contains(text, br#""phoenix","phx_reply""#)
    }

    /// Whether this message of the app asks for a sign of life.
    pub fn is_question(&self, peek: &Peek) -> bool {
        self.interval().is_some() && peek.bytes() == self.question()
    }
}

/// engine.io's first packet: `0{"sid":…,"pingInterval":25000,…}`.
fn announced_interval(text: &[u8]) -> Option<Duration> {
    const NAME: &[u8] = b"\"pingInterval\":";
    if !text.starts_with(b"0{") {
        return None;
    }
    let at = text.windows(NAME.len()).position(|window| window == NAME)?;
    let digits = text.get(at + NAME.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let millis = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// The answer to a heartbeat of Phoenix, in both of its spellings.
fn phoenix(text: &[u8]) -> Option<Value> {
    if !contains(text, b"\"heartbeat\"") || !contains(text, b"\"phoenix\"") {
        return None;
    }
    let response = json!({"status": "ok", "response": {}});
    match serde_json::from_slice(text).ok()? {
        Value::Array(fields) => match &fields[..] {
            [join, reference, topic, event, _] if topic == "phoenix" && event == "heartbeat" => {
                Some(json!([join, reference, "phoenix", "phx_reply", response]))
            }
            _ => None,
        },
        Value::Object(fields) => {
            let is = |name: &str, value: &str| fields.get(name).is_some_and(|is| is == value);
            (is("topic", "phoenix") && is("event", "heartbeat")).then(|| {
                json!({
                    "topic": "phoenix", "event": "phx_reply", "ref": fields.get("ref"),
                    "payload": response,
                })
            })
        }
        _ => None,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frames, Kind, Part, encode};
    use super::*;

    fn peek(text: &str) -> Peek {
        let bytes = encode(Kind::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        let mut frames = Frames::default();
        match frames.next(&mut &bytes[..]) {
            Some(Part::Begin(frame)) => frame.peek(),
            other => panic!("{other:?}"),
        }
    }

    fn asks(beats: &Beats, text: &str) -> Option<Option<String>> {
        match beats.of_visitor(&peek(text))? {
            Beat::Ask(answer) => Some(answer.map(|answer| String::from_utf8(answer).unwrap())),
            Beat::Reply => None,
        }
    }

    #[test]
    fn socket_io_is_told_by_its_handshake() {
        let four = Beats::of("/socket.io/?EIO=4&transport=websocket", None);
        assert_eq!(four.of_visitor(&peek("3")), Some(Beat::Reply));
        assert_eq!(four.of_visitor(&peek("2")), None);
        assert_eq!(four.of_visitor(&peek("42[\"chat\",\"3\"]")), None);
        assert_eq!(four.interval(), Some(ENGINE_INTERVAL));
        let three = Beats::of("/socket.io/?transport=websocket&EIO=3", None);
        assert_eq!(asks(&three, "2"), Some(Some("3".to_owned())));
        assert_eq!(three.interval(), None);
        // Somebody may have typed it.
        let plain = Beats::of("/chat?x=EIO", None);
        for typed in ["2", "3", "ping", "h"] {
            assert_eq!(plain.of_visitor(&peek(typed)), None, "{typed}");
        }
    }

    #[test]
    fn the_servers_pace_is_heard() {
        let mut beats = Beats::of("/socket.io/?EIO=4", None);
        let open = "0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[],\"pingInterval\":9000,\"pingTimeout\":5000}";
        assert!(!beats.of_app(&peek(open)));
        assert_eq!(beats.interval(), Some(Duration::from_secs(9)));
        assert!(beats.of_app(&peek("2")) && beats.is_question(&peek("2")));
        assert!(!beats.is_question(&peek("3")));
        assert!(!beats.of_app(&peek("42[\"2\"]")));
        assert!(!beats.of_app(&peek("0{\"pingInterval\":0,\"x\":1}")));
        assert_eq!(beats.interval(), Some(ENGINE_SHORTEST));
    }

    #[test]
    fn dev_servers_and_frameworks() {
        let mut beats = Beats::default();
        assert_eq!(asks(&beats, r#"{"type":"ping"}"#), Some(None));
        assert_eq!(
            asks(&beats, r#"{"event":"ping","tree":["",{"children":1}]}"#),
            Some(None)
        );
        assert_eq!(
            asks(&beats, "{\"type\":6}\u{1e}"),
            Some(Some("{\"type\":6}\u{1e}".to_owned()))
        );
        assert_eq!(
            asks(&beats, r#"[null,"7","phoenix","heartbeat",{}]"#),
            Some(Some(
                r#"[null,"7","phoenix","phx_reply",{"response":{},"status":"ok"}]"#.to_owned()
            ))
        );
        let old = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"7"}"#;
        let answer: Value = serde_json::from_str(&asks(&beats, old).unwrap().unwrap()).unwrap();
        assert_eq!(
            (&answer["ref"], &answer["event"]),
            (&json!("7"), &json!("phx_reply"))
        );
        let graphql = Beats::of("/graphql", Some("graphql-transport-ws"));
        assert_eq!(
            asks(&graphql, r#"{"type":"ping"}"#),
            Some(Some(r#"{"type":"pong"}"#.to_owned()))
        );
        for data in [
            r#"{"type":"ping","text":"are you there?"}"#,
            r#"["1","2","room:1","heartbeat",{}]"#,
            r#"["1","2","room:phoenix","heartbeat",{}]"#,
            r#"{"type":"subscribe"}"#,
        ] {
            assert_eq!(beats.of_visitor(&peek(data)), None, "{data}");
        }
        for beat in [
            "h",
            r#"{"type":"ping","message":1763860000}"#,
            r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        ] {
            assert!(beats.of_app(&peek(beat)), "{beat}");
        }
        for data in ["hello", r#"{"type":"update"}"#, "a[\"x\"]"] {
            assert!(!beats.of_app(&peek(data)), "{data}");
        }
    }
}
