//! What is told while it happens: changes of files, a job's output. Here it gets its words and its
//! bounds; server-sent events carry it, and Socket.IO (which is the server's).
//!
//! Must never happen here: a stream that outlives its reader, a pattern without a bound.

pub mod patterns;
pub(crate) mod sse;
pub mod text;

use init_protocol::ChangeKind;
use pool_backend::workspaces::{Overflow, WatchEvent, What};
use serde_json::{Map, Value, json};

use crate::stamp::Stamp;

/// In the words of the SDK.
fn kind_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "created",
        ChangeKind::Modified => "modified",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Moved => "moved",
    }
}

/// In one word, and for people.
fn overflow_words(overflow: Overflow) -> (&'static str, &'static str) {
    match overflow {
        Overflow::Burst => ("burst", "more changed at once than could be told"),
        Overflow::Directories => (
            "directories",
            "there are more directories than are watched; those deepest down are not",
        ),
        Overflow::Asleep => (
            "asleep",
            "while the workspace fell asleep or woke something was deleted or renamed",
        ),
        Overflow::SlowReader => ("slow_reader", "events were read more slowly than they came"),
        Overflow::Forgotten => (
            "forgotten",
            "what came since Last-Event-ID is not remembered any more",
        ),
    }
}

/// What every stream says of an event: `event`, `timestamp`, and `path` or `reason`.
pub fn watch_event(event: &WatchEvent) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    match &event.what {
        What::Changed(change) => {
            set("event", kind_word(change.kind).into());
            set("path", change.path.as_str().into());
            if let Some(from) = &change.from {
                set("old_path", from.as_str().into());
            }
            set("is_directory", change.directory.into());
            if let Some(id) = change.write_id {
                set("write_id", id.into());
            }
        }
        What::Overflow(overflow) => {
            let (reason, detail) = overflow_words(*overflow);
            set("event", "overflow".into());
            set("reason", reason.into());
            set(
                "detail",
                format!("{detail}; look at the files again").into(),
            );
        }
    }
    set("timestamp", json!(Stamp(event.at)));
    fields
}
