//! A job's output on its way from init: the start and the end of each stream.

use init_protocol::{FrameKind, OUTPUT_HEAD, OUTPUT_TAIL, OutputMeta, Reply};

use super::error::InitError;
use super::exchange::Exchange;

/// Bytes to keep of each stream; init has at most [`OUTPUT_HEAD`] and [`OUTPUT_TAIL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// From its start.
    pub head: usize,
    /// From its end.
    pub tail: usize,
}

impl OutputLimits {
    /// All that init keeps.
    pub const ALL: Self = Self {
        head: OUTPUT_HEAD,
        tail: OUTPUT_TAIL,
    };
}

/// What a job printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOutput {
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// One stream, as far as it was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Bytes ever printed, as init says; at least those here.
    pub total: u64,
    /// Its start.
    pub head: Vec<u8>,
    /// Its end, when something is left out between; else it follows the head.
    pub tail: Vec<u8>,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since<'a> {
    /// What came.
    pub bytes: &'a [u8],
    /// Where to go on.
    pub next: u64,
    /// Bytes before it that are lost.
    pub skipped: u64,
}

impl Captured {
    /// Bytes left out between head and tail.
    pub fn left_out(&self) -> u64 {
        let kept = (self.head.len() + self.tail.len()) as u64;
        self.total.saturating_sub(kept)
    }

    /// What came after the first `from` bytes, as far as it was kept. Where bytes are left out
    /// between, it ends there; what follows comes with the next call.
    pub fn since(&self, from: u64) -> Since<'_> {
        let head = self.head.len() as u64;
        if from < head {
            let at = usize::try_from(from).unwrap_or(usize::MAX);
            return Since {
                bytes: self.head.get(at..).unwrap_or_default(),
                next: head,
                skipped: 0,
            };
        }
        let tail_begins = self.total.saturating_sub(self.tail.len() as u64);
        let begin = from.max(tail_begins).min(self.total);
        let at = usize::try_from(begin - tail_begins.min(begin)).unwrap_or(usize::MAX);
        Since {
            bytes: self.tail.get(at..).unwrap_or_default(),
            next: self.total.max(head),
            skipped: begin.saturating_sub(from),
        }
    }

    /// As text: what is not UTF-8 is replaced, and a line says what was left out.
    pub fn to_text(&self) -> String {
        match self.left_out() {
            0 => String::from_utf8_lossy(&[&self.head[..], &self.tail[..]].concat()).into_owned(),
            bytes => format!(
                "{}\n[… {bytes} bytes left out …]\n{}",
                String::from_utf8_lossy(&self.head),
                String::from_utf8_lossy(&self.tail),
            ),
        }
    }
}

/// An `Output` reply and its body.
pub(super) async fn receive(
    exchange: &mut Exchange,
    limits: OutputLimits,
) -> Result<JobOutput, InitError> {
    let Reply::Output { stdout, stderr } = exchange.reply().await? else {
        return Err(InitError::Protocol("an answer to another question"));
    };
    let mut stdout = Incoming::new(stdout)?;
    let mut stderr = Incoming::new(stderr)?;
    loop {
        match exchange.body().await? {
            (FrameKind::Data, bytes) => stdout.push(bytes)?,
            (FrameKind::DataErr, bytes) => stderr.push(bytes)?,
            (FrameKind::End, _) => break,
            _ => return Err(InitError::Protocol("a frame out of place")),
        }
    }
    Ok(JobOutput {
        stdout: stdout.done(limits)?,
        stderr: stderr.done(limits)?,
    })
}

struct Incoming {
    meta: OutputMeta,
    bytes: Vec<u8>,
}

