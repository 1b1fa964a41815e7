//! What init tells by itself: changes of files, a job's output as it comes.
//!
//! Both end when `leaving` does: init is asked to end, and what it had until then is still taken.
//!
//! Must never happen here: a path passed on that could lead out, a wait without an end once
//! `leaving` has come, or a container that keeps its node busy by telling a lot.

use std::pin::{Pin, pin};

use bytes::Bytes;
use fleet::id::JobId;
use fleet::timing;
use init_protocol::codec::{read_frame, write_frame};
use init_protocol::{
    Call, Change, ChangeKind, FrameKind, JobState, JobStatus, Lost, MAX_CHANGES, Reply,
};
use tokio::sync::mpsc;

use super::exchange::decode;
use super::{InitClient, InitError, UNASKED, check};

/// Longest path: what is no text takes three bytes for one.
const MAX_PATH: usize = 3 * 4096;

/// What a watch tells.
#[derive(Debug)]
pub enum Told {
    /// From here on everything is told; `incomplete`: but of some directories.
    Watching {
        /// There are more directories than are watched.
        incomplete: bool,
    },
    /// In order; `lost`: before them, others were not seen.
    Changes {
        /// What changed.
        changes: Vec<Change>,
        /// Why others were not seen.
        lost: Option<Lost>,
    },
}

/// Bytes of a job that a follower has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    /// Of standard output.
    pub stdout: u64,
    /// Of standard error.
    pub stderr: u64,
}

/// What a followed job does.
#[derive(Debug)]
pub enum Followed {
    /// It printed that to standard output.
    Stdout(Bytes),
    /// To standard error.
    Stderr(Bytes),
    /// What it printed before is not kept any more.
    Skipped(Offsets),
    /// Its shell exited; all that it printed until then was told.
    Exited(JobState),
}

impl InitClient {
    /// Hears of changes in `/workspace` until `leaving` ends. Not bounded in time before.
    ///
    /// # Errors
    /// [`InitError`]; `Refused` with `TooMany` when too many watch already.
    pub async fn watch(
        &self,
        leaving: impl Future<Output = ()>,
        mut tell: impl FnMut(Told),
    ) -> Result<(), InitError> {
        let opened = tokio::time::timeout(timing::INIT_CALL, self.begin(&Call::Watch)).await;
        let mut exchange = opened.map_err(|_| InitError::TimedOut)??;
        {
            let (mut reading, mut writing, buffer) = exchange.halves();
            let leaving = pin!(leaving);
            let mut leave = Leave::new(leaving);
            let mut begun = false;
            loop {
                let kind = {
                    let mut frame = pin!(read_frame(&mut reading, buffer));
                    leave.or(&mut writing, &mut frame).await?
                };
                match decode(kind, buffer)? {
                    None if leave.left() => break,
                    Some(Reply::Watching { incomplete, .. }) if !begun => {
                        begun = true;
                        tell(Told::Watching { incomplete });
                    }
                    Some(Reply::Changes { changes, lost }) if begun => {
                        tell(Told::Changes {
                            changes: checked(changes)?,
                            lost,
                        });
                        tokio::time::sleep(timing::WATCH_PACE).await;
                    }
                    _ => return Err(UNASKED),
                }
            }
        }
        exchange.finish();
        Ok(())
    }

    /// Hears what a job prints after `from`, until its shell exits or `leaving` ends. Waits for
    /// whoever takes it; drops it when nobody does any more.
    ///
    /// # Errors
    /// [`InitError`]; `NotFound` when init does not know the job.
    pub async fn follow(
        &self,
        job: &JobId,
        from: Offsets,
        leaving: impl Future<Output = ()>,
        told: &mpsc::Sender<Followed>,
    ) -> Result<(), InitError> {
        let call = Call::Follow {
            job: job.as_str().to_owned(),
            stdout: from.stdout,
            stderr: from.stderr,
        };
        let opened = tokio::time::timeout(timing::INIT_CALL, self.begin(&call)).await;
        let mut exchange = opened.map_err(|_| InitError::TimedOut)??;
        let mut exited = false;
        {
            let (mut reading, mut writing, buffer) = exchange.halves();
            let leaving = pin!(leaving);
            let mut leave = Leave::new(leaving);
            loop {
                let kind = {
                    let mut frame = pin!(read_frame(&mut reading, buffer));
                    leave.or(&mut writing, &mut frame).await?
                };
                let event = match kind {
                    FrameKind::Data | FrameKind::DataErr if exited || buffer.is_empty() => {
                        return Err(UNASKED);
                    }
                    FrameKind::Data => Followed::Stdout(Bytes::copy_from_slice(buffer)),
                    FrameKind::DataErr => Followed::Stderr(Bytes::copy_from_slice(buffer)),
                    kind => match decode(kind, buffer)? {
                        None if exited || leave.left() => break,
                        Some(Reply::Skipped { stdout, stderr }) if !exited => {
                            Followed::Skipped(Offsets { stdout, stderr })
                        }
                        Some(Reply::Exited(state)) if !exited => {
                            if state.status == JobStatus::Running {
                                return Err(UNASKED);
                            }
                            exited = true;
                            Followed::Exited(check::job(state, job.as_str())?)
                        }
                        _ => return Err(UNASKED),
                    },
                };
                let sent = pin!(told.send(event));
                match leave.unless_left(sent).await {
                    Some(Ok(())) => {}
                    // Nobody listens, or who does is slower than sleep may wait.
                    Some(Err(_)) | None => return Ok(()),
                }
            }
        }
        exchange.finish();
        Ok(())
    }
}

