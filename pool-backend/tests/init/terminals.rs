//! Terminals: what they show, who sees it, and what is held for whom.

use std::time::Duration;

use fleet::id::TerminalId;
use init_protocol::RefusalKind;
use init_protocol::terminal::{MAX_RUNNING, OpenTerminal, SCROLLBACK, TerminalSize};
use pool_backend::init_client::{Attached, Heard};
use tokio::time::timeout;

use crate::jobs::refused;
use crate::world::{PATIENCE, World, until};

const GRACE: Duration = Duration::from_millis(300);

fn wish(world: &World, command: Option<&str>) -> OpenTerminal {
    OpenTerminal {
        terminal: TerminalId::mint().as_str().to_owned(),
        command: command.map(str::to_owned),
        working_dir: world.workspace().to_str().unwrap().to_owned(),
        environment: vec![("PS1".to_owned(), "> ".to_owned())],
        size: TerminalSize { cols: 81, rows: 25 },
    }
}

async fn open(world: &World, command: Option<&str>) -> TerminalId {
    let wish = wish(world, command);
    let state = world.client.open_terminal(&wish).await.unwrap();
    assert_eq!(state.exit_code, None);
    state.terminal.parse().unwrap()
}

/// A viewer, and all that it saw.
struct Viewer {
    attached: Attached,
    seen: Vec<u8>,
    gaps: u64,
    taken: u64,
    exit_code: Option<i32>,
}

impl Viewer {
    async fn come(world: &World, id: &TerminalId, name: &str, offset: Option<u64>) -> Self {
        let attached = world.client.attach(id, name, offset).await.unwrap();
        let taken = attached.taken;
        Self {
            attached,
            seen: Vec::new(),
            gaps: 0,
            taken,
            exit_code: None,
        }
    }

    async fn types(&mut self, text: &str) {
        let wanted = self.taken + text.len() as u64;
        self.attached.saying.input(text.as_bytes());
        while self.attached.saying.is_behind() {
            self.attached.saying.send().await.unwrap();
        }
        while self.taken < wanted {
            self.hear().await;
        }
    }

    async fn hear(&mut self) {
        let heard = timeout(PATIENCE, self.attached.hearing.next()).await;
        let heard = heard.unwrap_or_else(|_| {
            let seen = String::from_utf8_lossy(&self.seen);
            panic!("nothing more comes, after {seen:?}")
        });
        match heard.unwrap() {
            Heard::Output(bytes) => self.seen.extend_from_slice(&bytes),
            Heard::Gap(bytes) => self.gaps += bytes,
            Heard::Taken(bytes) => self.taken = bytes,
            Heard::Ended(state) => self.exit_code = state.exit_code,
        }
    }

    async fn sees(&mut self, text: &str) {
        let has = |bytes: &[u8]| {
            let mut parts = bytes.windows(text.len());
            parts.any(|part| part == text.as_bytes())
        };
        let mut from = 0;
        while !has(&self.seen[from..]) {
            assert_eq!(self.exit_code, None, "it ended before {text:?}");
            from = self.seen.len().saturating_sub(text.len());
            self.hear().await;
        }
    }

    async fn sees_times(&mut self, text: &str, times: usize) {
        while String::from_utf8_lossy(&self.seen).matches(text).count() < times {
            assert_eq!(self.exit_code, None, "it ended before {text:?}");
            self.hear().await;
        }
    }

    async fn sees_the_end(&mut self) -> i32 {
        while self.exit_code.is_none() {
            self.hear().await;
        }
        self.exit_code.unwrap()
    }
}

