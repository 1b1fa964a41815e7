//! What the machine itself takes for the least of things that every call is made of: a byte to a
//! thread and back, over loopback. On a virtual machine whose processors sleep deeply it is most of a
//! short call's time, and on a busy one it grows first.
//!
//! Must never happen here: anything of the platform's.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use fleeks_tests::Runtime;

use crate::report::Report;
use crate::sample::time;

/// Round trips, and the pause between two, in which both sides fall asleep.
const COUNT: usize = 200;
const PAUSE: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(3);

/// To be read beside `runtime`'s other figures: measured just before them.
pub fn all(runtime: Runtime, report: &mut Report) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    near.set_read_timeout(Some(LIMIT))?;
    let (mut far, _) = listener.accept()?;
    far.set_nodelay(true)?;
    // It ends with the connection.
    let echo = thread::spawn(move || {
        let mut byte = [0; 1];
        while far
            .read_exact(&mut byte)
            .and_then(|()| far.write_all(&byte))
            .is_ok()
        {}
    });
    let there_and_back = |_| {
        let mut byte = [1; 1];
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        Ok(())
    };
    let taken = time(COUNT, LIMIT, there_and_back, rest)?;
    drop(near);
    let _ = echo.join();
    let what = "the machine alone: a byte to a thread and back";
    report.time(runtime, what, "–", taken);
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "no executor here, and both sides shall fall asleep"
)]
fn rest(_: usize) -> Result<()> {
    thread::sleep(PAUSE);
    Ok(())
}
