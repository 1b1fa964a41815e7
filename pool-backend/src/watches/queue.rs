//! What one reader has not read yet.
//!
//! Must never happen here: growth. Who reads too slowly misses what comes, and is told so.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::{Event, Hub, Overflow, Position, What};

/// Events that wait for a reader.
pub const MAX_EVENTS: usize = 4096;
/// Bytes of paths of those.
const MAX_TEXT: usize = 1024 * 1024;

/// What a reader wants to hear of.
pub type Filter = Box<dyn Fn(&init_protocol::Change) -> bool + Send + Sync>;

/// See the module.
pub(super) struct Queue {
    filter: Filter,
    inner: Mutex<Inner>,
    grown: Notify,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    text: usize,
    /// The last one that there was no room for.
    lost: Option<(u64, OffsetDateTime)>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(filter: Filter) -> Arc<Self> {
        Arc::new(Self {
            filter,
            inner: Mutex::default(),
            grown: Notify::new(),
        })
    }

    pub(super) fn push(&self, event: &Event) {
        let text = match &event.what {
            What::Changed(change) if !(self.filter)(change) => return,
            What::Changed(change) => {
                change.path.len() + change.from.as_ref().map_or(0, String::len)
            }
            What::Overflow(_) => 0,
        };
        let mut inner = self.inner.lock();
        // Once something is missing nothing follows before that was said.
        let full = inner.events.len() >= MAX_EVENTS || inner.text + text > MAX_TEXT;
        if full || inner.lost.is_some() {
            inner.lost = Some((event.number, event.at));
        } else {
            inner.text += text;
            inner.events.push_back(event.clone());
        }
        drop(inner);
        self.grown.notify_one();
    }

    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.grown.notify_one();
    }

    /// `Err`: nothing now. `Ok(None)`: nothing ever.
    pub(super) fn pop(&self) -> Result<Option<Event>, ()> {
        let mut inner = self.inner.lock();
        if let Some(event) = inner.events.pop_front() {
            if let What::Changed(change) = &event.what {
                let text = change.path.len() + change.from.as_ref().map_or(0, String::len);
                inner.text = inner.text.saturating_sub(text);
            }
            return Ok(Some(event));
        }
        if let Some((number, at)) = inner.lost.take() {
            let what = What::Overflow(Overflow::SlowReader);
            return Ok(Some(Event { number, at, what }));
        }
        if inner.closed { Ok(None) } else { Err(()) }
    }
}

/// A watch of a workspace's files; it ends on drop. It keeps nothing awake.
pub struct Watch {
    queue: Arc<Queue>,
    begins: Position,
    hub: Arc<Hub>,
}

impl Watch {
    pub(super) fn new(queue: Arc<Queue>, begins: Position, hub: Arc<Hub>) -> Self {
        Self { queue, begins, hub }
    }

    /// Where it begins.
    pub fn begins(&self) -> Position {
        self.begins
    }

    /// The next event; none when there will be no more: the workspace was deleted, or this node
    /// shuts down. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.queue.pop() {
                Ok(event) => return event,
                Err(()) => self.queue.grown.notified().await,
            }
        }
    }

    /// The next event if it is there already.
    pub fn ready(&mut self) -> Option<Event> {
        self.queue.pop().ok().flatten()
    }

    /// Where a reader stands after this event, for [`super::super::workspaces::Workspace::watch`].
    pub fn position(&self, event: &Event) -> Position {
        Position {
            epoch: self.begins.epoch,
            number: event.number,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.leaves();
    }
}

#[cfg(test)]
mod tests {
    use init_protocol::{Change, ChangeKind};

    use super::*;

    fn event(number: u64, path: &str) -> Event {
        Event {
            number,
            at: OffsetDateTime::UNIX_EPOCH,
            what: What::Changed(Change {
                kind: ChangeKind::Created,
                path: path.to_owned(),
                from: None,
                directory: false,
                write_id: None,
            }),
        }
    }

    #[test]
    fn who_reads_slowly_hears_that_some_is_missing_and_goes_on_after_it() {
        let queue = Queue::new(Box::new(|change| change.path != "unwanted"));
        queue.push(&event(1, "unwanted"));
        assert!(queue.pop().is_err());
        let count = MAX_EVENTS as u64;
        for number in 1..=count + 5 {
            queue.push(&event(number, "a"));
        }
        for number in 1..=count {
            assert_eq!(queue.pop().unwrap().unwrap(), event(number, "a"));
        }
        // Nothing comes in between.
        queue.push(&event(count + 6, "b"));
        let lost = queue.pop().unwrap().unwrap();
        let slow = What::Overflow(Overflow::SlowReader);
        assert_eq!((lost.number, lost.what), (count + 6, slow));
        queue.push(&event(count + 7, "c"));
        assert_eq!(queue.pop().unwrap().unwrap(), event(count + 7, "c"));
        queue.close();
        assert_eq!(queue.pop(), Ok(None));
    }

    #[test]
    fn long_paths_fill_it_too() {
        let queue = Queue::new(Box::new(|_| true));
        let long = "x".repeat(4000);
        for number in 0..1000 {
            queue.push(&event(number, &long));
        }
        let mut count = 0;
        while matches!(
            queue.pop(),
            Ok(Some(Event {
                what: What::Changed(_),
                ..
            }))
        ) {
            count += 1;
        }
        assert_eq!(count, MAX_TEXT / 4000);
    }
}