#[tokio::test]
async fn a_shell_at_a_terminal() {
    let world = World::start().await;
    let id = open(&world, None).await;
    let mut viewer = Viewer::come(&world, &id, "a", None).await;
    viewer
        .types("test -t 0 && test -t 1 && echo at-$((40+2)) $TERM\r")
        .await;
    viewer.sees("at-42 xterm-256color").await;
    viewer.types("stty size\r").await;
    viewer.sees("25 81").await;
    // A new size is told to whoever is in the foreground. (Not bash itself: between two of its own
    // commands it may fail to parse a trap.)
    let watcher =
        "bash -c 'trap \"stty size\" WINCH; echo set-$((1+1)); while :; do sleep 0.1; done'\r";
    viewer.types(watcher).await;
    viewer.sees("set-2").await;
    viewer.attached.saying.resize(TerminalSize {
        cols: 0,
        rows: 2000,
    });
    viewer.types("\r").await;
    viewer.sees("1000 1").await;
    viewer.types("\x03").await;
    // Ctrl-C is for the program, not for the shell, which would lose it between two of its own commands.
    let sleeper = "sh -c 'echo go-$((1+1)); exec sleep 100'\r";
    viewer.types(sleeper).await;
    viewer.sees("go-2").await;
    // It throws away what was typed and not read.
    viewer.types("\x03").await;
    viewer.sees("^C").await;
    viewer.types("echo code-$?\r").await;
    viewer.sees("code-130").await;
    assert_eq!(world.client.terminal(&id).await.unwrap().exit_code, None);
    viewer.types("exit 7\r").await;
    assert_eq!(viewer.sees_the_end().await, 7);
    let state = world.client.terminal(&id).await.unwrap();
    assert_eq!(state.exit_code, Some(7));
    // Who comes later sees it all, and its end.
    let mut late = Viewer::come(&world, &id, "b", None).await;
    assert_eq!(late.sees_the_end().await, 7);
    assert_eq!(late.seen.len() as u64, state.output);
}

#[tokio::test]
async fn several_see_and_type_and_come_back_where_they_were() {
    let world = World::start().await;
    let id = open(&world, Some("cat")).await;
    let mut first = Viewer::come(&world, &id, "a", None).await;
    let mut second = Viewer::come(&world, &id, "b", None).await;
    first.types("one\r").await;
    second.types("two\r").await;
    // What was typed is shown at once, and written again by `cat` when it gets to it.
    for viewer in [&mut first, &mut second] {
        viewer.sees_times("one", 2).await;
        viewer.sees_times("two", 2).await;
    }
    let seen = first.seen.len() as u64;
    drop(first);
    second.types("three\r").await;
    second.sees("three").await;
    let mut again = Viewer::come(&world, &id, "a", Some(seen)).await;
    assert_eq!((again.attached.offset, again.taken), (seen, 4));
    again.sees("three").await;
    assert!(!String::from_utf8_lossy(&again.seen).contains("one"));
    let beyond = world.client.attach(&id, "c", Some(u64::MAX)).await.unwrap();
    assert_eq!(beyond.offset, beyond.state.output);
    let states = world.client.terminals().await.unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].command, "cat");
}

#[tokio::test]
async fn a_slow_viewer_misses_output_and_holds_nobody_up() {
    let world = World::start().await;
    let done = world.workspace().join("done");
    let lines = "seq 1 3000000; touch done; cat";
    let id = open(&world, Some(lines)).await;
    let mut slow = Viewer::come(&world, &id, "slow", None).await;
    until("it was not held up", || async { done.exists() }).await;
    slow.sees("\n3000000\r\n").await;
    assert!(slow.gaps > 0);
    let state = world.client.terminal(&id).await.unwrap();
    assert_eq!(slow.seen.len() as u64 + slow.gaps, state.output);
    assert!(world.status_kib("VmRSS") < 8 * 1024);
    let mut late = Viewer::come(&world, &id, "late", Some(3)).await;
    assert_eq!(late.attached.offset, state.output - SCROLLBACK as u64);
    late.sees("\n3000000\r\n").await;
    assert_eq!(late.seen.len(), SCROLLBACK);
}

