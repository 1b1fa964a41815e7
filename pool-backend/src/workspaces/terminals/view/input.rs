//! What a viewer typed, until init has it: sent once over each connection, and again over the next
//! what did not arrive. Pure.
//!
//! Must never happen here: a byte typed twice or lost, or room given back before its byte arrived.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

/// Input, and the room that it takes until init has it. Bounded by that.
pub(super) struct Key {
    pub(super) bytes: Bytes,
    pub(super) room: OwnedSemaphorePermit,
}

/// What was typed and is not known to have arrived.
#[derive(Default)]
pub(super) struct Input {
    kept: VecDeque<Key>,
    /// The number of the first byte kept.
    begins: u64,
    /// The number of the first byte that was not sent over this connection.
    unsent: u64,
    /// The number of the next byte.
    ends: u64,
}

impl Input {
    pub(super) fn push(&mut self, key: Key) {
        self.ends += key.bytes.len() as u64;
        self.kept.push_back(key);
    }

    /// All has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many bytes have been sent, ever.
    pub(super) fn sent(&self) -> u64 {
        self.unsent
    }

    pub(super) fn is_sent(&self) -> bool {
        self.unsent >= self.ends
    }

    /// So many bytes have arrived, ever.
    pub(super) fn arrived(&mut self, total: u64) {
        while self.begins < total
            && let Some(key) = self.kept.front_mut()
        {
            let count = usize::try_from(total - self.begins).unwrap_or(usize::MAX);
            let count = count.min(key.bytes.len());
            key.bytes.advance(count);
            self.begins += count as u64;
            drop(key.room.split(count));
            if key.bytes.is_empty() {
                self.kept.pop_front();
            }
        }
        self.unsent = self.unsent.max(self.begins);
    }

    /// A new connection, at whose end so many bytes have arrived before.
    pub(super) fn again(&mut self, total: u64) {
        self.arrived(total);
        // Init has forgotten us, and counts anew.
        let forgotten = self.begins.saturating_sub(total);
        self.begins -= forgotten;
        self.ends -= forgotten;
        self.unsent = self.begins;
    }

    /// All that was not sent over this connection; it counts as sent then.
    pub(super) fn take_unsent(&mut self) -> BytesMut {
        let mut skip = usize::try_from(self.unsent - self.begins).unwrap_or(usize::MAX);
        let mut unsent = BytesMut::new();
        for key in &self.kept {
            let from = skip.min(key.bytes.len());
            unsent.extend_from_slice(&key.bytes[from..]);
            skip -= from;
        }
        self.unsent = self.ends;
        unsent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    fn key(text: &[u8], room: &Arc<Semaphore>) -> Key {
        let wanted = u32::try_from(text.len()).unwrap();
        let room = Arc::clone(room).try_acquire_many_owned(wanted).unwrap();
        Key {
            bytes: Bytes::copy_from_slice(text),
            room,
        }
    }

    proptest! {
        /// However connections break, and wherever init was then, it gets each byte once.
        #[test]
        fn input_arrives_once_and_in_order(
            steps in prop::collection::vec((0usize..4, 1usize..40), 1..60),
        ) {
            let room = Arc::new(Semaphore::new(10_000));
            let mut input = Input::default();
            let (mut typed, mut wire, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
            for (step, count) in steps {
                match step {
                    0 => {
                        let text: Vec<u8> = (0..count).map(|_| typed.len() as u8).collect();
                        typed.extend(&text);
                        input.push(key(&text, &room));
                    }
                    1 => wire.extend(input.take_unsent()),
                    // Init takes some, and says so.
                    2 => {
                        arrived.extend(wire.drain(..count.min(wire.len())));
                        input.arrived(arrived.len() as u64);
                    }
                    // It takes some, and the connection breaks before it says so.
                    _ => {
                        arrived.extend(wire.drain(..count.min(wire.len())));
                        wire.clear();
                        input.again(arrived.len() as u64);
                    }
                }
                prop_assert!(typed.starts_with(&arrived));
                let kept: usize = input.kept.iter().map(|key| key.bytes.len()).sum();
                prop_assert_eq!(room.available_permits(), 10_000 - kept);
            }
            input.again(arrived.len() as u64);
            arrived.extend(input.take_unsent());
            prop_assert_eq!(typed, arrived);
        }
    }

    #[test]
    fn an_init_that_forgot_us_counts_anew() {
        let room = Arc::new(Semaphore::new(100));
        let mut input = Input::default();
        input.push(key(b"abcd", &room));
        input.take_unsent();
        input.arrived(2);
        input.again(0);
        assert_eq!(&input.take_unsent()[..], b"cd");
        input.arrived(2);
        assert!(input.kept.is_empty() && input.is_sent());
        // What it cannot have got.
        input.arrived(99);
        input.push(key(b"e", &room));
        assert_eq!(&input.take_unsent()[..], b"e");
    }
}
