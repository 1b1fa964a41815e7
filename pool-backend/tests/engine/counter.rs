//! What sleeps in these stories: a server that counts in memory, and who asks it.

use std::path::Path;
use std::time::Duration;

use fleet::door::{Admission, PortChoice, Visit};
use pool_backend::Workspace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Rig, output, shell, write};

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
pub async fn counter(rig: &Rig, project: &str) -> (Workspace, fleet::id::JobId) {
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
pub struct Said {
    pub pid: u64,
    pub count: u64,
    pub memory: String,
}

impl Said {
    pub fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        Self {
            pid: words[0].parse().unwrap(),
            count: words[1].parse().unwrap(),
            memory: words[2].to_owned(),
        }
    }

    /// The same process, a moment later: no second lost, none made up.
    pub fn goes_on_from(&self, before: &Self, awake: Duration) {
        assert_eq!((self.pid, &self.memory), (before.pid, &before.memory));
        let most = before.count + 2 + u64::try_from(awake.as_millis()).unwrap() / 100;
        assert!(
            (before.count..=most).contains(&self.count),
            "{before:?}, {self:?}"
        );
    }
}

pub async fn ask(workspace: &Workspace) -> Said {
    Said::parse(&output(workspace, "curl -sf localhost:8000/").await)
}

/// As a visitor, through the door.
pub async fn visit(rig: &Rig, workspace: &Workspace) -> Said {
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

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
