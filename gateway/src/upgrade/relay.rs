//! What passes between a visitor and an app after the upgrade, without the I/O: bytes go in, bytes
//! to be written come out. Frames of others pass as they came; ours are put between whole ones.
//!
//! While the app stands still its half of the conversation is ours, as far as that is honest: pings
//! and known heartbeats are answered, a close is answered and handed over later, everything else
//! waits for the app, and most of it is reason to wake it.
//!
//! Must never happen here: I/O, a clock, or a frame of ours in the middle of another.

use bytes::{Buf as _, BytesMut};

use super::beat::{Beat, Beats};
use super::frame::{Code, Frame, Frames, Kind, Part, encode, farewell};

/// Bytes that wait for one end; then nothing more is read from the other.
pub(crate) const HOLD: usize = 64 * 1024;
/// Bytes of ours that wait for the end of a long frame; what is more is not said.
const OURS: usize = 4 * 1024;
/// Our pings carry this, and a number.
const PING_MARK: &[u8] = b"fleeks";

/// See the module.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Websocket frames, and not just bytes.
    framed: bool,
    beats: Beats,
    up: Lane,
    down: Lane,
    /// Whether the frame under way from the visitor is kept from the app.
    dropping: bool,
    /// Answers to heartbeats of ours that are still to come.
    asked: u32,
    /// The visitor has said goodbye.
    goodbye: bool,
    pings: u64,
    noticed: Noticed,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    frames: Frames,
    /// To be written.
    out: BytesMut,
    /// Frames of ours that wait for a boundary.
    ours: BytesMut,
    /// A close has passed: nothing may follow.
    closed: bool,
}

impl Lane {
    /// Puts a frame of ours after the whole frames that came before it.
    fn insert(&mut self, frame: &[u8]) {
        if self.closed || self.ours.len() > OURS {
            return;
        }
        match self.frames.at_boundary() {
            true => self.out.extend_from_slice(frame),
            false => self.ours.extend_from_slice(frame),
        }
    }

    /// At a boundary, what waited for it.
    fn catch_up(&mut self) {
        if self.frames.at_boundary() && !self.ours.is_empty() {
            self.out.extend_from_slice(&self.ours);
            self.ours = BytesMut::new();
        }
    }
}

/// What was seen since it was asked last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// The visitor said something to the app.
    pub used: bool,
    /// The app said something to the visitor.
    pub answered: bool,
    /// The app asked the visitor for a sign of life.
    pub asked: bool,
    /// The app has to be awake for what the visitor said.
    pub needs_app: bool,
}

impl Relay {
    /// For a websocket (`beats`: what its handshake told), or for plain bytes.
    pub fn new(beats: Option<Beats>) -> Self {
        Self {
            framed: beats.is_some(),
            beats: beats.unwrap_or_default(),
            up: Lane::default(),
            down: Lane::default(),
            dropping: false,
            asked: 0,
            goodbye: false,
            pings: 0,
            noticed: Noticed::default(),
        }
    }

    /// Takes what the visitor sent. `still`: the app does not hear it now.
    pub fn visitor_says(&mut self, mut bytes: &[u8], still: bool) {
        if !self.framed {
            self.up.out.extend_from_slice(bytes);
            self.use_app(still);
            return;
        }
        let mut frames = std::mem::take(&mut self.up.frames);
        while let Some(part) = frames.next(&mut bytes) {
            match part {
                Part::Begin(frame) => {
                    self.dropping = !self.passes(&frame, still);
                    if !self.dropping {
                        self.up.out.extend_from_slice(frame.raw);
                    }
                }
                Part::More(_) if self.dropping => {}
                Part::More(more) => {
                    self.up.out.extend_from_slice(more);
                    self.use_app(still);
                }
            }
        }
        self.up.frames = frames;
        if still && self.up.out.len() >= HOLD {
            // Whatever it is, it must not fill up what is kept for later.
            self.noticed.needs_app = true;
        }
        self.up.catch_up();
    }

    fn use_app(&mut self, still: bool) {
        self.noticed.used = true;
        self.noticed.needs_app |= still;
    }

    /// Whether a frame of the visitor is for the app.
    fn passes(&mut self, frame: &Frame<'_>, still: bool) -> bool {
        match frame.kind {
            Kind::Pong => !frame.peek().bytes().starts_with(PING_MARK),
            Kind::Ping if still => {
                let pong = encode(Kind::Pong, frame.peek().bytes(), None);
                self.down.insert(&pong);
                false
            }
            Kind::Ping => true,
            Kind::Close => {
                (self.up.closed, self.goodbye) = (true, true);
                if still {
                    let code = frame.peek().bytes().get(..2).map(<[u8]>::to_vec);
                    self.down
                        .insert(&encode(Kind::Close, &code.unwrap_or_default(), None));
                    self.down.closed = true;
                }
                true
            }
            Kind::Text => self.text_passes(frame, still),
            Kind::Binary | Kind::Continuation | Kind::Strange => {
                self.use_app(still);
                true
            }
        }
    }