#[tokio::test]
async fn input_waits_for_a_program_that_does_not_read() {
    let world = World::start().await;
    // It reads only after a while, raw, so that the kernel keeps each byte.
    let slow = "stty raw -echo; echo ready; while [ ! -e go ]; do sleep 0.02; done; head -c 100000 | wc -c";
    let id = open(&world, Some(slow)).await;
    let mut viewer = Viewer::come(&world, &id, "a", None).await;
    viewer.sees("ready").await;
    for _ in 0..100 {
        viewer.attached.saying.input(&[b'x'; 1000]);
    }
    while viewer.attached.saying.is_behind()
        && timeout(GRACE, viewer.attached.saying.send()).await.is_ok()
    {}
    std::fs::write(world.workspace().join("go"), "").unwrap();
    while viewer.attached.saying.is_behind() {
        let sent = timeout(PATIENCE, viewer.attached.saying.send()).await;
        sent.expect("in time").unwrap();
    }
    viewer.sees("100000").await;
    assert_eq!(viewer.sees_the_end().await, 0);
    assert_eq!(viewer.taken, 100_000);
}

#[tokio::test]
async fn what_is_closed_is_gone_with_all_that_ran_there() {
    let world = World::start().await;
    let deaf = "trap '' HUP TERM; echo ready; sh -c \"trap '' HUP; sleep 1000\" & sleep 1000";
    let id = open(&world, Some(deaf)).await;
    let mut viewer = Viewer::come(&world, &id, "a", None).await;
    viewer.sees("ready").await;
    let state = world.client.close_terminal(&id, GRACE).await.unwrap();
    assert_eq!(state.exit_code, Some(137));
    assert_eq!(viewer.sees_the_end().await, 137);
    until("none of it is left", || async {
        let (_, left, _) = world.sh("pgrep -c sleep").await;
        left.trim() == "0"
    })
    .await;
    assert_eq!(
        refused(world.client.terminal(&id).await),
        RefusalKind::NotFound
    );
    assert_eq!(
        refused(world.client.close_terminal(&id, GRACE).await),
        RefusalKind::NotFound
    );
}

#[tokio::test]
async fn terminals_are_bounded_and_forgotten() {
    let world = World::start().await;
    let mut open_ones = Vec::new();
    for _ in 0..MAX_RUNNING {
        open_ones.push(open(&world, Some("cat")).await);
    }
    let one_more = wish(&world, Some("cat"));
    let refusal = refused(world.client.open_terminal(&one_more).await);
    assert_eq!(refusal, RefusalKind::TooMany);
    world
        .client
        .close_terminal(&open_ones[0], GRACE)
        .await
        .unwrap();
    // Those that have ended make room.
    for number in 0..60 {
        let id = open(&world, Some(&format!("exit {number}"))).await;
        let mut viewer = Viewer::come(&world, &id, "a", None).await;
        assert_eq!(viewer.sees_the_end().await, number);
    }
    let states = world.client.terminals().await.unwrap();
    assert!(
        states
            .iter()
            .filter(|state| state.exit_code.is_none())
            .count()
            == MAX_RUNNING - 1
    );
    assert!(states.len() <= init_protocol::terminal::MAX_TERMINALS);
    for broken in [
        OpenTerminal {
            working_dir: "/no/such".to_owned(),
            ..wish(&world, None)
        },
        OpenTerminal {
            terminal: "../a".to_owned(),
            ..wish(&world, None)
        },
        OpenTerminal {
            command: Some("a\0b".to_owned()),
            ..wish(&world, None)
        },
    ] {
        refused(world.client.open_terminal(&broken).await);
    }
    assert!(
        world
            .client
            .attach(&open_ones[1], "not an id", None)
            .await
            .is_err()
    );
    // Nothing of init's is left open in a program, as in a job.
    let descriptors = "ls /proc/self/fd | wc -l";
    let id = open(&world, Some(descriptors)).await;
    let mut viewer = Viewer::come(&world, &id, "a", None).await;
    viewer.sees_the_end().await;
    let (_, of_a_job, _) = world.sh(descriptors).await;
    assert_eq!(
        String::from_utf8_lossy(&viewer.seen).trim(),
        of_a_job.trim()
    );
}
