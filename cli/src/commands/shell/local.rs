//! The terminal at which a person sits: raw while a guard lives, its keys, its size.
//!
//! Must never happen here: a way out of raw mode that is not taken. A guard restores it, whatever
//! ends the command; signals end the command in order.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Keys read at once.
const CHUNK: usize = 4096;

/// Raw mode, until dropped.
pub struct Raw(Termios);

impl Raw {
    /// Every key is the program's from here on.
    ///
    /// # Errors
    /// The terminal's.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self(before);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// After a program that could not clean up behind itself: the usual screen, a cursor, no mouse, no
/// colours.
pub fn calm() {
    let calm = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m\r\n";
    let mut stdout = io::stdout();
    let _ = stdout.write_all(calm.as_bytes());
    let _ = stdout.flush();
}

/// A window's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width, in letters.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// Of our window, or a usual one if it does not know.
pub fn size() -> Size {
    let size = tcgetwinsize(io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(Size { cols: 80, rows: 24 }, |size| Size {
        cols: size.ws_col.min(1000),
        rows: size.ws_row.min(1000),
    })
}

/// What is typed.
pub struct Keys(mpsc::Receiver<Vec<u8>>);

impl Keys {
    /// Reads them in a thread of its own: the runtime would wait for one of its own at the end,
    /// until a last key.
    pub fn read() -> Self {
        let (sender, keys) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut chunk = vec![0; CHUNK];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut chunk) {
                    Ok(count) if count > 0 => {
                        if sender.blocking_send(chunk[..count].to_vec()).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => return,
                }
            }
        });
        Self(keys)
    }

    /// The next ones; none when the terminal is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}
