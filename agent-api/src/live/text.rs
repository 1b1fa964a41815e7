//! Bytes that come in parts, as text: a letter that was cut waits for its rest.
//!
//! Must never happen here: more kept than one letter.

/// Bytes of a letter, at most.
const LETTER: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct TextParts {
    rest: Vec<u8>,
}

impl TextParts {
    /// What is whole by now; what is no UTF-8 is replaced.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let from = all.len().saturating_sub(LETTER - 1);
        let cut = (from..all.len()).find(|&at| {
            let tail = &all[at..];
            let begins = tail.first().is_some_and(|byte| *byte >= 0xC0);
            let incomplete = |error: std::str::Utf8Error| error.error_len().is_none();
            begins && std::str::from_utf8(tail).is_err_and(incomplete)
        });
        if let Some(cut) = cut {
            self.rest = all.split_off(cut);
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What is left when no more comes.
    pub fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_it_is_cut_the_text_is_the_same() {
        let text = "aü€🦀\u{7f}z\n";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut parts = TextParts::default();
                let bytes = text.as_bytes();
                let mut got = parts.push(&bytes[..first]);
                got += &parts.push(&bytes[first..second]);
                got += &parts.push(&bytes[second..]);
                got += &parts.end();
                assert_eq!(got, text);
            }
        }
    }

    #[test]
    fn what_is_no_text_does_not_wait() {
        let mut parts = TextParts::default();
        assert_eq!(parts.push(b"a\xff"), "a\u{fffd}");
        assert_eq!(parts.push(b"\xe2\x82"), "");
        assert_eq!(parts.push(b"b"), "\u{fffd}b");
        assert_eq!(parts.push(b"\xf0\x9f"), "");
        assert_eq!(parts.end(), "\u{fffd}");
        assert!(parts.rest.is_empty());
    }
}
