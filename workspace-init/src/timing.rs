//! Every interval of init.
//!
//! Must never happen elsewhere: a literal duration in code that waits.

use std::time::{Duration, Instant};

/// A new connection says who it is and what it wants within this.
pub const HELLO: Duration = Duration::from_secs(5);
/// Silence within a body, either direction.
pub const BODY_SILENCE: Duration = Duration::from_secs(60);
/// After the last reply the node closes within this; then we reset the connection.
pub const CLOSE: Duration = Duration::from_secs(5);
/// Connecting to an app in this container.
pub const CONNECT: Duration = Duration::from_secs(3);
/// Pause of the accept loop when there is no file descriptor or buffer to be had.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Between looks whether a process group is gone.
pub const GROUP_POLL: Duration = Duration::from_millis(10);
/// A killed shell is reaped within this, or it hangs in the kernel.
pub const KILLED: Duration = Duration::from_secs(2);
/// A program at a terminal waits for a slow viewer no longer than this at a time.
pub const TERMINAL_PATIENCE: Duration = Duration::from_secs(2);
/// Longest time-out and grace of a job: longer ones are cut to it.
pub const JOB_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Removing a directory tree gives up after this.
pub const REMOVE: Duration = Duration::from_secs(60);
/// After the first of several changes of files the others are waited for.
pub const COALESCE: Duration = Duration::from_millis(10);
/// Between two looks for more output of a job that prints all the time.
pub const FOLLOW: Duration = Duration::from_millis(5);
/// Silence of a peer before the kernel asks whether it is still there.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Steps of [`awake`].
const TICK: Duration = Duration::from_secs(1);
/// How late a step may be and still count in full.
const LATE: Duration = Duration::from_millis(500);

/// The container's clock, in milliseconds of the Unix epoch; for showing only.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let ms = now.tv_sec.saturating_mul(1000) + now.tv_nsec / 1_000_000;
    u64::try_from(ms).unwrap_or(0)
}

/// Sleeps, counting only time in which the container was awake: after a checkpoint and restore,
/// or a freeze, what was left before is left.
pub async fn awake(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(TICK);
        let before = Instant::now();
        tokio::time::sleep(step).await;
        left = left.saturating_sub(before.elapsed().min(step + LATE));
    }
}
