//! Sleep and wake: what comes back, who wins a race, and what happens when it does not work.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::door::{Admission, PortChoice, Visit};
use fleet::lifecycle::State;
use fleet::record::{IdleAction, LifecycleSettings, Woken};
use init_protocol::JobStatus;
use pool_backend::{ErrorKind, Workspace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Rig, eventually, output, read, run, shell, write};

/// Counts in memory, ten times a second, and answers each request with the count.
const COUNTER: &str = r"
import http.server, os, threading, time
count, memory = 0, bytearray(os.urandom(1 << 20))
def counting():
    global count
    while True:
        count += 1
        time.sleep(0.1)
threading.Thread(target=counting, daemon=True).start()
log = open('/workspace/log', 'w')
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        log.write(self.path + '\n'); log.flush()
        body = f'{os.getpid()} {count} {hash(bytes(memory))}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(('0.0.0.0', 8000), Handler).serve_forever()
";

/// A workspace with the counter running as a job.
async fn counter(rig: &Rig, project: &str) -> (Workspace, fleet::id::JobId) {
    let workspace = rig.create(project).await;
    write(&workspace, "counter.py", COUNTER).await;
    let command = pool_backend::workspaces::Command {
        timeout: None,
        ..shell("exec python3 counter.py")
    };
    let job = workspace.start_job(command).await.unwrap();
    let ready =
        "for i in $(seq 100); do curl -sf localhost:8000/ready && exit; sleep 0.1; done; exit 1";
    output(&workspace, ready).await;
    (workspace, job.id)
}

/// What the counter says of itself.
#[derive(Debug, PartialEq)]
struct Said {
    pid: u64,
    count: u64,
    memory: String,
}

impl Said {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        Self {
            pid: words[0].parse().unwrap(),
            count: words[1].parse().unwrap(),
            memory: words[2].to_owned(),
        }
    }

    /// The same process, a moment later: no second lost, none made up.
    fn goes_on_from(&self, before: &Self, awake: Duration) {
        assert_eq!((self.pid, &self.memory), (before.pid, &before.memory));
        let most = before.count + 2 + u64::try_from(awake.as_millis()).unwrap() / 100;
        assert!(
            (before.count..=most).contains(&self.count),
            "{before:?}, {self:?}"
        );
    }
}

async fn ask(workspace: &Workspace) -> Said {
    Said::parse(&output(workspace, "curl -sf localhost:8000/").await)
}

