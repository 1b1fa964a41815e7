//! Calls to a container's init: one connection each, from this node into the container.
//!
//! Every answer is hostile input, since user code shares init's uid: it is bounded in time, size
//! and count, and checked before anyone sees it.
//!
//! Must never happen here: a retry of a call that may have been done, a wait without a bound, a
//! value passed on as it came.

mod batch;
mod check;
mod error;
mod exchange;
mod output;
mod terminals;
mod told;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::id::JobId;
use fleet::timing;
use futures_util::Stream;
use init_protocol::{
    Call, JobState, JobStatus, ListeningPort, MAX_JOBS, MAX_PROCESSES, Process, Reply, Run, Write,
};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use batch::{Batched, Change};
pub use error::InitError;
use exchange::Exchange;
pub use output::{Captured, JobOutput, OutputLimits, Since};
pub use terminals::{Attached, Heard, Hearing, Saying};
pub use told::{Followed, Offsets, Told};

/// Where a container's init listens, and the token that it knows us by. Cheap to clone; it holds
/// no connection.
#[derive(Clone)]
pub struct InitClient {
    address: SocketAddr,
    token: Arc<str>,
}

impl std::fmt::Debug for InitClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InitClient").field(&self.address).finish()
    }
}

impl InitClient {
    /// For the init at `address`, usually the container's at [`init_protocol::CONTROL_PORT`].
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            address,
            token: token.into(),
        }
    }

    /// Is it there?
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn ping(&self) -> Result<(), InitError> {
        match self.ask(&Call::Ping).await? {
            Reply::Pong { .. } => Ok(()),
            _ => Err(UNASKED),
        }
    }

    /// Pings until it answers, at most until `deadline`.
    ///
    /// # Errors
    /// The last failure; at once when init refuses us.
    pub async fn wait_ready(&self, deadline: Instant) -> Result<(), InitError> {
        let mut deadline = deadline;
        let mut pause = timing::INIT_RETRY;
        let mut attempt = timing::INIT_ATTEMPT;
        let mut last = InitError::TimedOut;
        loop {
            let attempt_ends = deadline.min(Instant::now() + attempt);
            match tokio::time::timeout_at(attempt_ends, self.ping()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused @ InitError::Refused { .. })) => return Err(refused),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
            // If this process stood still, init had no chance to be heard.
            let stalled = Instant::now().saturating_duration_since(attempt_ends);
            if stalled > timing::STALL {
                deadline += stalled;
            }
            if Instant::now() + pause >= deadline {
                return Err(last);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(timing::INIT_RETRY_MAX);
            attempt = (attempt * 2).min(timing::INIT_ATTEMPT_MAX);
        }
    }

    /// Runs a shell line and waits for its shell's exit, with what it printed until then. Bounded
    /// by the run's own time-out, or by [`timing::JOB_LONGEST`] where it has none. The same `Run`
    /// again joins the job.
    ///
    /// # Errors
    /// [`InitError`]. The job goes on when the connection breaks.
    pub async fn execute(
        &self,
        run: &Run,
        limits: OutputLimits,
    ) -> Result<(JobState, JobOutput), InitError> {
        let run = waiting(run, true);
        within(longest(&run), async {
            let mut exchange = self.begin(&Call::Run(run.clone())).await?;
            let state = exited(&mut exchange, &run.job).await?;
            let output = output::receive(&mut exchange, limits).await?;
            exchange.finish();
            Ok((state, output))
        })
        .await
    }

    /// [`InitClient::execute`] without the output.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn run(&self, run: &Run) -> Result<JobState, InitError> {
        let run = waiting(run, false);
        within(longest(&run), async {
            let mut exchange = self.begin(&Call::Run(run.clone())).await?;
            let state = exited(&mut exchange, &run.job).await?;
            exchange.finish();
            Ok(state)
        })
        .await
    }

    /// Starts a job in the background.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn start(&self, run: &Run) -> Result<(), InitError> {
        let run = Run {
            wait: false,
            output: false,
            ..run.clone()
        };
        let id = run.job.clone();
        match self.ask(&Call::Run(run)).await? {
            Reply::Started { job } if job == id => Ok(()),
            _ => Err(UNASKED),
        }
    }

    /// How a job stands.
    ///
    /// # Errors
    /// [`InitError`]; `NotFound` when init does not know it.
    pub async fn job(&self, job: &JobId) -> Result<JobState, InitError> {
        let job = job.as_str().to_owned();
        match self.ask(&Call::Job { job: job.clone() }).await? {
            Reply::Job(state) => check::job(state, &job),
            _ => Err(UNASKED),
        }
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn jobs(&self) -> Result<Vec<JobState>, InitError> {
        let jobs = self.list(&Call::Jobs, MAX_JOBS, |reply| match reply {
            Reply::Jobs { jobs } => Some(jobs),
            _ => None,
        });
        check::jobs(jobs.await?)
    }

    /// Ends a job: SIGTERM, and SIGKILL after `grace`.
    ///
    /// # Errors
    /// [`InitError`]; `NotFound` when init does not know it.
    pub async fn stop(&self, job: &JobId, grace: Duration) -> Result<JobState, InitError> {
        let job = job.as_str().to_owned();
        let call = Call::Stop {
            job: job.clone(),
            grace_ms: millis(grace),
        };
        match self.ask_within(&call, grace + timing::INIT_CALL).await? {
            Reply::Job(state) => check::job(state, &job),
            _ => Err(UNASKED),
        }
    }

    /// What a job printed, as far as it was kept.
    ///
    /// # Errors
    /// [`InitError`]; `NotFound` when init does not know it.
    pub async fn output(&self, job: &JobId, limits: OutputLimits) -> Result<JobOutput, InitError> {
        let call = Call::Output {
            job: job.as_str().to_owned(),
        };
        within(timing::INIT_LONG_CALL, async {
            let mut exchange = self.begin(&call).await?;
            let output = output::receive(&mut exchange, limits).await?;
            exchange.finish();
            Ok(output)
        })
        .await
    }

    /// Writes a file as `content` comes; it appears whole or not at all. Bounded by silence
    /// ([`timing::BODY_SILENCE`]) only. Returns the write's number, which a watch names.
    ///
    /// # Errors
    /// [`InitError`]; `Source` when `content` fails.
    pub async fn write(
        &self,
        write: Write,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<u64, InitError> {
        let opened = within(timing::INIT_CALL, self.begin(&Call::Write(write))).await;
        let mut exchange = opened?;
        match exchange.send_body(content).await? {
            Reply::Written { write_id } => {
                exchange.finish();
                Ok(write_id)
            }
            _ => Err(UNASKED),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn mkdir(
        &self,
        path: &str,
        parents: bool,
        mode: Option<u32>,
    ) -> Result<u64, InitError> {
        let call = Call::Mkdir {
            path: path.to_owned(),
            parents,
            mode,
        };
        match self.ask(&call).await? {
            Reply::Written { write_id } => Ok(write_id),
            _ => Err(UNASKED),
        }
    }

    /// Removes a file, or a directory with all in it.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn remove(&self, path: &str) -> Result<(), InitError> {
        let call = Call::Remove {
            path: path.to_owned(),
        };
        match self.ask_within(&call, timing::INIT_LONG_CALL).await? {
            Reply::Done => Ok(()),
            _ => Err(UNASKED),
        }
    }

    /// Listening ports, by number, without init's own.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn ports(&self) -> Result<Vec<ListeningPort>, InitError> {
        let max = init_protocol::MAX_PORTS;
        let ports = self.list(&Call::Ports, max, |reply| match reply {
            Reply::Ports { ports } => Some(ports),
            _ => None,
        });
        check::ports(ports.await?)
    }

    /// How many TCP connections its processes have with the outside.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn connections(&self) -> Result<u32, InitError> {
        match self.ask(&Call::Connections).await? {
            Reply::Connections { count } => Ok(count),
            _ => Err(UNASKED),
        }
    }

    /// Processes, by number.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn processes(&self) -> Result<Vec<Process>, InitError> {
        let processes = self.list(&Call::Processes, MAX_PROCESSES, |reply| match reply {
            Reply::Processes { processes } => Some(processes),
            _ => None,
        });
        Ok(check::processes(processes.await?))
    }

    /// A connection to what listens on `port` of the container's loopback.
    ///
    /// # Errors
    /// [`InitError`]; `NotListening` when nothing does.
    pub async fn forward(&self, port: u16) -> Result<TcpStream, InitError> {
        within(timing::INIT_CALL + timing::CONNECT, async {
            let call = Call::Forward { port };
            let mut exchange = Exchange::open_raw(self.address, &self.token, &call).await?;
            match exchange.reply().await? {
                Reply::Connected => Ok(exchange.into_stream()),
                _ => Err(UNASKED),
            }
        })
        .await
    }

    async fn begin(&self, call: &Call) -> Result<Exchange, InitError> {
        Exchange::open(self.address, &self.token, call).await
    }

    async fn ask(&self, call: &Call) -> Result<Reply, InitError> {
        self.ask_within(call, timing::INIT_CALL).await
    }

    async fn ask_within(&self, call: &Call, limit: Duration) -> Result<Reply, InitError> {
        within(limit, async {
            let mut exchange = self.begin(call).await?;
            let reply = exchange.reply().await?;
            exchange.finish();
            Ok(reply)
        })
        .await
    }

    async fn list<T>(
        &self,
        call: &Call,
        max: usize,
        entries: impl Fn(Reply) -> Option<Vec<T>>,
    ) -> Result<Vec<T>, InitError> {
        within(timing::INIT_CALL, async {
            let mut exchange = self.begin(call).await?;
            let mut all = Vec::new();
            while let Some(reply) = exchange.reply_or_end().await? {
                let some = entries(reply).ok_or(UNASKED)?;
                if some.is_empty() && !all.is_empty() || all.len() + some.len() > max {
                    return Err(InitError::Protocol("a list is too long"));
                }
                all.extend(some);
            }
            exchange.finish();
            Ok(all)
        })
        .await
    }
}

const UNASKED: InitError = InitError::Protocol("an answer to another question");

fn waiting(run: &Run, output: bool) -> Run {
    Run {
        wait: true,
        output,
        ..run.clone()
    }
}

/// How long the run itself may take, and its answer.
fn longest(run: &Run) -> Duration {
    let limit = run
        .timeout_ms
        .map_or(timing::JOB_LONGEST, Duration::from_millis)
        .min(timing::JOB_LONGEST);
    let grace = Duration::from_millis(run.grace_ms).min(timing::JOB_LONGEST);
    limit + grace + timing::INIT_CALL
}

async fn exited(exchange: &mut Exchange, id: &str) -> Result<JobState, InitError> {
    match exchange.reply().await? {
        Reply::Started { job } if job == id => {}
        _ => return Err(UNASKED),
    }
    match exchange.reply().await? {
        Reply::Exited(state) if state.status != JobStatus::Running => check::job(state, id),
        _ => Err(UNASKED),
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, InitError>>,
) -> Result<T, InitError> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or(Err(InitError::TimedOut))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
