//! What init tells of changes of files, and of a job's output as it comes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fleet::id::JobId;
use futures_util::stream;
use init_protocol::{Change, ChangeKind, Lost, RefusalKind, Write};
use pool_backend::init_client::{Followed, InitError, Offsets, Told};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::world::{PATIENCE, World, until};

/// A watch that is under way, and what it has told.
struct Watching {
    told: Arc<Mutex<Vec<Change>>>,
    lost: Arc<Mutex<Vec<Lost>>>,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), InitError>>,
}

impl Watching {
    async fn begin(world: &World) -> Self {
        let (begun, ready) = oneshot::channel();
        let (leave, leaving) = oneshot::channel();
        let (told, lost) = (Arc::default(), Arc::default());
        let hear = {
            let (told, lost) = (Arc::clone(&told), Arc::clone(&lost));
            let mut begun = Some(begun);
            move |what| match what {
                Told::Watching { incomplete } => {
                    assert!(!incomplete);
                    begun.take().unwrap().send(()).unwrap();
                }
                Told::Changes {
                    changes,
                    lost: more,
                } => {
                    let told: &Mutex<Vec<Change>> = &told;
                    told.lock().unwrap().extend(changes);
                    let lost: &Mutex<Vec<Lost>> = &lost;
                    lost.lock().unwrap().extend(more);
                }
            }
        };
        let client = world.client.clone();
        let task = tokio::spawn(async move {
            let leaving = async {
                let _ = leaving.await;
            };
            client.watch(leaving, hear).await
        });
        timeout(PATIENCE, ready).await.unwrap().unwrap();
        Self {
            told,
            lost,
            leave: Some(leave),
            task,
        }
    }

    /// In words, in order.
    fn words(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(word).collect()
    }

    async fn until(&self, wanted: &str) {
        until(wanted, async || {
            self.words().iter().any(|word| word == wanted)
        })
        .await;
    }

    /// Ends it; whatever happened until now is told.
    async fn end(mut self) -> (Vec<String>, Vec<Lost>) {
        self.leave.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, &mut self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let lost = self.lost.lock().unwrap().clone();
        (self.words(), lost)
    }
}

fn word(change: &Change) -> String {
    let kind = match change.kind {
        ChangeKind::Created => "+",
        ChangeKind::Modified => "~",
        ChangeKind::Deleted => "-",
        ChangeKind::Moved => ">",
    };
    let from = change.from.as_ref().map(|from| format!("{from}>"));
    let slash = if change.directory { "/" } else { "" };
    format!("{kind}{}{}{slash}", from.unwrap_or_default(), change.path)
}

#[tokio::test]
async fn every_kind_of_change_is_told_with_its_path() {
    let world = World::start().await;
    std::fs::create_dir_all(world.workspace().join("old/deep")).unwrap();
    std::fs::create_dir(world.workspace().join(".home")).unwrap();
    let watching = Watching::begin(&world).await;
    assert_eq!(world.sh("echo x > a; mkdir d; echo x > 'd/ü b'").await.0, 0);
    // What is in a new directory is looked for: it has to be there for that moment.
    watching.until("+d/ü b").await;
    let script = "
        mv a old/deep/a2; rm 'd/ü b'; rmdir d
        touch .home/hidden; mv old/deep new; echo y >> new/a2; mv new/a2 .home/; mv new ../away
        echo x > .home/y; mv .home/y back";
    assert_eq!(world.sh(script).await.0, 0);
    watching.until("+back").await;
    // What left may still arrive somewhere, for a moment.
    watching.until("-new/").await;
    let (words, lost) = watching.end().await;
    assert_eq!(lost, []);
    let expected = [
        "+a",
        "+d/",
        "+d/ü b",
        ">a>old/deep/a2",
        "-d/ü b",
        "-d/",
        ">old/deep>new/",
        "~new/a2",
        "-new/a2",
        "-new/",
        "+back",
    ];
    let missing: Vec<_> = expected
        .iter()
        .filter(|word| !words.iter().any(|w| w == *word))
        .collect();
    assert!(missing.is_empty(), "{missing:?} in {words:?}");
    assert!(
        words
            .iter()
            .all(|word| !word.contains("hidden") && !word.contains("away"))
    );
}