/// Of when to end, and that init was told.
struct Leave<'a, F> {
    leaving: Pin<&'a mut F>,
    /// Until when init may take to end.
    deadline: Option<tokio::time::Instant>,
}

impl<'a, F: Future<Output = ()>> Leave<'a, F> {
    fn new(leaving: Pin<&'a mut F>) -> Self {
        Self {
            leaving,
            deadline: None,
        }
    }

    fn left(&self) -> bool {
        self.deadline.is_some()
    }

    /// What `frame` gives; if it is time to leave, init is told meanwhile.
    async fn or<W, T>(
        &mut self,
        writing: &mut W,
        frame: &mut Pin<&mut T>,
    ) -> Result<FrameKind, InitError>
    where
        W: tokio::io::AsyncWrite + Unpin,
        T: Future<Output = Result<FrameKind, init_protocol::codec::CodecError>>,
    {
        if self.deadline.is_none() {
            tokio::select! {
                biased;
                kind = frame.as_mut() => return Ok(kind?),
                () = self.leaving.as_mut() => {}
            }
            let deadline = tokio::time::Instant::now() + timing::WATCH_PARTING;
            self.deadline = Some(deadline);
            let end = write_frame(writing, FrameKind::End, &[]);
            tokio::time::timeout_at(deadline, end)
                .await
                .map_err(|_| InitError::TimedOut)??;
        }
        let deadline = self.deadline.unwrap_or_else(tokio::time::Instant::now);
        let kind = tokio::time::timeout_at(deadline, frame.as_mut()).await;
        Ok(kind.map_err(|_| InitError::TimedOut)??)
    }

    /// None: it is time to leave.
    async fn unless_left<T>(&mut self, work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
            None => tokio::select! {
                biased;
                done = work => Some(done),
                () = self.leaving.as_mut() => None,
            },
        }
    }
}

/// Of a list of hostile origin: so many, and each a path inside.
fn checked(changes: Vec<Change>) -> Result<Vec<Change>, InitError> {
    let inside = |path: &str| {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        path.len() <= MAX_PATH && !path.contains('\0') && path.split('/').all(plain)
    };
    let sound = |change: &Change| {
        let from = match (change.kind, &change.from) {
            (ChangeKind::Moved, Some(from)) => inside(from),
            (ChangeKind::Moved, None) | (_, Some(_)) => false,
            (_, None) => true,
        };
        from && inside(&change.path)
    };
    if changes.len() > MAX_CHANGES || !changes.iter().all(sound) {
        return Err(InitError::Protocol("not a list of changes"));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: ChangeKind, path: &str, from: Option<&str>) -> Change {
        Change {
            kind,
            path: path.to_owned(),
            from: from.map(str::to_owned),
            directory: false,
            write_id: None,
        }
    }

    #[test]
    fn what_could_lead_out_is_not_passed_on() {
        use ChangeKind::{Created, Moved};
        let fine = vec![
            change(Created, "a/b c", None),
            change(Moved, "ü", Some("a\n")),
        ];
        assert_eq!(checked(fine.clone()).unwrap(), fine);
        let long = "x".repeat(MAX_PATH + 1);
        for path in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0", &long] {
            assert!(
                checked(vec![change(Created, path, None)]).is_err(),
                "{path:?}"
            );
            assert!(checked(vec![change(Moved, "a", Some(path))]).is_err());
        }
        assert!(checked(vec![change(Moved, "a", None)]).is_err());
        assert!(checked(vec![change(Created, "a", Some("b"))]).is_err());
        let many = vec![change(Created, "a", None); MAX_CHANGES + 1];
        assert!(checked(many).is_err());
    }
}
