//! How a person leaves a terminal that takes every key: `~.` at the start of a line, as in ssh.
//! `~~` there is one `~`. Pure.

/// See the module.
#[derive(Debug)]
pub struct Escape {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Tilde,
    Within,
}

/// What keys mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Meant {
    /// For the program; perhaps nothing yet.
    Keys(Vec<u8>),
    /// The person leaves.
    Detach,
}

impl Escape {
    /// At the start of a line.
    pub fn new() -> Self {
        Self {
            state: State::LineStart,
        }
    }

    /// Takes what was typed.
    pub fn take(&mut self, typed: &[u8]) -> Meant {
        let mut keys = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            self.state = match (self.state, byte) {
                (State::LineStart, b'~') => State::Tilde,
                (State::Tilde, b'.') => return Meant::Detach,
                (State::Tilde, b'~') => {
                    keys.push(b'~');
                    State::Within
                }
                (state, byte) => {
                    if state == State::Tilde {
                        keys.push(b'~');
                    }
                    keys.push(*byte);
                    match byte {
                        b'\r' | b'\n' => State::LineStart,
                        _ => State::Within,
                    }
                }
            };
        }
        Meant::Keys(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Meant {
        Meant::Keys(text.as_bytes().to_vec())
    }

    #[test]
    fn only_at_the_start_of_a_line() {
        let mut escape = Escape::new();
        assert_eq!(escape.take(b"ls ~.\r"), keys("ls ~.\r"));
        assert_eq!(escape.take(b"~"), keys(""));
        assert_eq!(escape.take(b"~x\r"), keys("~x\r"));
        assert_eq!(escape.take(b"~/bin/a\r"), keys("~/bin/a\r"));
        assert_eq!(escape.take(b"~"), keys(""));
        assert_eq!(escape.take(b"."), Meant::Detach);
        assert_eq!(Escape::new().take(b"~."), Meant::Detach);
        assert_eq!(Escape::new().take(b"a\n~.b"), Meant::Detach);
        assert_eq!(Escape::new().take(b""), keys(""));
    }
}
