//! What a node and a container's init say to each other.
//!
//! TCP inside the container's netns, to [`CONTROL_PORT`]. One connection carries one call:
//! the node sends a [`Hello`] frame and a [`Call`] frame, then whatever body frames the call has;
//! init answers with [`Reply`] and body frames. The node closes first, so that TIME_WAIT never
//! stands on the container's side (a checkpoint would refuse it). After [`Reply::Connected`] the
//! connection is the app's, byte for byte.
//!
//! A frame is a kind byte, a big-endian u32 length, and that many bytes, at most [`MAX_FRAME`];
//! [`codec`] reads and writes them. Lists come as any number of replies of one kind, then `End`.
//! [`terminal`] has what is said about terminals.
//!
//! Must never happen here: trust. User code shares init's uid; the node checks and bounds every
//! answer.

use serde::{Deserialize, Serialize};

pub mod codec;
mod watch;

pub use watch::{Change, ChangeKind, HOME, Lost, MAX_CHANGES, MAX_WATCHED, MAX_WATCHES};
pub mod terminal;

use terminal::{OpenTerminal, TerminalSize, TerminalState};

/// Where init listens in the container. Never routable: the host parser and the door refuse it.
pub const CONTROL_PORT: u16 = 64_999;
/// Longest payload of a frame.
pub const MAX_FRAME: usize = 256 * 1024;
/// Bytes of each output stream that are kept from the start and from the end of a job.
pub const OUTPUT_HEAD: usize = 512 * 1024;
/// See [`OUTPUT_HEAD`].
pub const OUTPUT_TAIL: usize = 512 * 1024;
/// Longest shell line: the kernel takes no longer argument.
pub const MAX_COMMAND: usize = 128 * 1024 - 1;
/// Bytes of a shell line that [`JobState`] repeats; of a process's that [`Process`] does.
pub const COMMAND_SHOWN: usize = 4096;
/// Jobs that are remembered; the oldest finished one goes first.
pub const MAX_JOBS: usize = 1000;
/// Entries of a list of ports.
pub const MAX_PORTS: usize = 1024;
/// Entries of a list of processes.
pub const MAX_PROCESSES: usize = 4096;

/// Kind byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// JSON: [`Hello`].
    Hello = 1,
    /// JSON: [`Call`].
    Call = 2,
    /// JSON: [`Reply`].
    Reply = 3,
    /// Raw bytes: file content, or a job's standard output.
    Data = 4,
    /// Raw bytes: a job's standard error.
    DataErr = 5,
    /// Empty: the body is complete. A connection that ends without it was cut.
    End = 6,
}

/// First frame of a connection.
#[derive(Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the node.
    pub version: u32,
    /// The container's token.
    pub token: String,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Version of this protocol; init answers another with `Refused`.
pub const VERSION: u32 = 1;