/// A directory that moves into one which nobody knew yet, and names that are used again at once: what
/// the words say, applied in order, is what is there.
#[tokio::test]
async fn what_moves_into_a_new_directory_is_watched_on() {
    let world = World::start().await;
    std::fs::create_dir_all(world.workspace().join("lib/deep")).unwrap();
    std::fs::write(world.workspace().join("log"), "x").unwrap();
    let watching = Watching::begin(&world).await;
    for round in 0..8 {
        let script = format!(
            "mkdir pkg{round} && mv lib pkg{round}/ && echo x > pkg{round}/lib/deep/{round};
            mkdir old{round} && mv log old{round}/ && echo x > log"
        );
        assert_eq!(world.sh(&script).await.0, 0);
        let arrived = format!("old{round}/log");
        until(&arrived, async || {
            watching.words().iter().any(|word| word.ends_with(&arrived))
        })
        .await;
        watching.until(&format!(">lib>pkg{round}/lib/")).await;
        let script = format!("echo y >> pkg{round}/lib/deep/later; mv pkg{round}/lib .");
        assert_eq!(world.sh(&script).await.0, 0);
        watching.until(&format!("+pkg{round}/lib/deep/later")).await;
        watching.until(&format!(">pkg{round}/lib>lib/")).await;
        assert_eq!(world.sh("rm lib/deep/later").await.0, 0);
    }
    watching.until("-lib/deep/later").await;
    let (words, lost) = watching.end().await;
    assert_eq!(lost, []);
    let mut logs = words.iter().filter(|word| &word[1..] == "log");
    assert_eq!(
        logs.next_back().map(|word| &word[..1]),
        Some("+"),
        "{words:?}"
    );
}

#[tokio::test]
async fn the_nodes_writes_are_named_and_their_drafts_are_not_told() {
    let world = World::start().await;
    let watching = Watching::begin(&world).await;
    let write = |path: &str, exclusive| Write {
        path: path.to_owned(),
        mode: None,
        parents: true,
        exclusive,
    };
    let content = || stream::iter([Ok(Bytes::from_static(b"text"))]);
    let client = &world.client;
    let new = client
        .write(write("a/b/new", false), content())
        .await
        .unwrap();
    watching.until("+a/b/new").await;
    let again = client
        .write(write("a/b/new", false), content())
        .await
        .unwrap();
    let only = client.write(write("only", true), content()).await.unwrap();
    let made = client.mkdir("made", false, None).await.unwrap();
    client.remove("a").await.unwrap();
    watching.until("-a/").await;
    let told = watching.told.lock().unwrap().clone();
    let named = |change: &Change| Some((change.write_id?, word(change)));
    let named: Vec<_> = told.iter().filter_map(named).collect();
    let expected = [
        (new, "+a/b/new"),
        (again, "~a/b/new"),
        (only, "+only"),
        (made, "+made/"),
    ];
    assert_eq!(named, expected.map(|(id, word)| (id, word.to_owned())));
    let (words, lost) = watching.end().await;
    assert!(lost.is_empty());
    assert!(
        words.iter().all(|word| !word.contains(".fleeks-")),
        "{words:?}"
    );
}

#[tokio::test]
async fn a_thousand_files_at_once_are_all_told_and_init_stays_small() {
    let world = World::start().await;
    let watching = Watching::begin(&world).await;
    // In a new directory, begun before anybody could watch it, and in one that is watched.
    let script = "
        mkdir -p new/er; for n in $(seq 500); do echo $n > new/er/$n; done
        for n in $(seq 500); do echo $n > top-$n; done";
    assert_eq!(world.sh(script).await.0, 0);
    watching.until("+top-500").await;
    let (words, lost) = watching.end().await;
    assert_eq!(lost, []);
    let words: HashSet<_> = words.into_iter().collect();
    for n in 1..=500 {
        assert!(words.contains(&format!("+new/er/{n}")), "{n}");
        assert!(words.contains(&format!("+top-{n}")), "{n}");
    }
    let peak = world.status_kib("VmHWM");
    assert!(peak < 4 * 1024, "{peak} KiB resident at most");
}

