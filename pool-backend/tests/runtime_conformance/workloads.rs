//! What people run, under the init that they run it by: it goes on after a sleep.

use tokio::time::Instant;

use crate::inner::{Inside, init};
use crate::rig::{PATIENCE, Rig};
use crate::sleeper::Sleeper;

/// A Node server with a timer and a watched directory.
const NODE: &str = r#"mkdir -p /workspace/watched; exec node -e '
const fs = require("fs");
let ticks = 0, seen = [];
setInterval(() => ticks++, 10);
fs.watch("/workspace/watched", (_, name) => seen.push(name));
require("http").createServer((_, answer) => {
    answer.end(JSON.stringify({ ticks, seen, pid: process.pid }));
}).listen(8095, () => fs.writeFileSync("/tmp/node-ready", ""));'"#;

/// An open transaction of a database with a write-ahead log.
const DATABASE: &str = r#"exec python -c '
import os, sqlite3
db = sqlite3.connect("/workspace/db")
db.execute("pragma journal_mode=wal")
db.execute("create table t (n)")
db.commit()
db.executemany("insert into t values (?)", [(n,) for n in range(3)])
os.mkfifo("/tmp/commit")
open("/tmp/database-ready", "w").close()
open("/tmp/commit").read()
db.commit()
print(sqlite3.connect("/workspace/db").execute("select count(*) from t").fetchone()[0])'"#;

/// A shell in a terminal, with a variable.
const SHELL: &str = r#"exec python -c '
import os, pty
pid, terminal = pty.fork()
if pid == 0:
    os.execlp("bash", "bash", "--norc")
def until(word):
    text = b""
    while word not in text:
        text += os.read(terminal, 1000)
os.write(terminal, b"X=41; echo re$((0))dy\n")
until(b"re0dy")
os.mkfifo("/tmp/type")
open("/tmp/shell-ready", "w").close()
open("/tmp/type").read()
os.write(terminal, b"echo =$((X + 1))= $(stty -a | grep -c isig)\n")
until(b"=42= 1")
print("typed")'"#;

/// Workers that talk by a socket of their own and by shared memory.
const WORKERS: &str = r#"exec python -c '
import multiprocessing as m, os
def work(pipe, shared):
    while True:
        shared.value += pipe.recv()
        pipe.send(shared.value)
shared = m.Value("i", 40)
ours, theirs = m.Pipe()
worker = m.Process(target=work, args=(theirs, shared), daemon=True)
worker.start()
ours.send(1)
ours.recv()
os.mkfifo("/tmp/work")
open("/tmp/workers-ready", "w").close()
open("/tmp/work").read()
ours.send(1)
print(ours.recv(), shared.value)'"#;

const TICKER: &str = "n=0; while true; do n=$((n + 1)); echo tick $n; sleep 0.02; done";

async fn ask_node(inside: &Inside) -> serde_json::Value {
    let line = "python -c 'import urllib.request as u; \
                print(u.urlopen(\"http://127.0.0.1:8095\").read().decode())'";
    serde_json::from_str(&inside.sh(line).await).unwrap()
}

pub async fn jobs_go_on(rig: Rig) {
    let mut sleeper = Sleeper::begin(&rig, "a", |spec| spec.init = init()).await;
    let inside = Inside::of(&sleeper);
    inside.ready().await;
    let ticker = inside.start(TICKER).await;
    let node = inside.start(NODE).await;
    let database = inside.start(DATABASE).await;
    let shell = inside.start(SHELL).await;
    let workers = inside.start(WORKERS).await;
    for name in ["node", "database", "shell", "workers"] {
        inside.wait_for(&format!("[ -e /tmp/{name}-ready ]")).await;
    }
    let before = ask_node(&inside).await;
    let ended = inside.start("echo ended").await;
    assert_eq!(inside.end(&ended).await, "ended\n");

    for _ in 0..2 {
        let images = sleeper.sleep(&rig).await;
        sleeper.wake(&rig, &images).await.unwrap();
        inside.ready().await;
    }

    let after = ask_node(&inside).await;
    assert_eq!(after["pid"], before["pid"]);
    assert!(after["ticks"].as_u64() >= before["ticks"].as_u64());
    inside.sh("touch /workspace/watched/new").await;
    let deadline = Instant::now() + PATIENCE;
    while !ask_node(&inside).await["seen"].to_string().contains("new") {
        assert!(Instant::now() < deadline, "the change is not seen");
    }
    for fifo in ["commit", "type", "work"] {
        inside.sh(&format!("echo > /tmp/{fifo}")).await;
    }
    assert_eq!(inside.end(&database).await, "3\n");
    assert_eq!(inside.end(&shell).await, "typed\n");
    assert_eq!(inside.end(&workers).await, "42 42\n");
    assert_eq!(inside.end(&ended).await, "ended\n");
    let said = inside.said(&ticker).await;
    let deadline = Instant::now() + PATIENCE;
    while inside.said(&ticker).await == said {
        assert!(Instant::now() < deadline, "the ticker stands");
    }
    for (number, line) in (1..).zip(said.lines()) {
        assert_eq!(line, format!("tick {number}"));
    }
    for job in [&ticker, &node] {
        inside.kill(job).await;
    }
    rig.close().await;
}