/// What the node asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Are you there? → `Pong`.
    Ping,
    /// Run a shell line → `Started`, and if `wait`, `Exited` when its shell has exited, and if
    /// `output`, what `Output` answers. A dropped connection does not end the job.
    Run(Run),
    /// State of one job → `Job`.
    Job {
        /// Its id.
        job: String,
    },
    /// All jobs, oldest first → `Jobs`…, `End`.
    Jobs,
    /// SIGTERM to the job's process group, SIGKILL after `grace_ms` → `Job`, when its shell has
    /// exited. What a finished job left running in its group goes too.
    Stop {
        /// Its id.
        job: String,
        /// Between the two signals.
        grace_ms: u64,
    },
    /// Kept output → `Output`, then `Data` and `DataErr` frames, `End`.
    Output {
        /// Its id.
        job: String,
    },
    /// What a job prints from an offset of each stream on, until its shell exits → `Data` and
    /// `DataErr` frames and `Skipped`, then `Exited`, `End`. The node may end it with `End`.
    Follow {
        /// Its id.
        job: String,
        /// Bytes of standard output that the node has.
        stdout: u64,
        /// Of standard error.
        stderr: u64,
    },
    /// Tell of changes of files → `Watching`, then `Changes`… until the node sends `End`, then the
    /// rest and `End`.
    Watch,
    /// Write a file: body frames follow, `End` → `Written`. Atomic (temporary file, rename).
    Write(Write),
    /// Make a directory → `Written`.
    Mkdir {
        /// Relative to `/workspace`, as in [`Write`].
        path: String,
        /// Make missing parents too, and be content with a directory that is there.
        parents: bool,
        /// Permission bits; default 0755.
        mode: Option<u32>,
    },
    /// Remove a file, or a directory with all in it → `Done`.
    Remove {
        /// Relative to `/workspace`, as in [`Write`]. A symlink itself goes, never its target.
        path: String,
    },
    /// Make a symbolic link in place of a file or link that is there → `Written`.
    Link {
        /// Relative to `/workspace`, as in [`Write`].
        path: String,
        /// Where it leads, as it is written into the link.
        target: String,
    },
    /// Many changes: for each a `Call` frame (`Write` with its body frames and `End`, `Mkdir`,
    /// `Link`), `End` after the last of them → `Batch`, early when one of them is refused; those
    /// before it are done.
    Batch,
    /// Listening TCP ports, but [`CONTROL_PORT`] → `Ports`, `End`.
    Ports,
    /// Open TCP connections with the outside, but those to [`CONTROL_PORT`] → `Connections`.
    Connections,
    /// Processes → `Processes`…, `End`.
    Processes,
    /// Start a program at a terminal of its own → `Terminal`.
    OpenTerminal(OpenTerminal),
    /// State of one terminal → `Terminal`.
    Terminal {
        /// Its id.
        terminal: String,
    },
    /// All terminals, oldest first → `Terminals`…, `End`.
    Terminals,
    /// SIGHUP to all that runs at a terminal, SIGKILL after `grace_ms` → `Terminal`, when its
    /// program has exited. What is left of it is forgotten.
    CloseTerminal {
        /// Its id.
        terminal: String,
        /// Between the two signals.
        grace_ms: u64,
    },
    /// See and use a terminal → `Attached`; from there on both talk at once. Init: `Data` frames of
    /// output, `Gap`, `Taken`; when the program has exited and all of its output was said,
    /// `Terminal` and `End`. The node: `Data` frames of input, and `Call` frames of [`Self::Resize`].
    Attach {
        /// Its id.
        terminal: String,
        /// Who attaches, minted by the node: who comes back under the same name is told how much
        /// of its input arrived.
        viewer: String,
        /// Bytes of output that it has seen; none: begin with what is kept.
        offset: Option<u64>,
    },
    /// Only within `Attach`: the terminal's window has this size now. No reply.
    Resize(TerminalSize),
    /// Connect to 127.0.0.1 (then ::1) at this port → `Connected`, then raw bytes both ways.
    Forward {
        /// The app's.
        port: u16,
    },
}

/// A shell line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Minted by the node; a second `Run` with the same id joins the first.
    pub job: String,
    /// For `/bin/sh -c` (bash where there is one).
    pub command: String,
    /// Absolute, inside the container.
    pub working_dir: String,
    /// Added to the container's own.
    pub environment: Vec<(String, String)>,
    /// Wait for the shell's exit.
    pub wait: bool,
    /// With `wait`: send the kept output after `Exited`.
    pub output: bool,
    /// Then kill the process group: SIGTERM, and SIGKILL after `grace_ms`. Status `timeout`.
    pub timeout_ms: Option<u64>,
    /// See `timeout_ms`.
    pub grace_ms: u64,
}

/// A file to write. Paths are relative to `/workspace`, without `..`, checked again by init.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Write {
    /// Relative to `/workspace`.
    pub path: String,
    /// Permission bits; default 0644, or those of the file replaced.
    pub mode: Option<u32>,
    /// Make missing parent directories.
    pub parents: bool,
    /// Fail with `Exists` when something is there.
    pub exclusive: bool,
}