/// As a visitor, through the door.
async fn visit(rig: &Rig, workspace: &Workspace) -> Said {
    let door = rig.node().door();
    for _ in 0..100 {
        let route = rig.route(workspace).await.unwrap();
        let (id, generation) = (&route.workspace, route.generation);
        let admission = door
            .admit(id, generation, PortChoice::Main, Visit::InFlight)
            .await;
        match admission.unwrap() {
            Admission::Admitted(guard) => {
                let mut stream = guard.upstream.connector.connect().await.unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                return Said::parse(answer.split("\r\n\r\n").nth(1).unwrap());
            }
            Admission::Asleep | Admission::Moved => {
                rig.wake_as_gateway(workspace).await;
            }
            Admission::NotListening(what) => panic!("{what:?}"),
        }
    }
    panic!("not admitted");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_goes_on_after_sleep() {
    let rig = Rig::new(&[]).await;
    let (workspace, job) = counter(&rig, "demo").await;
    let began = Instant::now();
    let before = ask(&workspace).await;
    let asleep = workspace.hibernate().await.unwrap();
    let hibernated = began.elapsed();
    assert_eq!((asleep.state, asleep.generation.0), (State::Hibernated, 1));
    assert_eq!(
        rig.route(&workspace).await.unwrap().state,
        State::Hibernated
    );
    assert_eq!(names(&rig.snapshots(&workspace)), ["1"]);
    assert_eq!(rig.containers(), Vec::<String>::new(), "it costs nothing");
    // Files are read without waking it; nor does looking at it.
    assert_eq!(read(&workspace, "log").await.unwrap()[..7], *b"/ready\n");
    assert!(workspace.processes().await.unwrap().is_empty());
    assert!(workspace.ports().await.unwrap().is_empty());
    assert_eq!(workspace.summary().state, State::Hibernated);

    let waking = Instant::now();
    let after = ask(&workspace).await;
    println!(
        "hibernate {hibernated:?}, exec in a sleeper {:?}",
        waking.elapsed()
    );
    after.goes_on_from(&before, hibernated + waking.elapsed());
    let lifecycle = workspace.lifecycle();
    assert_eq!(lifecycle.woken, Some(Woken::Memory));
    assert_eq!(
        (lifecycle.summary.state, lifecycle.summary.generation.0),
        (State::Running, 2)
    );
    eventually("the snapshot is spent", || {
        names(&rig.snapshots(&workspace)).is_empty()
    })
    .await;
    // Open files, jobs and the way in as well.
    assert_eq!(
        workspace.job(&job).await.unwrap().status,
        JobStatus::Running
    );
    assert_eq!(read(&workspace, "log").await.unwrap(), b"/ready\n/\n/\n");
    let seen = visit(&rig, &workspace).await;
    assert_eq!((seen.pid, seen.memory), (before.pid, before.memory.clone()));

    // Again, and this time a visitor wakes it; and once more, and a question for a job does.
    let began = Instant::now();
    let before = ask(&workspace).await;
    workspace.hibernate().await.unwrap();
    let waking = Instant::now();
    let after = visit(&rig, &workspace).await;
    println!("a visit to a sleeper {:?}", waking.elapsed());
    after.goes_on_from(&before, began.elapsed());
    workspace.hibernate().await.unwrap();
    assert_eq!(
        workspace.job(&job).await.unwrap().status,
        JobStatus::Running
    );
    assert_eq!(workspace.summary().generation.0, 4);
    workspace.stop_job(&job).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_a_frozen_one_notices_nothing() {
    let rig = Rig::new(&[]).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let frozen = workspace.freeze().await.unwrap();
    assert_eq!((frozen.state, frozen.generation.0), (State::Frozen, 1));
    assert_eq!(rig.route(&workspace).await.unwrap().state, State::Frozen);
    assert_eq!(read(&workspace, "log").await.unwrap()[..7], *b"/ready\n");
    assert_eq!(workspace.summary().state, State::Frozen);
    let began = Instant::now();
    let after = visit(&rig, &workspace).await;
    println!("a visit to a frozen one {:?}", began.elapsed());
    after.goes_on_from(&before, Duration::from_secs(1) + began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    for _ in 0..3 {
        workspace.freeze().await.unwrap();
        assert_eq!(output(&workspace, "echo fine").await, "fine\n");
    }
    workspace.freeze().await.unwrap();
    // The gateway's other way, by the directory.
    rig.wake_as_gateway(&workspace).await;
    assert_eq!(workspace.summary().state, State::Running);
    workspace.freeze().await.unwrap();
    workspace.stop().await.unwrap();
    assert_eq!(workspace.summary().state, State::Stopped);
    assert_eq!(output(&workspace, "echo fine").await, "fine\n");
    workspace.freeze().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_callers_wake_it_once() {
    let rig = Arc::new(Rig::new(&[]).await);
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    workspace.hibernate().await.unwrap();
    let began = Instant::now();
    let callers: Vec<_> = (0..200)
        .map(|number| {
            let (rig, workspace) = (Arc::clone(&rig), workspace.clone());
            tokio::spawn(async move {
                match number % 4 {
                    0 => Said::parse(&output(&workspace, "curl -sf localhost:8000/").await),
                    _ => visit(&rig, &workspace).await,
                }
            })
        })
        .collect();
    for caller in callers {
        let said = caller.await.unwrap();
        assert_eq!((said.pid, &said.memory), (before.pid, &before.memory));
    }
    println!("200 callers at a sleeper {:?}", began.elapsed());
    let summary = workspace.summary();
    assert_eq!((summary.state, summary.generation.0), (State::Running, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_race_with_sleep_are_all_served() {
    let rig = Arc::new(Rig::new(&[]).await);
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let sleeping = {
        let (workspace, stop) = (workspace.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut slept, mut refused) = (0, 0);
            while !stop.is_cancelled() {
                if workspace.summary().state != State::Running {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                let done = match (slept + refused) % 2 {
                    0 => workspace.hibernate().await,
                    _ => workspace.freeze().await,
                };
                match done {
                    Ok(_) => slept += 1,
                    Err(error) if error.kind == ErrorKind::Conflict => refused += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            (slept, refused)
        })
    };
    let callers: Vec<_> = (0..2)
        .map(|caller| {
            let (rig, workspace) = (Arc::clone(&rig), workspace.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for pause in 0..20 {
                    let said = match caller % 2 {
                        0 => ask(&workspace).await,
                        _ => visit(&rig, &workspace).await,
                    };
                    assert!(said.count >= last, "{said:?} after {last}");
                    last = said.count;
                    // Into every step of falling asleep, sometimes.
                    let pause = Duration::from_millis(40 * (pause + caller));
                    tokio::time::sleep(pause).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    stop.cancel();
    let (slept, refused) = sleeping.await.unwrap();
    println!(
        "{slept} times asleep, {refused} times not, generation {}",
        workspace.summary().generation
    );
    assert!(slept > 2);
    let after = ask(&workspace).await;
    assert_eq!((after.pid, after.memory), (before.pid, before.memory));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_checkpoint_leaves_it_running() {
    let rig = Rig::new(&[]).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    // Nothing can be written where snapshots go.
    let place = rig.snapshots(&workspace);
    std::fs::write(&place, "in the way").unwrap();
    let began = Instant::now();
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotReady, "{error:?}");
    let lifecycle = workspace.lifecycle();
    assert_eq!(lifecycle.summary.state, State::Running);
    assert_eq!(lifecycle.problem.as_deref(), Some(error.message.as_str()));
    ask(&workspace).await.goes_on_from(&before, began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    std::fs::remove_file(&place).unwrap();
    workspace.hibernate().await.unwrap();
    assert_eq!(workspace.lifecycle().problem, None);
    ask(&workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_answered_is_not_put_to_sleep() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let long = {
        let workspace = workspace.clone();
        tokio::spawn(
            async move { output(&workspace, "echo begun > begun; sleep 8; echo done").await },
        )
    };
    let begun = rig.volume(&workspace).join("data/begun");
    eventually("the command runs", || begun.exists()).await;
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    assert_eq!(workspace.summary().state, State::Running);
    assert!(
        workspace
            .lifecycle()
            .kept_awake_by
            .iter()
            .any(|why| why.contains("1 requests"))
    );
    assert_eq!(long.await.unwrap(), "done\n");
    workspace.hibernate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_snapshot_is_not_the_end() {
    let rig = Rig::new(&[]).await;
    for truncated in [true, false] {
        let (workspace, job) = counter(&rig, if truncated { "cut" } else { "bad" }).await;
        workspace.hibernate().await.unwrap();
        let images = rig.snapshots(&workspace).join("1/images");
        let mut files: Vec<_> = std::fs::read_dir(&images)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.metadata().unwrap().len(), entry.path()))
            .collect();
        files.sort();
        let (size, largest) = files.pop().unwrap();
        if truncated {
            let file = std::fs::File::options().write(true).open(&largest).unwrap();
            file.set_len(size / 2).unwrap();
        } else {
            for (size, path) in files {
                std::fs::write(path, vec![0x5a; usize::try_from(size).unwrap()]).unwrap();
            }
        }
        assert_eq!(output(&workspace, "cat log").await, "/ready\n");
        let lifecycle = workspace.lifecycle();
        assert_eq!(lifecycle.woken, Some(Woken::Volume));
        let job = workspace.job(&job).await.unwrap_err();
        assert_eq!(job.kind, ErrorKind::NotFound);
        // And it sleeps and wakes again.
        workspace.hibernate().await.unwrap();
        workspace.wake().await.unwrap();
        assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sleep_outlives_the_node() {
    let mut rig = Rig::new(&[]).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    let began = Instant::now();
    workspace.hibernate().await.unwrap();
    let awake = began.elapsed();
    drop(workspace);
    rig.kill_and_start().await;
    assert_eq!(rig.get("demo").summary().state, State::Hibernated);
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    let workspace = rig.get("demo");
    assert_eq!(workspace.summary().state, State::Hibernated);
    let waking = Instant::now();
    ask(&workspace)
        .await
        .goes_on_from(&before, awake + waking.elapsed());
    assert_eq!(workspace.lifecycle().woken, Some(Woken::Memory));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_one_outlives_a_killed_node() {
    let mut rig = Rig::new(&[]).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let before = ask(&workspace).await;
    workspace.freeze().await.unwrap();
    drop(workspace);
    let began = Instant::now();
    rig.kill_and_start().await;
    let workspace = rig.get("demo");
    ask(&workspace)
        .await
        .goes_on_from(&before, Duration::from_secs(1) + began.elapsed());
    assert_eq!(workspace.summary().generation.0, 1);
    workspace.freeze().await.unwrap();
    drop(workspace);
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    assert_eq!(rig.get("demo").summary().state, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_ones_fall_asleep_by_themselves() {
    let rig = Rig::with_freeze_after(Duration::from_millis(500)).await;
    let (workspace, _) = counter(&rig, "demo").await;
    let calm = rig.create("calm").await;
    let kept = rig.create("kept").await;
    kept.set_keep_alive(true).await.unwrap();
    let frozen = |workspace: &Workspace| workspace.summary().state == State::Frozen;
    eventually("it is frozen", || frozen(&calm)).await;
    assert!(!frozen(&kept));
    assert_eq!(output(&calm, "echo fine").await, "fine\n");
    eventually("it is frozen again", || frozen(&calm)).await;
    calm.heartbeat();
    eventually("a heartbeat thaws", || {
        calm.summary().state == State::Running
    })
    .await;
    // The longest uptime ends it, used or not.
    let settings = LifecycleSettings {
        max_duration_hours: Some(0),
        idle_action: IdleAction::Hibernate,
        ..workspace.lifecycle_settings()
    };
    workspace.configure_lifecycle(settings).await.unwrap();
    eventually("it is hibernated", || {
        workspace.summary().state == State::Hibernated
    })
    .await;
    let settings = LifecycleSettings {
        auto_wake: false,
        max_duration_hours: None,
        ..workspace.lifecycle_settings()
    };
    workspace.configure_lifecycle(settings).await.unwrap();
    let refused = workspace.execute(shell("true")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused:?}");
    workspace.wake().await.unwrap();
    ask(&workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_can_be_restarted_stopped_and_deleted() {
    let rig = Rig::new(&[]).await;
    let (workspace, job) = counter(&rig, "demo").await;
    workspace.hibernate().await.unwrap();
    workspace.restart().await.unwrap();
    assert_eq!(
        workspace.job(&job).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(workspace.lifecycle().woken, None);
    assert!(names(&rig.snapshots(&workspace)).is_empty());
    workspace.hibernate().await.unwrap();
    workspace.stop().await.unwrap();
    assert_eq!(workspace.summary().state, State::Stopped);
    let error = workspace.hibernate().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(run(&workspace, "cat log").await.stdout, "/ready\n");
    workspace.hibernate().await.unwrap();
    let place = rig.snapshots(&workspace);
    let project = workspace.summary().project;
    rig.workspaces().delete(&rig.owner, &project).await.unwrap();
    eventually("its snapshot is gone", || !place.exists()).await;
}
