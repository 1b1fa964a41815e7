//! A job's end of a pipe, drained for as long as anyone holds the other end: a background process
//! neither waits on a full pipe nor dies of a closed one.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

use super::log::{Kept, Log, Since};

/// Bytes read at once.
pub const CHUNK: usize = 64 * 1024;
/// Most that a pipe holds at a shell's exit (Linux' and gVisor's limits for users are lower).
const PIPE: usize = 1024 * 1024;
/// Reads between two turns of other jobs and calls.
const TURN: u32 = 8;

/// See the module.
pub struct Stream {
    /// None once the other end is closed.
    pipe: RefCell<Option<Rc<Receiver>>>,
    log: RefCell<Log>,
    /// No longer asked for: read and dropped.
    forgotten: Cell<bool>,
    grown: Notify,
}

impl Stream {
    /// The stream, and the end for the job.
    pub fn open(log: Log) -> std::io::Result<(Rc<Self>, OwnedFd)> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let stream = Self {
            pipe: RefCell::new(Some(Rc::new(Receiver::from_owned_fd(ours)?))),
            log: RefCell::new(log),
            forgotten: Cell::new(false),
            grown: Notify::new(),
        };
        Ok((Rc::new(stream), theirs))
    }

    pub fn is_open(&self) -> bool {
        self.pipe.borrow().is_some()
    }

    pub fn kept(&self) -> Kept {
        self.log.borrow().kept()
    }

    /// What was printed after the first `from` bytes, at most `max` of it.
    pub fn since(&self, from: u64, max: usize) -> Since {
        self.log.borrow().since(from, max)
    }

    /// Something was printed, or nothing more will be.
    pub fn grown(&self) -> &Notify {
        &self.grown
    }

    pub fn log(&self) -> std::cell::RefMut<'_, Log> {
        self.log.borrow_mut()
    }

    /// Drops what is kept, and all that comes.
    pub fn forget(&self) {
        self.forgotten.set(true);
        let mut log = self.log.borrow_mut();
        log.spill();
        log.remove_files();
    }

    /// Reads until the other end is closed; `grown` is called after each turn.
    pub async fn drain(&self, scratch: &RefCell<Vec<u8>>, grown: impl Fn()) {
        loop {
            let Some(pipe) = self.pipe.borrow().clone() else {
                return;
            };
            if pipe.readable().await.is_err() {
                return self.close();
            }
            for _ in 0..TURN {
                match self.read(scratch, |into| pipe.try_read(into)) {
                    Ok(0) => return self.close(),
                    Ok(_) => {}
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => break,
                        ErrorKind::Interrupted => {}
                        _ => return self.close(),
                    },
                }
            }
            grown();
            tokio::task::yield_now().await;
        }
    }

    /// Reads what is in the pipe now, without waiting.
    pub fn drain_now(&self, scratch: &RefCell<Vec<u8>>) {
        let Some(pipe) = self.pipe.borrow().clone() else {
            return;
        };
        let mut read = 0;
        while read < PIPE {
            // Past the runtime, which may not have noticed that there is something to read.
            let now = |into: &mut [u8]| Ok(rustix::io::read(&pipe, into)?);
            match self.read(scratch, now) {
                Ok(0) => return self.close(),
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whatever else is wrong, the draining task meets it too.
                Err(_) => return,
            }
        }
    }

    fn read(
        &self,
        scratch: &RefCell<Vec<u8>>,
        from: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut scratch = scratch.borrow_mut();
        let bytes = from(&mut scratch)?;
        if !self.forgotten.get() {
            self.log.borrow_mut().append(&scratch[..bytes]);
            self.grown.notify_waiters();
        }
        Ok(bytes)
    }

    fn close(&self) {
        self.pipe.borrow_mut().take();
        self.log.borrow_mut().close();
    }
}
