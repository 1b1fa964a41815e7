//! Fail points: between two steps of a workspace's life the platform can be told to die, to stand
//! still, to fail, or to wait, so that tests find out what becomes of it. Off unless
//! `FLEEKS_FAIL_POINTS` names some when `fleeks up` starts; then each happens once.
//!
//! ```text
//! FLEEKS_FAIL_POINTS="hibernate.recorded=kill wake.restored=stop"
//!     kill        SIGKILL to this process
//!     stop        SIGSTOP to this process, until somebody continues it
//!     error       the step fails, where a step can fail there
//!     wait:FILE   makes FILE.reached, and goes on when FILE is there
//! ```
//!
//! Must never happen here: anything at all while no point is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet::timing;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use tokio::time::{Instant, sleep};

use crate::error::{Error, ErrorKind};

/// The points, in the order in which a life passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    StartRecorded,
    StartLaunched,
    FreezeShut,
    FreezePaused,
    ThawBegun,
    ThawResumed,
    HibernateFrozen,
    HibernateHeld,
    HibernateDrafted,
    HibernateWritten,
    HibernateComplete,
    HibernateClosed,
    HibernateRecorded,
    HibernateRemoved,
    WakeRecorded,
    WakeRead,
    WakeNetworked,
    WakeRestored,
    WakeResumed,
    WakeAnswered,
    WakeTold,
}

use Point as P;

const POINTS: [(P, &str); 21] = [
    (P::StartRecorded, "start.recorded"),
    (P::StartLaunched, "start.launched"),
    (P::FreezeShut, "freeze.shut"),
    (P::FreezePaused, "freeze.paused"),
    (P::ThawBegun, "thaw.begun"),
    (P::ThawResumed, "thaw.resumed"),
    (P::HibernateFrozen, "hibernate.frozen"),
    (P::HibernateHeld, "hibernate.held"),
    (P::HibernateDrafted, "hibernate.drafted"),
    (P::HibernateWritten, "hibernate.written"),
    (P::HibernateComplete, "hibernate.complete"),
    (P::HibernateClosed, "hibernate.closed"),
    (P::HibernateRecorded, "hibernate.recorded"),
    (P::HibernateRemoved, "hibernate.removed"),
    (P::WakeRecorded, "wake.recorded"),
    (P::WakeRead, "wake.read"),
    (P::WakeNetworked, "wake.networked"),
    (P::WakeRestored, "wake.restored"),
    (P::WakeResumed, "wake.resumed"),
    (P::WakeAnswered, "wake.answered"),
    (P::WakeTold, "wake.told"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Error,
    Wait(PathBuf),
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FailPoints(Option<Arc<[Armed]>>);

#[derive(Debug)]
struct Armed {
    point: P,
    action: Action,
    spent: AtomicBool,
}

impl FailPoints {
    /// From the text of `FLEEKS_FAIL_POINTS`.
    ///
    /// # Errors
    /// What in it is no point or no action.
    pub fn parse(text: &str) -> Result<Self, String> {
        let armed: Vec<Armed> = text
            .split_whitespace()
            .map(parse_one)
            .collect::<Result<_, _>>()?;
        Ok(Self((!armed.is_empty()).then(|| armed.into())))
    }

    /// This point is reached.
    ///
    /// # Errors
    /// If it was told to fail.
    pub(crate) async fn reach(&self, point: P) -> Result<(), Error> {
        match &self.0 {
            None => Ok(()),
            Some(armed) => act(armed, point).await,
        }
    }
}

fn parse_one(text: &str) -> Result<Armed, String> {
    let (name, action) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not POINT=ACTION"))?;
    let found = POINTS.iter().find(|(_, known)| *known == name);
    let (point, _) = found.ok_or_else(|| format!("there is no fail point '{name}'"))?;
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        None if action == "stop" => Action::Stop,
        None if action == "error" => Action::Error,
        Some(("wait", file)) if file.starts_with('/') => Action::Wait(file.into()),
        _ => return Err(format!("'{action}' is not kill, stop, error or wait:/FILE")),
    };
    Ok(Armed {
        point: *point,
        action,
        spent: AtomicBool::new(false),
    })
}

async fn act(armed: &[Armed], point: P) -> Result<(), Error> {
    let due = armed
        .iter()
        .find(|one| one.point == point && !one.spent.swap(true, Ordering::Relaxed));
    let Some(due) = due else { return Ok(()) };
    tracing::warn!(?point, action = ?due.action, "a fail point");
    match &due.action {
        // Without effect the test finds nothing, and says so.
        Action::Kill => {
            let _ = kill(getpid(), Signal::SIGKILL);
        }
        Action::Stop => {
            let _ = kill(getpid(), Signal::SIGSTOP);
        }
        Action::Wait(file) => wait_for(file).await,
        Action::Error => {
            let message = "a fail point was told to fail";
            return Err(Error::new(ErrorKind::NotReady, message));
        }
    }
    Ok(())
}

async fn wait_for(file: &Path) {
    let mut reached = file.as_os_str().to_owned();
    reached.push(".reached");
    drop(std::fs::write(reached, ""));
    let patience = Instant::now() + timing::FAIL_POINT;
    while !file.exists() && Instant::now() < patience {
        sleep(timing::DRAIN_LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_happens_once_and_only_where_it_was_named() {
        let points = FailPoints::parse("wake.read=error  freeze.shut=error").unwrap();
        points.reach(P::WakeTold).await.unwrap();
        points.reach(P::WakeRead).await.unwrap_err();
        points.reach(P::WakeRead).await.unwrap();
        points.reach(P::FreezeShut).await.unwrap_err();
        FailPoints::default().reach(P::WakeRead).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_waits_says_that_it_was_reached() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("go");
        let points = FailPoints::parse(&format!("wake.read=wait:{}", file.display())).unwrap();
        let reaching = tokio::spawn(async move { points.reach(P::WakeRead).await });
        while !home.path().join("go.reached").exists() {
            tokio::task::yield_now().await;
        }
        std::fs::write(&file, "").unwrap();
        reaching.await.unwrap().unwrap();
    }

    #[test]
    fn what_is_no_point_or_no_action_is_refused() {
        for wrong in [
            "wake",
            "wake.reed=kill",
            "wake.read=die",
            "wake.read=wait:x",
        ] {
            assert!(FailPoints::parse(wrong).is_err(), "{wrong}");
        }
        assert!(FailPoints::parse("").unwrap().0.is_none());
    }

    #[test]
    fn names_are_told_apart() {
        for (index, (point, name)) in POINTS.iter().enumerate() {
            let later = &POINTS[index + 1..];
            assert!(later.iter().all(|(p, n)| p != point && n != name));
        }
    }
}
