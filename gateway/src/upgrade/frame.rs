//! Websocket frames (RFC 6455), as far as a relay needs them: where they begin and end, the first
//! bytes of the small ones, and control frames of our own. Pure.
//!
//! Must never happen here: a byte of others changed, or an allocation that they size.

/// Payload bytes of a small message that are looked at; a control frame has no more than 125.
pub(crate) const PEEK: usize = 128;
/// The longest header: two bytes, a 64-bit length, a mask.
const HEADER: usize = 14;
/// The longest payload of a control frame.
const CONTROL: usize = 125;

/// The websocket closes, as our side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// 1001: we shut down.
    GoingAway = 1001,
    /// 1012: what it was connected to is gone; connecting again leads to what came after.
    Restart = 1012,
    /// 1013: not now.
    TryLater = 1013,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More of a message that began in an earlier frame.
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    /// Nothing that we know, or a control frame that breaks the rules. For its reader to judge.
    Strange,
}

/// A frame of which the header and the first payload bytes are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it came: the header and the payload bytes that were looked at.
    pub raw: &'a [u8],
    header: usize,
    length: u64,
    mask: Option<[u8; 4]>,
    plain: bool,
}

impl Frame<'_> {
    /// The payload, unmasked, if it is one whole small message, a heartbeat perhaps; of a longer
    /// text message its beginning. Of a control frame, all of it.
    pub fn peek(&self) -> Peek {
        let mut peek = Peek {
            bytes: [0; PEEK],
            length: 0,
            whole: false,
        };
        if !self.plain {
            return peek;
        }
        let payload = &self.raw[self.header..];
        for (index, (to, from)) in peek.bytes.iter_mut().zip(payload).enumerate() {
            *to = from ^ self.mask.map_or(0, |mask| mask[index % 4]);
        }
        peek.length = payload.len().min(PEEK);
        peek.whole = self.length == peek.length as u64;
        peek
    }
}

/// The beginning of a payload.
#[derive(Debug)]
pub(crate) struct Peek {
    bytes: [u8; PEEK],
    length: usize,
    /// There is no more.
    pub whole: bool,
}

impl Peek {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A stretch of a byte stream.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// A frame begins.
    Begin(Frame<'a>),
    /// More payload of the frame that began last.
    More(&'a [u8]),
}

/// Follows the frames of one direction, however its bytes are cut.
#[derive(Debug)]
pub(crate) struct Frames {
    /// The beginning of a frame that was not handed out yet.
    raw: [u8; HEADER + PEEK],
    have: usize,
    /// Payload still to come of the frame handed out last.
    left: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            raw: [0; HEADER + PEEK],
            have: 0,
            left: 0,
        }
    }
}

impl Frames {
    /// The next part of `input`, which is cut off from it. None: more bytes are needed.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Option<Part<'a>> {
        if self.left > 0 {
            if input.is_empty() {
                return None;
            }
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (more, rest) = input.split_at(left.min(input.len()));
            *input = rest;
            self.left -= more.len() as u64;
            return Some(Part::More(more));
        }
        loop {
            let Some(frame) = Header::read(&self.raw[..self.have]) else {
                self.take(input, Header::length(&self.raw[..self.have]))?;
                continue;
            };
            let wanted = frame.bytes + frame.peeked();
            if self.have < wanted {
                self.take(input, wanted)?;
                continue;
            }
            self.have = 0;
            self.left = frame.length - frame.peeked() as u64;
            return Some(Part::Begin(Frame {
                kind: frame.kind(),
                raw: &self.raw[..wanted],
                header: frame.bytes,
                length: frame.length,
                mask: frame.mask,
                plain: frame.peeked() > 0 || frame.length == 0,
            }));
        }
    }

    /// Whether all that was handed out are whole frames: only here a frame of ours may follow.
    pub fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// Moves bytes until `wanted` are there; none when `input` has not enough.
    fn take(&mut self, input: &mut &[u8], wanted: usize) -> Option<()> {
        let missing = wanted.saturating_sub(self.have);
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.raw[self.have..self.have + taken.len()].copy_from_slice(taken);
        self.have += taken.len();
        *input = rest;
        (self.have >= wanted).then_some(())
    }
}

/// A frame's header, parsed.
struct Header {
    first: u8,
    bytes: usize,
    length: u64,
    mask: Option<[u8; 4]>,
}

impl Header {
    /// How many bytes it takes to know more than `raw` tells.
    fn length(raw: &[u8]) -> usize {
        let [_, second, ..] = raw else {
            return 2;
        };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        2 + extended + mask
    }

