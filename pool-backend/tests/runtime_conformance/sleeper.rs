//! A container that sleeps: an app that tells all about itself, and the node's part around a sleep
//! and a wake, in the node's order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::id::{ContainerId, Generation};
use pool_backend::config::Limits;
use pool_backend::network::Netns;
use pool_backend::runtime::{ContainerSpec, OciId, RuntimeError};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::rig::{PATIENCE, Rig};

const PORT: u16 = 8098;

/// Answers each line with what it holds in memory, open files, child and clock.
const APP: &str = r#"
cat > /tmp/app.py <<'PY'
import fcntl, hashlib, json, os, random, signal, socket, subprocess, threading, time
state = {"count": 0, "ticks": 0, "alarms": 0, "secret": random.random()}
ballast = bytearray(os.urandom(int(os.environ.get("BALLAST", "1")) << 20))
open("/workspace/lines", "w").writelines("line %d\n" % n for n in range(1000))
lines = open("/workspace/lines")
lines.readline()
locked = open("/workspace/locked", "w")
fcntl.lockf(locked, fcntl.LOCK_EX)
open("/tmp/kept", "w").write("kept")
open("/run/kept", "w").write("kept")
open("/dev/shm/kept", "w").write("kept")
unlinked = open("/tmp/gone", "w+")
unlinked.write("still here")
unlinked.flush()
os.unlink("/tmp/gone")
child = subprocess.Popen(["sh", "-c", "read line; exit 7"], stdin=subprocess.PIPE)
def tick():
    while True:
        time.sleep(0.01)
        state["ticks"] += 1
threading.Thread(target=tick, daemon=True).start()
def alarm(*_):
    state["alarms"] += 1
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
# A connection of its own, by the loopback.
inner = socket.create_server(("127.0.0.1", 8097))
near = socket.create_connection(("127.0.0.1", 8097))
far = inner.accept()[0]
def answer(question):
    state["count"] += 1
    answer = dict(state, pid=os.getpid(), child=child.pid, alive=child.poll() is None)
    answer["sum"] = sum(ballast[::4096])
    if question == "digest":
        answer["digest"] = hashlib.sha256(ballast).hexdigest()
    answer["kept"] = [open(at + "/kept").read() for at in ("/tmp", "/run", "/dev/shm")]
    unlinked.seek(0)
    answer["unlinked"] = unlinked.read()
    if question == "line":
        answer["line"] = lines.readline()
    if question == "inner":
        near.sendall(b"ping")
        answer["inner"] = far.recv(4).decode()
    if question == "end child":
        child.communicate(b"\n")
        answer["code"] = child.returncode
    return answer
def serve(connection):
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            lines.write(json.dumps(answer(line.strip())) + "\n")
            lines.flush()
server = socket.create_server(("0.0.0.0", 8098))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
PY
BALLAST=@ballast@ setsid python /tmp/app.py & true
"#;

pub struct Sleeper {
    pub spec: ContainerSpec,
    container: ContainerId,
    generation: u64,
}

/// An open connection to the app.
pub struct Line {
    stream: BufReader<TcpStream>,
}

impl Sleeper {
    /// Starts the app, with so many MiB in memory.
    pub async fn start(rig: &Rig, name: &str, ballast: u32) -> Self {
        let script = APP.replace("@ballast@", &ballast.to_string());
        let sleeper = Self::of(rig, name, &script, |_| {}).await;
        sleeper.connect().await;
        sleeper
    }

    /// Starts something else.
    pub async fn begin(rig: &Rig, name: &str, edit: impl FnOnce(&mut ContainerSpec)) -> Self {
        Self::of(rig, name, "true", edit).await
    }

    async fn of(
        rig: &Rig,
        name: &str,
        script: &str,
        edit: impl FnOnce(&mut ContainerSpec),
    ) -> Self {
        let address = rig.network.mint_address().await.unwrap();
        let mut spec = rig.spec(name, script, address, Limits::default());
        edit(&mut spec);
        let container = ContainerId::mint();
        spec.id = OciId::new(&rig.instance, &container, Generation(1));
        let netns = rig.network.prepare(&spec.id, address).await.unwrap();
        spec.netns = netns.path().to_owned();
        rig.runtime.start(&spec).await.unwrap();
        netns.keep();
        Self {
            spec,
            container,
            generation: 1,
        }
    }

    /// An empty directory for images.
    pub fn images(&self, rig: &Rig) -> PathBuf {
        let images = rig.data_dir.join(format!("images-{}", self.spec.id));
        std::fs::create_dir_all(&images).unwrap();
        images
    }

    /// Pauses it and writes its images.
    pub async fn checkpoint(&self, rig: &Rig, images: &Path) -> Result<(), RuntimeError> {
        rig.network.hold(self.spec.address).await.unwrap();
        rig.runtime.pause(&self.spec.id).await?;
        rig.runtime.checkpoint(&self.spec.id, images).await
    }

    /// Thaws it.
    pub async fn thaw(&self, rig: &Rig) {
        rig.runtime.resume(&self.spec.id).await.unwrap();
        rig.network.let_go(self.spec.address).await.unwrap();
    }

    /// Takes it away, as after a commit.
    pub async fn kill(&self, rig: &Rig) {
        rig.network.release(&self.spec.id).await.unwrap();
        rig.runtime.remove(&self.spec.id).await.unwrap();
    }

    /// All of it.
    pub async fn sleep(&self, rig: &Rig) -> PathBuf {
        let images = self.images(rig);
        self.checkpoint(rig, &images).await.unwrap();
        self.kill(rig).await;
        images
    }

    /// The next generation, from images.
    pub async fn wake(&mut self, rig: &Rig, images: &Path) -> Result<(), RuntimeError> {
        let netns = self.prepare(rig).await;
        rig.runtime.restore(&self.spec, images).await?;
        netns.keep();
        rig.network.let_go(self.spec.address).await.unwrap();
        Ok(())
    }

    /// The next generation's network, held.
    pub async fn prepare(&mut self, rig: &Rig) -> Netns {
        self.generation += 1;
        let id = OciId::new(&rig.instance, &self.container, Generation(self.generation));
        self.spec.id = id;
        let prepared = rig.network.prepare(&self.spec.id, self.spec.address).await;
        let netns = prepared.unwrap();
        self.spec.netns = netns.path().to_owned();
        rig.network.hold(self.spec.address).await.unwrap();
        netns
    }

    /// A connection, as soon as there is one to be had.
    pub async fn connect(&self) -> Line {
        let address: SocketAddr = (self.spec.address, PORT).into();
        let connected = async {
            loop {
                if let Ok(stream) = TcpStream::connect(address).await {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let stream = tokio::time::timeout(PATIENCE, connected).await.unwrap();
        Line {
            stream: BufReader::new(stream),
        }
    }

    pub async fn ask(&self, question: &str) -> Value {
        self.connect().await.ask(question).await.unwrap()
    }
}

impl Line {
    pub async fn say(&mut self, question: &str) {
        let line = format!("{question}\n");
        self.stream.write_all(line.as_bytes()).await.unwrap();
    }

    /// None when the connection is gone.
    pub async fn hear(&mut self) -> Option<Value> {
        let mut answer = String::new();
        let read = self.stream.read_line(&mut answer);
        let read = tokio::time::timeout(PATIENCE, read).await.unwrap();
        read.ok().filter(|count| *count > 0)?;
        Some(serde_json::from_str(&answer).unwrap())
    }

    pub async fn ask(&mut self, question: &str) -> Option<Value> {
        self.say(question).await;
        self.hear().await
    }
}
