//! Every interval of the platform, with their order asserted at compile time.
//!
//! Must never happen elsewhere: a literal duration in code that waits.

use std::time::Duration;

/// Answer a waiting API call or request before the SDK's own 30 s of silence.
pub const WAKE_DEADLINE: Duration = Duration::from_secs(25);
/// Latest answer to an API call; the SDK gives up at 30 s.
pub const API_DEADLINE: Duration = Duration::from_secs(28);
/// A lost change message delays a waiter by at most this.
pub const ROUTE_POLL: Duration = Duration::from_secs(1);
/// A browser's navigation that would wait longer than this gets the holding page.
pub const HOLDING_PAGE_AFTER: Duration = Duration::from_secs(1);
/// A shell line that may run at most this long is answered in silence; 408 when it did not end.
pub const EXEC_SILENT_MAX: Duration = Duration::from_secs(25);
/// A shell line that may run longer is answered with white space from here on, lest the SDK
/// (30 s of silence) gives up.
pub const EXEC_FIRST_BYTE: Duration = Duration::from_secs(20);
/// Between two such bytes.
pub const EXEC_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between the two samples of which a CPU percentage is made.
pub const USAGE_SAMPLE: Duration = Duration::from_millis(200);
/// What is left of a refused request's body is read and thrown away for this long, so that the
/// client sees the answer and not a broken pipe.
pub const REFUSED_BODY: Duration = Duration::from_secs(5);
/// After an accept that failed (too many open files, mostly).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Connecting to a container on this machine.
pub const CONNECT: Duration = Duration::from_secs(3);
/// A container that was silent for this long is suspected to be dead; its runtime is asked.
pub const SUSPICION: Duration = Duration::from_millis(500);
/// TLS handshake of a visitor.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// All header bytes of a request, counted from its first byte or from accept.
pub const REQUEST_HEADERS: Duration = Duration::from_secs(15);
/// Idle keep-alive connection of a visitor.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// First byte of an app's answer; then a 504.
pub const RESPONSE_HEADERS: Duration = Duration::from_secs(120);
/// Silence within a body, either direction.
pub const BODY_SILENCE: Duration = Duration::from_secs(120);
/// A request body may be arbitrarily slow for this long; after that it has a minimum rate.
pub const BODY_GRACE: Duration = Duration::from_secs(30);
/// An idle connection to an app is kept this long: below the 5 s after which Node and uvicorn
/// close theirs, so that we rarely send into a closing one.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(4);
/// What a refused visitor still sends is read this long, so that the refusal reaches it.
pub const LINGER: Duration = Duration::from_secs(1);
/// First pause when door and directory disagree about a workspace; grows with each look.
pub const DISAGREEMENT: Duration = Duration::from_millis(50);
/// After a failed accept (no file descriptors left).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence of both ends of a websocket before we ask with a ping.
pub const WEBSOCKET_PING: Duration = Duration::from_secs(30);
/// A websocket whose key comes in its first message has shown it within this.
pub const WEBSOCKET_AUTH: Duration = Duration::from_secs(5);
/// Silence of both ends of a websocket before it is closed.
pub const WEBSOCKET_SILENCE: Duration = Duration::from_secs(600);
/// Silence of an app on an event stream that was asked for: it may be asleep for as long.
pub const EVENTS_SILENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A visitor's connection is idle for this long before the kernel asks whether it is there.
pub const PROBE_AFTER: Duration = Duration::from_secs(60);
/// Between two such questions.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// From the request for an upgrade to its answer, wakes and slow apps included.
pub const UPGRADE: Duration = Duration::from_secs(240);
/// A visitor whom we say goodbye has this long to agree; within [`LINGER`].
pub const CLOSING: Duration = Duration::from_millis(800);
/// An app that is stopped within this after a visitor's message, unanswered, may not have read it:
/// it is woken again.
pub const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// An open door and what is told of it agree within this.
pub const STANDING_SETTLES: Duration = Duration::from_secs(2);
/// In-flight requests on SIGTERM.
pub const DRAIN: Duration = Duration::from_secs(10);
/// A started container's init answers within this.
pub const INIT_READY: Duration = Duration::from_secs(10);
/// A restored container's init answers within this while its container lives, or never: seen are some
/// 50 ms alone, and over 8 s where a hundred wake on two cores. Memory is worth the wait: who asked
/// is told to come again after [`WAKE_DEADLINE`], and the wake goes on without them.
pub const INIT_AWAKE: Duration = Duration::from_secs(20);
/// A pause that took this much longer than it should: this process stood still, and what was waited
/// for may be there all the same.
pub const STALL: Duration = Duration::from_secs(1);
/// For a look at all files of a volume, whether any has changed; longer counts as changed.
pub const VOLUME_LOOK: Duration = Duration::from_secs(4);
/// A fail point that waits goes on by itself after this.
pub const FAIL_POINT: Duration = Duration::from_secs(120);
/// A short question to init (ports, stat, …).
pub const INIT_CALL: Duration = Duration::from_secs(5);
/// A long question to init (removing a tree, all of a job's output, the end of a write).
pub const INIT_LONG_CALL: Duration = Duration::from_secs(25);
/// The first attempt to reach an init that is just starting; the next may take twice as long, up to
/// [`INIT_ATTEMPT_MAX`]: what is given up too early on a busy machine only makes it busier.
pub const INIT_ATTEMPT: Duration = Duration::from_millis(250);
/// Longest such attempt.
pub const INIT_ATTEMPT_MAX: Duration = Duration::from_secs(4);
/// First pause between two such attempts; doubles up to [`INIT_RETRY_MAX`].
pub const INIT_RETRY: Duration = Duration::from_millis(1);
/// Longest pause between two such attempts.
pub const INIT_RETRY_MAX: Duration = Duration::from_millis(20);
/// A job without a time-out of its own is waited for this long.
pub const JOB_LONGEST: Duration = Duration::from_secs(3600);
/// Between SIGHUP and SIGKILL at a terminal that is closed.
pub const TERMINAL_GRACE: Duration = Duration::from_secs(2);
/// Input of a terminal that its program does not read keeps a workspace awake for this long.
pub const TERMINAL_INPUT: Duration = Duration::from_secs(5);
/// Before a viewer of a terminal is connected again; grows with each failure.
pub const TERMINAL_RETRY: Duration = Duration::from_millis(100);
/// A runtime's command (create, start, kill, delete, state).
pub const RUNTIME_COMMAND: Duration = Duration::from_secs(20);
/// The kernel answers a change of its packet filter within this.
pub const KERNEL_ANSWER: Duration = Duration::from_secs(5);
/// Between two looks whether the commands of a killed process have ended.
pub const SETTLE_LOOK: Duration = Duration::from_millis(20);
/// Between two looks at a cgroup whose processes are dying.
pub const CGROUP_POLL: Duration = Duration::from_millis(2);
/// For all processes of a container to stand still.
pub const FREEZE: Duration = Duration::from_secs(2);
/// Links whose namespaces were taken away are gone by themselves within this.
pub const LINKS_GONE: Duration = Duration::from_secs(5);
/// Between two looks at them.
pub const LINKS_POLL: Duration = Duration::from_millis(10);
/// Between two messages of a container about changes of its files.
pub const WATCH_PACE: Duration = Duration::from_millis(2);
/// Before a container stands still: for its init to say what it has seen until then.
pub const WATCH_PARTING: Duration = Duration::from_millis(500);
/// A watch that failed is tried again after this, doubling up to [`START_BACKOFF_MAX`].
pub const WATCH_RETRY: Duration = Duration::from_millis(250);
/// Who asks for a watch is answered once every change is told from then on, or after this.
pub const WATCH_READY: Duration = Duration::from_secs(10);
/// A change through the API waits this long for those who watch to be told of it as it happens; then
/// it is made all the same, and found on the disk.
pub const WATCH_CATCH_UP: Duration = Duration::from_secs(1);
/// When nobody watches any more, what happens is remembered for this long, for who comes back.
pub const WATCH_LINGER: Duration = Duration::from_secs(30);
/// On a stream of events on which nothing happens something is said this often.
pub const STREAM_BEAT: Duration = Duration::from_secs(15);
/// A socket that was begun says whose it is within this.
pub const SOCKET_CONNECT: Duration = Duration::from_secs(10);
/// Sockets are asked this often whether anybody is there …
pub const SOCKET_PING: Duration = Duration::from_secs(25);
/// … and answer within this.
pub const SOCKET_PONG: Duration = Duration::from_secs(20);
/// A connection of a socket that took no byte for this long is cut off.
pub const SOCKET_STALL: Duration = Duration::from_secs(30);
/// What was last said to a socket is on its way for this long before it is cut off.
pub const SOCKET_PARTING: Duration = Duration::from_secs(1);
/// What goes on while a key is good looks this often whether it expired.
pub const EXPIRY_LOOK: Duration = Duration::from_secs(60);
/// Between SIGTERM and SIGKILL of a job that is stopped or timed out.
pub const JOB_KILL_GRACE: Duration = Duration::from_secs(2);
/// Known listening ports of a container are refreshed after this, in the background.
pub const PORTS_FRESH: Duration = Duration::from_secs(1);
/// Known listening ports older than this are not served any more, fresh ones are asked for first.
pub const PORTS_STALE: Duration = Duration::from_secs(10);
/// While a container starts, its runtime is asked this often whether it has ended.
pub const START_LOOK: Duration = Duration::from_millis(500);
/// While the engine drains, it looks this often whether it is done.
pub const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// After a burst, warm containers are refilled at this pace.
pub const REFILL_PACE: Duration = Duration::from_millis(20);
/// A peak of claims counts in full for this long when a pool's size is decided …
pub const DEMAND_MEMORY: Duration = Duration::from_secs(3600);
/// … in parts of this length, after which it fades, each time by a quarter.
pub const DEMAND_SLOT: Duration = Duration::from_secs(300);
/// How long a refill is taken to last before one was seen.
pub const REFILL_GUESS: Duration = Duration::from_millis(500);
/// A refill that took longer counts as this long when a pool's size is decided.
pub const REFILL_COUNTED: Duration = Duration::from_secs(10);
/// Between two looks at what the machine has room for, and at surplus warm containers.
pub const POOL_LOOK: Duration = Duration::from_secs(2);
/// What warm containers take is measured this often.
pub const POOL_MEASURE: Duration = Duration::from_secs(10);
/// A warm container that is claimed answers within this, or counts as dead. One that is dead says so
/// at once; this is for machines with much to do, which throwing containers away would not help.
pub const WARM_ANSWER: Duration = Duration::from_secs(8);
/// A refill lets starts that somebody waits for go first, but for no longer than this.
pub const REFILL_YIELD: Duration = Duration::from_secs(2);
/// A refill begins when nobody has come or been waiting for this long: claims of a burst come one
/// after the other, and two containers that start take two cores.
pub const REFILL_QUIET: Duration = Duration::from_millis(50);
/// A command that names no timeout.
pub const EXECUTE_DEFAULT: Duration = Duration::from_secs(30);
/// Before a container falls asleep whose runtime cannot keep connections: for its processes to see
/// that theirs have ended.
pub const PARTING: Duration = Duration::from_millis(300);
/// Between two looks meanwhile.
pub const PARTING_LOOK: Duration = Duration::from_millis(5);
/// An app that was started may take this long until it listens.
pub const PREVIEW_START: Duration = Duration::from_secs(60);
/// What was begun within this may be about to listen: a preview that names no command waits for it
/// before it starts an app of its own.
pub const PREVIEW_SETTLES: Duration = Duration::from_secs(5);
/// Between two looks meanwhile.
pub const PREVIEW_LOOK: Duration = Duration::from_millis(100);
/// For an app to answer when it is asked for its health.
pub const PREVIEW_HEALTH: Duration = Duration::from_secs(5);
/// An owner's disk is not measured again within this.
pub const QUOTA_FRESH: Duration = Duration::from_secs(30);
/// Unless somebody would be refused.
pub const QUOTA_AGAIN: Duration = Duration::from_millis(500);
/// An upload in parts that nobody goes on with is forgotten after this.
pub const UPLOAD_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Whoever goes on with an upload waits this long for an earlier request of it to end, which is
/// told to.
pub const UPLOAD_TURN: Duration = Duration::from_secs(10);
/// Counts of what keys and owners did are written down this often.
pub const USAGE_SAVE: Duration = Duration::from_secs(30);
/// Orphans are looked for this often.
pub const RECONCILE: Duration = Duration::from_secs(60);
/// Nobody used a workspace for this long and it computes nothing: its processes are frozen.
pub const FREEZE_AFTER: Duration = Duration::from_secs(60);
/// The same where idle ones take CPU time (gVisor's do), while more want to start than may at once.
pub const FREEZE_AFTER_CROWDED: Duration = Duration::from_secs(2);
/// Uses that a restart of the node may forget: a record is written again when the last use that it
/// knows is older than the last one by this.
pub const ACTIVITY_RECORDED: Duration = Duration::from_secs(300);
/// What has run for its longest time and is still used is ended all the same after this.
pub const OVERDUE: Duration = Duration::from_secs(60);
/// Between two looks for idle workspaces.
pub const IDLE_LOOK: Duration = Duration::from_secs(5);
/// The same while more want to start than may at once.
pub const IDLE_LOOK_CROWDED: Duration = Duration::from_secs(1);
/// Whoever asks for hibernation waits this long for the requests that are being answered.
pub const HIBERNATE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts meanwhile.
pub const HIBERNATE_POLL: Duration = Duration::from_millis(50);
/// A workspace that could not be put to sleep is left alone for this long.
pub const SLEEP_RETRY: Duration = Duration::from_secs(60);
/// Counted again for operators no more often than this: what all snapshots take on disk.
pub const SNAPSHOT_TALLY: Duration = Duration::from_secs(15);
/// One request of the admin listener, from accept to the last byte.
pub const ADMIN_REQUEST: Duration = Duration::from_secs(15);
/// First pause after a failed start; doubles up to [`START_BACKOFF_MAX`].
pub const START_BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause between failed starts.
pub const START_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// One look of `fleeks doctor` at the machine, a sandbox's start and end among them.
pub const DOCTOR_PROBE: Duration = Duration::from_secs(10);
/// For a process to end that `fleeks down` asked to: drain and shutdown.
pub const DOWN: Duration = Duration::from_secs(40);
/// While the command line waits for a command, it says this often that the workspace is in use.
pub const HEARTBEAT: Duration = Duration::from_secs(25);
/// It connects a lost terminal again after this; doubles up to [`RECONNECT_MAX`] …
pub const RECONNECT: Duration = Duration::from_millis(200);
/// … the longest pause …
pub const RECONNECT_MAX: Duration = Duration::from_secs(3);
/// … and gives up after this.
pub const RECONNECT_FOR: Duration = Duration::from_secs(120);
/// It looks for changes of local files this often.
pub const LOCAL_LOOK: Duration = Duration::from_millis(500);
/// And for those of a workspace's.
pub const REMOTE_LOOK: Duration = Duration::from_secs(1);
/// What takes longer is shown to take time.
pub const SPINNER_AFTER: Duration = Duration::from_millis(400);
/// And shown this often.
pub const SPINNER: Duration = Duration::from_millis(100);
/// The served certificate's age is looked at this often; also the pause after a failed renewal.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(3600);
/// A program that changes the machine's certificate stores.
pub const STORE_UPDATE: Duration = Duration::from_secs(60);
/// What was seen of a template's root is believed for this long.
pub const TEMPLATE_LOOK: Duration = Duration::from_secs(2);
/// A create or wake waits this long for its template's dependencies; their installation goes on.
pub const TEMPLATE_WAIT: Duration = Duration::from_secs(20);
/// An installation that failed is not tried again for this long.
pub const TEMPLATE_RETRY: Duration = Duration::from_secs(10);
/// All commands that install a template's dependencies.
pub const TEMPLATE_BUILD: Duration = Duration::from_secs(1800);
/// A registry may take this long to accept a connection.
pub const REGISTRY_CONNECT: Duration = Duration::from_secs(10);
/// And be silent for this long in the middle of what it sends.
pub const REGISTRY_SILENT: Duration = Duration::from_secs(30);
/// A manifest or a configuration, with the token that is needed for it.
pub const REGISTRY_ANSWER: Duration = Duration::from_secs(60);
/// Before a broken transfer is taken up again; longer each time.
pub const REGISTRY_RETRY: Duration = Duration::from_millis(500);
/// Between two looks of the command line at how an installation goes.
pub const BUILD_LOOK: Duration = Duration::from_millis(500);
/// All programs of a root to say their versions.
pub const VERSION_PROBE: Duration = Duration::from_secs(60);