/// More than the kernel queues, while init cannot look.
#[tokio::test]
async fn what_is_lost_is_said_to_be_lost_and_the_watch_goes_on() {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let world = World::start().await;
    let watching = Watching::begin(&world).await;
    let pid = rustix::process::Pid::from_raw(world.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let dir: PathBuf = world.workspace();
    for number in 0..=limit / 2 {
        let name = dir.join(format!("f{number}"));
        std::fs::write(&name, "x").unwrap();
        std::fs::remove_file(&name).unwrap();
    }
    std::fs::create_dir(dir.join("unseen")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    until("a loss", async || !watching.lost.lock().unwrap().is_empty()).await;
    // The directory that was made in between is watched by now.
    let number = std::cell::Cell::new(0);
    until("a change in it", async || {
        number.set(number.get() + 1);
        std::fs::write(dir.join(format!("unseen/{}", number.get())), "x").unwrap();
        let words = watching.words();
        words.iter().any(|word| word.starts_with("+unseen/"))
    })
    .await;
    let (_, lost) = watching.end().await;
    assert_eq!(lost, [Lost::Queue]);
}

#[tokio::test]
async fn so_many_watch_and_no_more() {
    let world = World::start().await;
    let mut all = Vec::new();
    for _ in 0..init_protocol::MAX_WATCHES {
        all.push(Watching::begin(&world).await);
    }
    let refused = world.client.watch(std::future::pending(), |_| {}).await;
    let Err(InitError::Refused { kind, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(kind, RefusalKind::TooMany);
    world.sh("echo > seen").await;
    for watching in all {
        watching.until("+seen").await;
    }
}

/// Follows a job from an offset to its end: what it printed, what was skipped, its exit code.
async fn followed(world: &World, job: &JobId, from: Offsets) -> (Vec<u8>, Vec<u8>, Offsets, i32) {
    let (told, mut heard) = mpsc::channel(1);
    let client = world.client.clone();
    let id = job.clone();
    let task = tokio::spawn(async move {
        client
            .follow(&id, from, std::future::pending(), &told)
            .await
    });
    let (mut out, mut err, mut lost, mut code) = (Vec::new(), Vec::new(), Offsets::default(), None);
    while let Some(event) = timeout(PATIENCE, heard.recv()).await.unwrap() {
        match event {
            Followed::Stdout(bytes) => out.extend(bytes),
            Followed::Stderr(bytes) => err.extend(bytes),
            Followed::Skipped(skipped) => {
                lost.stdout += skipped.stdout;
                lost.stderr += skipped.stderr;
            }
            Followed::Exited(state) => code = state.exit_code,
        }
    }
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    (out, err, lost, code.unwrap())
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_from_wherever() {
    let world = World::start().await;
    let run = world.line("for n in 1 2 3 4 5; do echo o$n; echo e$n >&2; sleep 0.05; done; exit 3");
    world.client.start(&run).await.unwrap();
    let job: JobId = run.job.parse().unwrap();
    let whole = followed(&world, &job, Offsets::default()).await;
    let expected: (Vec<u8>, Vec<u8>) = (
        b"o1\no2\no3\no4\no5\n".into(),
        b"e1\ne2\ne3\ne4\ne5\n".into(),
    );
    assert_eq!(
        (whole.0, whole.1, whole.2, whole.3),
        (expected.0, expected.1, Offsets::default(), 3)
    );
    // Again, when it has ended long ago, and only the rest.
    let from = Offsets {
        stdout: 12,
        stderr: 15,
    };
    let rest = followed(&world, &job, from).await;
    assert_eq!(
        (&rest.0[..], &rest.1[..], rest.3),
        (&b"o5\n"[..], &b""[..], 3)
    );

    let (told, _heard) = mpsc::channel(1);
    let unknown = JobId::mint();
    let refused = world
        .client
        .follow(&unknown, from, std::future::pending(), &told)
        .await;
    assert!(matches!(
        refused,
        Err(InitError::Refused {
            kind: RefusalKind::NotFound,
            ..
        })
    ));
}

#[tokio::test]
async fn what_came_too_fast_is_counted_and_who_leaves_is_let_go() {
    let world = World::start().await;
    let run = world.line("head -c 5000000 /dev/zero; sleep 1000");
    world.client.start(&run).await.unwrap();
    let job: JobId = run.job.parse().unwrap();
    until("all of it", async || {
        let output = world
            .client
            .output(&job, pool_backend::init_client::OutputLimits::ALL);
        output.await.unwrap().stdout.total == 5_000_000
    })
    .await;
    let (told, mut heard) = mpsc::channel(100);
    let (leave, leaving) = oneshot::channel::<()>();
    let client = world.client.clone();
    let id = job.clone();
    let task = tokio::spawn(async move {
        let leaving = async {
            let _ = leaving.await;
        };
        client.follow(&id, Offsets::default(), leaving, &told).await
    });
    let (mut bytes, mut skipped) = (0, 0);
    while bytes + skipped < 5_000_000 {
        match timeout(PATIENCE, heard.recv()).await.unwrap().unwrap() {
            Followed::Stdout(part) => bytes += part.len() as u64,
            Followed::Skipped(lost) => skipped += lost.stdout,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        bytes,
        (init_protocol::OUTPUT_HEAD + init_protocol::OUTPUT_TAIL) as u64
    );
    leave.send(()).unwrap();
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}
