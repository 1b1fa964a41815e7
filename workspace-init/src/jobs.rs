//! All jobs of this container: started, reaped, kept within bounds, forgotten.
//!
//! Must never happen here: an exit status lost to the reaper of orphans (both are one), or a
//! bound that only holds for well-behaved jobs.

mod direct;
mod job;
mod log;
mod segments;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use init_protocol::{JobState, JobStatus, MAX_JOBS, RefusalKind, Run};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::refusal::Refusal;
pub use job::{Job, check_id, check_words};
use log::{Log, Usage};
use stream::Stream;

/// Jobs that run or whose children still write; each has up to four file descriptors.
const MAX_LIVE: usize = 400;
/// Bytes of output of all jobs that are kept in memory.
const MEMORY: usize = 16 * 1024 * 1024;
/// Bytes of output of all jobs that are kept on disk.
const DISK: u64 = 1024 * 1024 * 1024;

/// See the module.
pub struct Jobs {
    usage: Rc<Usage>,
    /// Oldest first.
    jobs: RefCell<VecDeque<Rc<Job>>>,
    by_id: RefCell<HashMap<String, Rc<Job>>>,
    /// Whose shell was not reaped yet.
    by_pid: RefCell<HashMap<Pid, Rc<Job>>>,
    /// Who else waits for a child.
    exits: RefCell<HashMap<Pid, oneshot::Sender<WaitStatus>>>,
    scratch: RefCell<Vec<u8>>,
}

