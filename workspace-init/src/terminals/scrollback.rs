//! The end of a terminal's output, by the numbers of its bytes. Pure.
//!
//! Must never happen here: memory that grows with what a program prints.

use std::collections::VecDeque;

use init_protocol::terminal::SCROLLBACK;

/// See the module.
#[derive(Default)]
pub struct Scrollback {
    kept: VecDeque<u8>,
    end: u64,
}

impl Scrollback {
    /// Adds what was printed; the oldest bytes make room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(SCROLLBACK)..];
        let surplus = (self.kept.len() + bytes.len()).saturating_sub(SCROLLBACK);
        self.kept.drain(..surplus);
        self.kept.extend(bytes);
    }

    /// The number of the first byte that is kept.
    pub fn start(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// Bytes ever printed.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Puts up to `max` bytes from number `from` on into `into`, and how many. What is not kept
    /// any more is not among them: ask [`Self::start`] before.
    pub fn copy(&self, from: u64, max: usize, into: &mut Vec<u8>) -> usize {
        into.clear();
        let Some(skip) = from.checked_sub(self.start()) else {
            return 0;
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(self.kept.len());
        let count = (self.kept.len() - skip).min(max);
        let (front, back) = self.kept.as_slices();
        let (begin, end) = (skip, skip + count);
        into.extend_from_slice(&front[begin.min(front.len())..end.min(front.len())]);
        let behind = |at: usize| at.saturating_sub(front.len());
        into.extend_from_slice(&back[behind(begin)..behind(end)]);
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_byte_is_where_its_number_says(
            pieces in proptest::collection::vec(0usize..100_000, 1..12),
            back in 0u64..400_000,
            max in 1usize..50_000,
        ) {
            let byte = |number: u64| (number * 7 + (number >> 8) * 13) as u8;
            let mut scrollback = Scrollback::default();
            for piece in pieces {
                let from = scrollback.end();
                let bytes: Vec<u8> = (from..from + piece as u64).map(byte).collect();
                scrollback.push(&bytes);
            }
            prop_assert!(scrollback.end() - scrollback.start() <= SCROLLBACK as u64);
            prop_assert!(scrollback.start() == 0 || scrollback.end() - scrollback.start() == SCROLLBACK as u64);
            let from = scrollback.end().saturating_sub(back);
            let mut got = Vec::new();
            let count = scrollback.copy(from, max, &mut got);
            prop_assert_eq!(count, got.len());
            if from < scrollback.start() {
                prop_assert_eq!(count, 0);
            } else {
                let expected = (scrollback.end() - from).min(max as u64);
                prop_assert_eq!(count as u64, expected);
                prop_assert!(got.iter().zip(from..).all(|(got, number)| *got == byte(number)));
            }
        }
    }

    #[test]
    fn a_number_beyond_the_end_has_no_bytes() {
        let mut scrollback = Scrollback::default();
        scrollback.push(b"abc");
        let mut got = vec![1];
        assert_eq!(scrollback.copy(99, 10, &mut got), 0);
        assert!(got.is_empty());
    }
}
