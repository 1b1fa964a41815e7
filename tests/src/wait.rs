//! Waiting for a condition, always with a bound.
//!
//! Must never happen elsewhere in the harness: a sleep.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks until `look` finds something; fails after `limit`, saying what was waited for and the
/// last obstacle.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let obstacle = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() >= limit {
            match obstacle {
                Some(error) => return Err(error.context(format!("waited {limit:?} for {what}"))),
                None => bail!("waited {limit:?} in vain for {what}"),
            }
        }
        pause();
    }
}

/// The same for a yes or no.
pub fn until_true(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one pause between two looks; no executor here"
)]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}