    /// None while it is not all there.
    fn read(raw: &[u8]) -> Option<Self> {
        let bytes = Self::length(raw);
        let header = raw.get(..bytes)?;
        let [first, second, rest @ ..] = header else {
            return None;
        };
        let (length, mask) = match second & 0x7f {
            126 => rest.split_at_checked(2)?,
            127 => rest.split_at_checked(8)?,
            _ => rest.split_at_checked(0)?,
        };
        let length = match length {
            [] => u64::from(second & 0x7f),
            bytes => bytes
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Some(Self {
            first: *first,
            bytes,
            length,
            mask: mask.try_into().ok(),
        })
    }

    fn kind(&self) -> Kind {
        let control = self.first & 0xf0 == 0x80 && self.length <= CONTROL as u64;
        match self.first & 0x0f {
            0 => Kind::Continuation,
            1 => Kind::Text,
            2 => Kind::Binary,
            8 if control => Kind::Close,
            9 if control => Kind::Ping,
            10 if control => Kind::Pong,
            _ => Kind::Strange,
        }
    }

    /// How much payload is looked at: of control frames and of text that is neither in pieces nor
    /// compressed.
    fn peeked(&self) -> usize {
        match self.kind() {
            Kind::Close | Kind::Ping | Kind::Pong => self.length as usize,
            Kind::Text if self.first & 0xf0 == 0x80 => self.length.min(PEEK as u64) as usize,
            _ => 0,
        }
    }
}

/// A whole frame of at most 125 payload bytes; masked as a client must.
pub(crate) fn encode(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = &payload[..payload.len().min(CONTROL)];
    let opcode = match kind {
        Kind::Continuation | Kind::Strange => 0,
        Kind::Text => 1,
        Kind::Binary => 2,
        Kind::Close => 8,
        Kind::Ping => 9,
        Kind::Pong => 10,
    };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = Vec::with_capacity(6 + payload.len());
    frame.push(0x80 | opcode);
    frame.push(masked | payload.len() as u8);
    frame.extend(mask.unwrap_or_default().iter().filter(|_| mask.is_some()));
    let mask = mask.unwrap_or_default();
    frame.extend((payload.iter().zip(0..)).map(|(byte, at)| byte ^ mask[at % 4]));
    frame
}

/// The payload of a close frame.
pub(crate) fn farewell(code: Code, reason: &str) -> Vec<u8> {
    let mut payload = (code as u16).to_be_bytes().to_vec();
    payload.extend(reason.as_bytes().iter().take(CONTROL - 2));
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as any endpoint may send it.
    #[derive(Debug, Clone)]
    struct Sent {
        first: u8,
        payload: Vec<u8>,
        mask: Option<[u8; 4]>,
    }

    impl Sent {
        fn bytes(&self) -> Vec<u8> {
            let masked = if self.mask.is_some() { 0x80 } else { 0 };
            let length = self.payload.len();
            let mut bytes = vec![self.first];
            match length {
                0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
                126..65_536 => {
                    bytes.push(masked | 126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(masked | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(self.mask.iter().flatten());
            let mask = self.mask.unwrap_or_default();
            bytes.extend((self.payload.iter().zip(0..)).map(|(byte, at)| byte ^ mask[at % 4]));
            bytes
        }
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let length = prop_oneof![
            4 => 0usize..200,
            2 => 120usize..140,
            1 => 65_530usize..65_540,
        ];
        let first = prop_oneof![
            4 => prop::sample::select(&[0x81u8, 0x82, 0x88, 0x89, 0x8a][..]),
            1 => any::<u8>(),
        ];
        (first, length, any::<u8>(), any::<Option<[u8; 4]>>()).prop_map(
            |(first, length, seed, mask)| Sent {
                first,
                payload: (0..length).map(|at| seed.wrapping_add(at as u8)).collect(),
                mask,
            },
        )
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            frames in prop::collection::vec(sent(), 0..8),
            cuts in prop::collection::vec(1usize..400, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(Sent::bytes).collect();
            let mut state = Frames::default();
            let (mut out, mut begun) = (Vec::new(), Vec::new());
            let (mut rest, mut sizes) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (mut chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                rest = after;
                while let Some(part) = state.next(&mut chunk) {
                    match part {
                        Part::Begin(frame) => {
                            // A frame begins exactly where the one before it ended.
                            let whole: usize = frames[..begun.len()]
                                .iter()
                                .map(|frame| frame.bytes().len())
                                .sum();
                            prop_assert_eq!(out.len(), whole);
                            out.extend_from_slice(frame.raw);
                            let peek = frame.peek();
                            begun.push((frame.kind, peek.bytes().to_vec(), peek.whole));
                        }
                        Part::More(more) => out.extend_from_slice(more),
                    }
                }
                prop_assert!(chunk.is_empty());
            }
            prop_assert_eq!(&out, &bytes, "every byte passes, in order");
            prop_assert_eq!(begun.len(), frames.len());
            prop_assert!(state.at_boundary() && state.have == 0);
            for (frame, (kind, peeked, whole)) in frames.iter().zip(begun) {
                let small = frame.payload.len() <= 125;
                let expected = match frame.first {
                    0x88 if small => Kind::Close,
                    0x89 if small => Kind::Ping,
                    0x8a if small => Kind::Pong,
                    first => match first & 15 {
                        0 => Kind::Continuation,
                        1 => Kind::Text,
                        2 => Kind::Binary,
                        _ => Kind::Strange,
                    },
                };
                prop_assert_eq!(kind, expected);
                prop_assert!(frame.payload.starts_with(&peeked));
                if matches!(kind, Kind::Close | Kind::Ping | Kind::Pong) || frame.first == 0x81 {
                    prop_assert_eq!(peeked.len(), frame.payload.len().min(PEEK));
                    prop_assert_eq!(whole, frame.payload.len() <= PEEK);
                }
            }
        }

        #[test]
        fn what_we_encode_is_a_frame(
            payload in prop::collection::vec(any::<u8>(), 0..126),
            mask in any::<Option<[u8; 4]>>(),
        ) {
            for kind in [Kind::Text, Kind::Close, Kind::Ping, Kind::Pong] {
                let bytes = encode(kind, &payload, mask);
                let (mut frames, mut input) = (Frames::default(), &bytes[..]);
                let Some(Part::Begin(frame)) = frames.next(&mut input) else {
                    return Err(TestCaseError::fail("no frame"));
                };
                prop_assert_eq!(frame.kind, kind);
                let peek = frame.peek();
                prop_assert_eq!(peek.bytes(), &payload[..]);
                prop_assert!(peek.whole && input.is_empty() && frames.at_boundary());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let (mut frames, mut input) = (Frames::default(), &bytes[..]);
            while frames.next(&mut input).is_some() {}
        }
    }
}