    fn text_passes(&mut self, frame: &Frame<'_>, still: bool) -> bool {
        match self.beats.of_visitor(&frame.peek()) {
            None => {
                self.use_app(still);
                true
            }
            Some(Beat::Reply) if self.asked > 0 => {
                self.asked -= 1;
                false
            }
            Some(Beat::Reply) => true,
            Some(Beat::Ask(answer)) if still => {
                if let Some(answer) = answer {
                    self.down.insert(&encode(Kind::Text, &answer, None));
                }
                false
            }
            Some(Beat::Ask(_)) => true,
        }
    }

    /// Takes what the app sent.
    pub fn app_says(&mut self, mut bytes: &[u8]) {
        if !self.framed {
            self.down.out.extend_from_slice(bytes);
            self.noticed.answered = true;
            return;
        }
        let mut frames = std::mem::take(&mut self.down.frames);
        loop {
            // Between frames, before the next one begins.
            if frames.at_boundary() && !self.down.closed {
                self.down.out.extend_from_slice(&self.down.ours);
                self.down.ours.clear();
            }
            match frames.next(&mut bytes) {
                None => break,
                Some(Part::Begin(frame)) => {
                    self.notice(&frame);
                    self.down.out.extend_from_slice(frame.raw);
                }
                Some(Part::More(more)) => {
                    self.down.out.extend_from_slice(more);
                    self.noticed.answered = true;
                }
            }
        }
        self.down.frames = frames;
        self.down.catch_up();
    }

    fn notice(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            Kind::Ping | Kind::Pong => {}
            Kind::Close => self.down.closed = true,
            Kind::Text => {
                let peek = frame.peek();
                self.noticed.asked |= self.beats.is_question(&peek);
                self.noticed.answered |= !self.beats.of_app(&peek);
            }
            Kind::Binary | Kind::Continuation | Kind::Strange => self.noticed.answered = true,
        }
    }

    /// What was seen since the last time.
    pub fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }

    /// Asks the visitor for a sign of life.
    pub fn ping(&mut self) {
        if !self.framed {
            return;
        }
        self.pings += 1;
        let payload = [PING_MARK, self.pings.to_string().as_bytes()].concat();
        self.down.insert(&encode(Kind::Ping, &payload, None));
    }

    /// How often the app asks for heartbeats of its own, if it does.
    pub fn beat_interval(&self) -> Option<std::time::Duration> {
        self.beats.interval()
    }

    /// Asks for the heartbeat for which the sleeping app would ask now.
    pub fn ask_for_beat(&mut self) {
        self.asked += 1;
        self.down
            .insert(&encode(Kind::Text, self.beats.question(), None));
    }

    /// Ends the conversation: a close for each end that can still be told. In the middle of a long
    /// frame nothing can be said; the end of the connection must do then.
    pub fn close(&mut self, code: Code, reason: &str, mask: [u8; 4]) {
        if !self.framed {
            return;
        }
        let payload = farewell(code, reason);
        for (lane, mask) in [(&mut self.down, None), (&mut self.up, Some(mask))] {
            if lane.frames.at_boundary() {
                lane.insert(&encode(Kind::Close, &payload, mask));
            }
            lane.closed = true;
        }
    }

    /// To be written to the visitor.
    pub fn to_visitor(&self) -> &[u8] {
        &self.down.out
    }

    /// To be written to the app.
    pub fn to_app(&self) -> &[u8] {
        &self.up.out
    }

    /// So much was written.
    pub fn visitor_took(&mut self, bytes: usize) {
        self.down.out.advance(bytes);
    }

    /// So much was written.
    pub fn app_took(&mut self, bytes: usize) {
        self.up.out.advance(bytes);
    }

    /// What the app has not got and will not get.
    pub fn forget_app(&mut self) {
        self.up.out = BytesMut::new();
    }

    /// Gives back memory while nothing flows.
    pub fn rest(&mut self) {
        for lane in [&mut self.up, &mut self.down] {
            if lane.out.is_empty() && lane.out.capacity() > 0 {
                lane.out = BytesMut::new();
            }
        }
    }

    /// Whether the visitor has said goodbye.
    pub fn visitor_closed(&self) -> bool {
        self.goodbye || !self.framed
    }

    /// Whether both ends have said goodbye, or we for them.
    pub fn is_closed(&self) -> bool {
        self.up.closed && self.down.closed
    }
}

#[cfg(test)]
mod tests;