impl Incoming {
    fn new(meta: OutputMeta) -> Result<Self, InitError> {
        let fits = meta.head <= OUTPUT_HEAD as u64
            && meta.tail <= OUTPUT_TAIL as u64
            && meta.head + meta.tail <= meta.total;
        if !fits {
            return Err(InitError::Protocol("an impossible length of output"));
        }
        Ok(Self {
            meta,
            bytes: Vec::new(),
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), InitError> {
        let announced = self.meta.head + self.meta.tail;
        // Frames without bytes would never end.
        if bytes.is_empty() || (self.bytes.len() + bytes.len()) as u64 > announced {
            return Err(InitError::Protocol("more output than announced"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn done(mut self, limits: OutputLimits) -> Result<Captured, InitError> {
        if self.bytes.len() as u64 != self.meta.head + self.meta.tail {
            return Err(InitError::Protocol("less output than announced"));
        }
        let gap = self.meta.head + self.meta.tail < self.meta.total;
        // Without a gap all of it is one piece, to be cut anywhere.
        let head_ends = if gap {
            usize::try_from(self.meta.head).unwrap_or(0)
        } else {
            self.bytes.len()
        };
        let mut tail = self.bytes.split_off(head_ends.min(self.bytes.len()));
        let mut head = self.bytes;
        if gap {
            head.truncate(limits.head);
            tail.drain(..tail.len().saturating_sub(limits.tail));
        } else if head.len() > limits.head.saturating_add(limits.tail) {
            tail = head.split_off(head.len() - limits.tail);
            head.truncate(limits.head);
        }
        Ok(Captured {
            total: self.meta.total,
            head,
            tail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: OutputLimits = OutputLimits { head: 3, tail: 2 };

    fn captured(total: u64, head: &[u8], tail: &[u8], limits: OutputLimits) -> Captured {
        let meta = OutputMeta {
            total,
            head: head.len() as u64,
            tail: tail.len() as u64,
        };
        let mut incoming = Incoming::new(meta).unwrap();
        let bytes = [head, tail].concat();
        if !bytes.is_empty() {
            incoming.push(&bytes).unwrap();
        }
        incoming.done(limits).unwrap()
    }

    #[test]
    fn output_is_cut_in_the_middle() {
        let text = |total, head: &str, tail: &str, limits| {
            captured(total, head.as_bytes(), tail.as_bytes(), limits).to_text()
        };
        assert_eq!(text(0, "", "", SMALL), "");
        assert_eq!(text(5, "abcd", "e", SMALL), "abcde");
        assert_eq!(
            text(6, "abcd", "ef", SMALL),
            "abc\n[… 1 bytes left out …]\nef"
        );
        assert_eq!(
            text(9, "abcd", "hi", SMALL),
            "abc\n[… 4 bytes left out …]\nhi"
        );
        assert_eq!(
            text(9, "abcd", "hi", OutputLimits::ALL),
            "abcd\n[… 3 bytes left out …]\nhi"
        );
    }

    #[test]
    fn who_follows_gets_each_byte_once_or_hears_of_the_gap() {
        let whole = captured(5, b"abcd", b"e", OutputLimits::ALL);
        let since = |captured: &Captured, from| {
            let part = captured.since(from);
            (
                String::from_utf8(part.bytes.to_vec()).unwrap(),
                part.next,
                part.skipped,
            )
        };
        let part = |text: &str, next, skipped| (text.to_owned(), next, skipped);
        assert_eq!(since(&whole, 0), part("abcde", 5, 0));
        assert_eq!(since(&whole, 3), part("de", 5, 0));
        assert_eq!(since(&whole, 5), part("", 5, 0));
        assert_eq!(since(&whole, 99), part("", 5, 0));
        let gap = captured(9, b"abcd", b"hi", OutputLimits::ALL);
        assert_eq!(since(&gap, 0), part("abcd", 4, 0));
        assert_eq!(since(&gap, 4), part("hi", 9, 3));
        assert_eq!(since(&gap, 8), part("i", 9, 0));
        assert_eq!(since(&gap, 9), part("", 9, 0));
        assert_eq!(since(&Captured::default(), 0), part("", 0, 0));
    }

    #[test]
    fn what_is_not_text_is_shown_as_such() {
        let cut_letter = captured(4, "aü".as_bytes(), b"\xff", OutputLimits::ALL);
        assert_eq!(cut_letter.to_text(), "aü\u{fffd}");
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        let meta = |total, head, tail| Incoming::new(OutputMeta { total, head, tail });
        assert!(meta(1, 1, 1).is_err());
        assert!(meta(u64::MAX, OUTPUT_HEAD as u64 + 1, 0).is_err());
        assert!(meta(u64::MAX, u64::MAX, u64::MAX).is_err());
        let mut incoming = meta(10, 2, 1).unwrap();
        assert!(incoming.push(b"abcd").is_err());
        assert!(incoming.push(b"").is_err());
        incoming.push(b"ab").unwrap();
        assert!(incoming.done(OutputLimits::ALL).is_err());
    }
}
