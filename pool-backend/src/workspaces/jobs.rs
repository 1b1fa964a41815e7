//! Commands in a workspace: run and waited for, or left running as jobs.
//!
//! Must never happen here: a command that runs twice, or output believed to be text.

use std::time::Duration;

use fleet::id::JobId;
use fleet::timing;
use init_protocol::{JobState, JobStatus, MAX_COMMAND, Run};
use time::OffsetDateTime;

use super::path::working_dir;
use super::{Command, Job, Workspace};
use crate::error::{Error, ErrorKind};
use crate::init_client::{JobOutput, OutputLimits};

/// Variables that a command may bring along, and their bytes together.
const MAX_VARIABLES: usize = 512;
const MAX_ENVIRONMENT: usize = 128 * 1024;

impl Workspace {
    /// Runs a shell line and waits for its shell to exit; what it left in the background goes on.
    /// After its timeout it is killed and its status is `Timeout`.
    ///
    /// # Errors
    /// `Invalid`; `NotReady` when the workspace does not start, or ends meanwhile.
    pub async fn execute(&self, command: Command) -> Result<Job, Error> {
        let timeout = command.timeout.unwrap_or(timing::EXECUTE_DEFAULT);
        let run = checked(command, Some(timeout))?;
        let (state, output) = self
            .calling(|init| {
                let run = run.clone();
                async move { init.execute(&run, OutputLimits::ALL).await }
            })
            .await?;
        Ok(job(state, Some(output)))
    }

    /// Starts a shell line and leaves it running. Of one that has ended already, all that it said.
    ///
    /// # Errors
    /// As [`Workspace::execute`].
    pub async fn start_job(&self, command: Command) -> Result<Job, Error> {
        let timeout = command.timeout;
        let run = checked(command, timeout)?;
        let id: JobId = run.job.parse().map_err(|error| {
            Error::caused(ErrorKind::Internal, "the job was not started", error)
        })?;
        let (state, output) = self
            .calling(|init| {
                let (run, id) = (run.clone(), id.clone());
                async move {
                    init.start(&run).await?;
                    let state = init.job(&id).await?;
                    let output = match state.status {
                        JobStatus::Running => None,
                        _ => Some(init.output(&id, OutputLimits::ALL).await?),
                    };
                    Ok((state, output))
                }
            })
            .await?;
        Ok(job(state, output))
    }

    /// One job with the output that was kept. Jobs sleep and wake with their workspace, which is
    /// woken to look. They end with their container: none is found in a stopped one, and nothing
    /// is started to look.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`.
    pub async fn job(&self, id: &JobId) -> Result<Job, Error> {
        let (state, output) = self.state_and_output(id).await?;
        Ok(job(state, Some(output)))
    }

    /// One job, without its text, and its output as bytes, for who follows it. What the job's end
    /// is said with is all that it printed.
    ///
    /// # Errors
    /// As [`Workspace::job`].
    pub async fn job_and_output(&self, id: &JobId) -> Result<(Job, JobOutput), Error> {
        let (state, output) = self.state_and_output(id).await?;
        Ok((job(state, None), output))
    }

    async fn state_and_output(&self, id: &JobId) -> Result<(JobState, JobOutput), Error> {
        let found = self
            .while_alive(|init| async move {
                let state = init.job(id).await?;
                Ok((state, init.output(id, OutputLimits::ALL).await?))
            })
            .await?;
        found.ok_or_else(no_such_job)
    }

    /// All jobs that init remembers, oldest first, without their output.
    ///
    /// # Errors
    /// `NotReady`.
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        let states = self.while_alive(|init| async move { init.jobs().await });
        let states = states.await?.unwrap_or_default();
        Ok(states.into_iter().map(|state| job(state, None)).collect())
    }

    /// SIGTERM, and SIGKILL if that does not help.
    ///
    /// # Errors
    /// `NotFound`; `NotReady`.
    pub async fn stop_job(&self, id: &JobId) -> Result<Job, Error> {
        let stopped = self
            .while_alive(|init| async move { init.stop(id, timing::JOB_KILL_GRACE).await })
            .await?;
        Ok(job(stopped.ok_or_else(no_such_job)?, None))
    }
}

pub(super) fn checked(command: Command, timeout: Option<Duration>) -> Result<Run, Error> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::Invalid, message));
    if command.command.len() > MAX_COMMAND {
        return invalid("the command is longer than 128 KiB; write it to a file and run that");
    }
    if command.command.contains('\0') {
        return invalid("the command contains a NUL byte");
    }
    if command.environment.len() > MAX_VARIABLES {
        return invalid("more than 512 environment variables");
    }
    let mut bytes = 0;
    for (name, value) in &command.environment {
        bytes += name.len() + value.len() + 2;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return invalid("an environment variable has an unusable name or value");
        }
    }
    if bytes > MAX_ENVIRONMENT {
        return invalid("the environment is longer than 128 KiB");
    }
    Ok(Run {
        job: JobId::mint().as_str().to_owned(),
        command: command.command,
        working_dir: working_dir(&command.working_dir)?,
        environment: command.environment,
        wait: false,
        output: false,
        timeout_ms: timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        grace_ms: u64::try_from(timing::JOB_KILL_GRACE.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The client has checked what init says.
pub(super) fn job(state: JobState, output: Option<JobOutput>) -> Job {
    let output = output.unwrap_or_default();
    Job {
        // Checked too: it is the one that we asked for.
        id: state.job.parse().unwrap_or_else(|_| JobId::mint()),
        command: state.command,
        status: state.status,
        exit_code: state.exit_code,
        stdout: output.stdout.to_text(),
        stderr: output.stderr.to_text(),
        started_at: moment(state.started_at_ms),
        completed_at: state.ended_at_ms.map(moment),
        duration: state.duration_ms.map(Duration::from_millis),
    }
}

pub(super) fn moment(millis: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn no_such_job() -> Error {
    Error::new(ErrorKind::NotFound, "no such job")
}