impl Jobs {
    /// Starts reaping. Files of an earlier init are removed: its jobs are gone.
    pub fn start(dir: &Path) -> io::Result<Rc<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        remove_old(&dir);
        let jobs = Rc::new(Self {
            usage: Rc::new(Usage {
                dir,
                memory: Cell::new(0),
                disk: Cell::new(0),
                disk_full: Cell::new(false),
            }),
            jobs: RefCell::default(),
            by_id: RefCell::default(),
            by_pid: RefCell::default(),
            exits: RefCell::default(),
            scratch: RefCell::new(vec![0; stream::CHUNK]),
        });
        let children = signal(SignalKind::child())?;
        tokio::task::spawn_local(jobs.clone().reap(children));
        Ok(jobs)
    }

    /// Starts a job, or joins the one that has this id.
    pub fn run(self: &Rc<Self>, run: &Run) -> Result<Rc<Job>, Refusal> {
        if let Some(job) = self.by_id.borrow().get(&run.job) {
            return Ok(job.clone());
        }
        job::check(run)?;
        self.make_room()?;
        let open = |ending| {
            let log = Log::new(self.usage.clone(), format!("{}.{ending}", run.job));
            Stream::open(log).map_err(|error| Refusal::failed("no pipe", &error))
        };
        let job = Rc::new(Job::spawn(run, open("out")?, open("err")?)?);
        for other in self
            .jobs
            .borrow()
            .iter()
            .filter(|other| other.pid == job.pid)
        {
            other.lose_group();
        }
        self.by_pid.borrow_mut().insert(job.pid, job.clone());
        self.by_id.borrow_mut().insert(job.id.clone(), job.clone());
        self.jobs.borrow_mut().push_back(job.clone());
        for stream in [&job.stdout, &job.stderr] {
            let (jobs, stream) = (self.clone(), stream.clone());
            tokio::task::spawn_local(async move {
                stream.drain(&jobs.scratch, || jobs.keep_bounds()).await;
            });
        }
        if let Some(limit) = run.timeout_ms {
            let job = job.clone();
            let grace = Duration::from_millis(run.grace_ms);
            tokio::task::spawn_local(async move {
                job.end_after(Duration::from_millis(limit), grace).await;
            });
        }
        Ok(job)
    }

    /// How a child ends that is no job. Ask before anything else has a turn, lest it was reaped.
    pub fn exit_of(&self, pid: Pid) -> oneshot::Receiver<WaitStatus> {
        let (told, exit) = oneshot::channel();
        self.exits.borrow_mut().insert(pid, told);
        exit
    }

    pub fn get(&self, id: &str) -> Result<Rc<Job>, Refusal> {
        let job = self.by_id.borrow().get(id).cloned();
        job.ok_or_else(|| Refusal::new(RefusalKind::NotFound, "no such job"))
    }

    /// Oldest first.
    pub fn states(&self) -> Vec<JobState> {
        self.jobs.borrow().iter().map(|job| job.state()).collect()
    }

    /// SIGTERM, and SIGKILL after `grace`. It goes on when the caller does not wait for it.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<JobState, Refusal> {
        let job = self.get(id)?;
        let ending = job.clone();
        let ended = tokio::task::spawn_local(async move {
            ending.end(JobStatus::Stopped, grace).await;
        });
        // A task of ours ends only by ending: nothing aborts it.
        let _ = ended.await;
        Ok(job.state())
    }

    /// Forgets the oldest finished job when there are too many.
    fn make_room(&self) -> Result<(), Refusal> {
        let mut jobs = self.jobs.borrow_mut();
        if jobs.iter().filter(|job| job.is_live()).count() >= MAX_LIVE {
            return Err(Refusal::new(RefusalKind::TooMany, "too many jobs run"));
        }
        while jobs.len() >= MAX_JOBS {
            let oldest = jobs.iter().position(|job| !job.is_running());
            let Some(job) = oldest.and_then(|at| jobs.remove(at)) else {
                return Err(Refusal::new(RefusalKind::TooMany, "too many jobs"));
            };
            self.by_id.borrow_mut().remove(&job.id);
            job.stdout.forget();
            job.stderr.forget();
        }
        Ok(())
    }

    /// Takes memory, then disk, from the oldest jobs while all together have too much.
    fn keep_bounds(&self) {
        let usage = &self.usage;
        let streams = |job: &Rc<Job>| [job.stdout.clone(), job.stderr.clone()];
        if usage.memory.get() > MEMORY {
            for stream in self.jobs.borrow().iter().flat_map(streams) {
                stream.log().spill();
                if usage.memory.get() <= MEMORY {
                    break;
                }
            }
        }
        if usage.disk.get() > DISK {
            let jobs = self.jobs.borrow();
            let finished = jobs.iter().filter(|job| !job.is_live());
            for stream in finished.flat_map(streams) {
                stream.log().remove_files();
                if usage.disk.get() <= DISK {
                    break;
                }
            }
        }
        usage.disk_full.set(usage.disk.get() > DISK);
    }

    async fn reap(self: Rc<Self>, mut children: Signal) {
        loop {
            while let Some((pid, status)) = reap_one() {
                if let Some(job) = self.by_pid.borrow_mut().remove(&pid) {
                    // What the shell wrote is in the pipes by now, and so belongs to the answer.
                    job.stdout.drain_now(&self.scratch);
                    job.stderr.drain_now(&self.scratch);
                    job.exited(status);
                } else if let Some(told) = self.exits.borrow_mut().remove(&pid) {
                    // Nobody may want to know any more.
                    let _ = told.send(status);
                }
            }
            self.keep_bounds();
            if children.recv().await.is_none() {
                // Cannot be while the runtime lives; then nobody needs us.
                return;
            }
        }
    }
}

/// One dead child, ours or an orphan.
fn reap_one() -> Option<(Pid, WaitStatus)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::INTR) => {}
            reaped => return reaped.ok().flatten(),
        }
    }
}

fn remove_old(dir: &rustix::fd::OwnedFd) {
    let Ok(entries) = Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let text = name.to_bytes();
        let ours = [
            ".out.0",
            ".out.1",
            ".out.head",
            ".err.0",
            ".err.1",
            ".err.head",
        ];
        if ours.iter().any(|ending| text.ends_with(ending.as_bytes())) {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        }
    }
}