const fn shorter(a: Duration, b: Duration) -> bool {
    a.as_millis() < b.as_millis()
}

const _: () = {
    assert!(shorter(WAKE_DEADLINE, API_DEADLINE));
    assert!(shorter(TEMPLATE_WAIT, WAKE_DEADLINE));
    assert!(shorter(API_DEADLINE, Duration::from_secs(30)));
    assert!(shorter(EXEC_FIRST_BYTE, EXEC_SILENT_MAX));
    assert!(EXEC_SILENT_MAX.as_secs() + JOB_KILL_GRACE.as_secs() < API_DEADLINE.as_secs());
    assert!(shorter(EXEC_KEEP_ALIVE, EXEC_FIRST_BYTE));
    assert!(shorter(ROUTE_POLL, WAKE_DEADLINE));
    assert!(shorter(HOLDING_PAGE_AFTER, WAKE_DEADLINE));
    assert!(shorter(CONNECT, WAKE_DEADLINE));
    assert!(shorter(SUSPICION, CONNECT));
    assert!(shorter(QUOTA_AGAIN, QUOTA_FRESH));
    assert!(shorter(UPLOAD_TURN, API_DEADLINE));
    assert!(shorter(PREVIEW_HEALTH, API_DEADLINE));
    assert!(shorter(PREVIEW_SETTLES, API_DEADLINE));
    assert!(shorter(PREVIEW_LOOK, PREVIEW_SETTLES));
    assert!(shorter(PORTS_FRESH, PORTS_STALE));
    assert!(shorter(START_LOOK, INIT_READY));
    assert!(shorter(DRAIN_LOOK, DRAIN));
    assert!(shorter(REFILL_PACE, REFILL_YIELD));
    assert!(shorter(REFILL_QUIET, REFILL_YIELD));
    assert!(shorter(DEMAND_SLOT, DEMAND_MEMORY));
    assert!(shorter(REFILL_GUESS, REFILL_COUNTED));
    assert!(shorter(POOL_LOOK, POOL_MEASURE));
    assert!(shorter(WARM_ANSWER, INIT_READY));
    assert!(shorter(REFILL_YIELD, WAKE_DEADLINE));
    assert!(shorter(WATCH_PARTING, RUNTIME_COMMAND));
    assert!(shorter(WATCH_CATCH_UP, WATCH_READY));
    assert!(shorter(WATCH_READY, API_DEADLINE));
    assert!(shorter(STREAM_BEAT, BODY_SILENCE));
    assert!(shorter(SOCKET_PING, WEBSOCKET_SILENCE));
    assert!(shorter(SOCKET_PING, BODY_SILENCE));
    assert!(shorter(SOCKET_PARTING, DRAIN));
    assert!(shorter(INIT_CALL, INIT_READY));
    assert!(shorter(INIT_READY, WAKE_DEADLINE));
    assert!(shorter(INIT_AWAKE, WAKE_DEADLINE));
    assert!(shorter(VOLUME_LOOK, INIT_AWAKE));
    assert!(shorter(STALL, INIT_AWAKE));
    assert!(shorter(INIT_LONG_CALL, API_DEADLINE));
    assert!(shorter(INIT_ATTEMPT, INIT_ATTEMPT_MAX));
    assert!(shorter(INIT_ATTEMPT_MAX, INIT_READY));
    assert!(shorter(INIT_RETRY, INIT_RETRY_MAX));
    assert!(shorter(RUNTIME_COMMAND, WAKE_DEADLINE));
    assert!(shorter(FREEZE, RUNTIME_COMMAND));
    assert!(shorter(WEBSOCKET_PING, WEBSOCKET_SILENCE));
    assert!(shorter(CLOSING, LINGER));
    assert!(RESPONSE_HEADERS.as_secs() + 3 * WAKE_DEADLINE.as_secs() < UPGRADE.as_secs());
    assert!(shorter(STANDING_SETTLES, WAKE_DEADLINE));
    assert!(shorter(BODY_GRACE, BODY_SILENCE));
    assert!(shorter(LINGER, DRAIN));
    assert!(shorter(START_BACKOFF, START_BACKOFF_MAX));
    assert!(shorter(IDLE_LOOK, FREEZE_AFTER));
    assert!(shorter(IDLE_LOOK_CROWDED, FREEZE_AFTER_CROWDED));
    assert!(shorter(FREEZE_AFTER_CROWDED, FREEZE_AFTER));
    assert!(shorter(HEARTBEAT, FREEZE_AFTER));
    assert!(shorter(RECONNECT, RECONNECT_MAX));
    assert!(shorter(RECONNECT_MAX, RECONNECT_FOR));
    assert!(shorter(IDLE_LOOK, ACTIVITY_RECORDED));
    assert!(shorter(HIBERNATE_POLL, HIBERNATE_PATIENCE));
    assert!(HIBERNATE_PATIENCE.as_secs() + RUNTIME_COMMAND.as_secs() < API_DEADLINE.as_secs());
};