/// What init answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Ping`.
    Pong {
        /// [`VERSION`] of this init.
        version: u32,
    },
    /// The job runs, or ran already.
    Started {
        /// Its id.
        job: String,
    },
    /// The job's shell has exited.
    Exited(JobState),
    /// How the job stands.
    Job(JobState),
    /// Some jobs; `End` follows the last of them.
    Jobs {
        /// Oldest first.
        jobs: Vec<JobState>,
    },
    /// What the following `Data` and `DataErr` frames hold.
    Output {
        /// `Data`.
        stdout: OutputMeta,
        /// `DataErr`.
        stderr: OutputMeta,
    },
    /// It is there.
    Written {
        /// Rises with each write; a watch names it.
        write_id: u64,
    },
    /// To `Batch`.
    Batch {
        /// Changes that are made.
        done: u64,
        /// Why the one after them is not, if that ended it.
        refused: Option<Reason>,
    },
    /// Bytes of a followed job that are not kept any more, before what follows.
    Skipped {
        /// Of standard output.
        stdout: u64,
        /// Of standard error.
        stderr: u64,
    },
    /// From here on every change is told, or that some are lost.
    Watching {
        /// Directories that are watched.
        directories: u32,
        /// There are more of them.
        incomplete: bool,
    },
    /// In order.
    Changes {
        /// At most [`MAX_CHANGES`].
        changes: Vec<Change>,
        /// Others were not seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<Lost>,
    },
    /// It is gone.
    Done,
    /// Ports; `End` follows.
    Ports {
        /// By number, each once, at most [`MAX_PORTS`].
        ports: Vec<ListeningPort>,
    },
    /// How many there are.
    Connections {
        /// Held by a process; both ends are not in this container.
        count: u32,
    },
    /// Some processes; `End` follows the last of them.
    Processes {
        /// By number, at most [`MAX_PROCESSES`] in all.
        processes: Vec<Process>,
    },
    /// How the terminal stands.
    Terminal(TerminalState),
    /// Some terminals; `End` follows the last of them.
    Terminals {
        /// Oldest first.
        terminals: Vec<TerminalState>,
    },
    /// Output follows from here on.
    Attached {
        /// How the terminal stands.
        terminal: TerminalState,
        /// The number of the first byte that follows: at least what was asked for.
        offset: u64,
        /// Bytes of this viewer's input that arrived before.
        taken: u64,
    },
    /// Within `Attach`: this much output is lost to this viewer, who was too slow.
    Gap {
        /// How many.
        bytes: u64,
    },
    /// Within `Attach`: this much of the viewer's input has arrived, ever.
    Taken {
        /// How many.
        bytes: u64,
    },
    /// From here on the connection is the app's.
    Connected,
    /// Init did not do it.
    Refused {
        /// For decisions.
        kind: RefusalKind,
        /// For logs, and for users once checked.
        message: String,
    },
}

/// Why a change of a batch was not made: what `Reply::Refused` says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For decisions.
    pub kind: RefusalKind,
    /// For logs, and for users once checked.
    pub message: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct JobState {
    pub job: String,
    pub command: String,
    pub status: JobStatus,
    /// Exit code; 128 + signal when a signal ended it.
    pub exit_code: Option<i32>,
    /// Milliseconds since the Unix epoch, by the container's clock.
    pub started_at_ms: u64,
    pub ended_at_ms: Option<u64>,
    /// By a monotonic clock.
    pub duration_ms: Option<u64>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the API's words")]
pub enum JobStatus {
    Running,
    Completed,
    Failed,
    Timeout,
    Stopped,
}

/// What was kept of an output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutputMeta {
    /// Bytes ever written.
    pub total: u64,
    /// Bytes that follow from the start.
    pub head: u64,
    /// Bytes that follow from the end; `total - head - tail` were left out between.
    pub tail: u64,
}

/// A listening TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningPort {
    /// The port.
    pub port: u16,
    /// Bound to a loopback address only: reached through [`Call::Forward`].
    pub loopback_only: bool,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub user: String,
    pub command: String,
    /// Since its start.
    pub cpu_ms: u64,
    pub resident_bytes: u64,
}

/// Why init did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "plain")]
pub enum RefusalKind {
    /// Who calls does not know the token.
    Stranger,
    BadCall,
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    Denied,
    NoSpace,
    TooMany,
    NotListening,
    Other,
}
