//! A real registry on the loopback, and images made here that are pushed into it as any tool
//! would.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{process, wait};

const READY: Duration = Duration::from_secs(20);
/// Whom the registry lets in, where it asks: `agent`, `open sesame`.
const HTPASSWD: &str = "agent:$2y$04$sDVFYm2reXJaCGAs1Bf0Auck6nuQ.JeEHX1UGNHalezH5bs0mW3aO\n";
/// The Basic credentials of that.
pub const AUTH: &str = "YWdlbnQ6b3BlbiBzZXNhbWU=";

/// See the module. Ends with its value.
pub struct Registry {
    child: Child,
    directory: TempDir,
    address: SocketAddr,
    auth: bool,
}

impl Registry {
    /// Debian's `docker-registry` with an empty store; with `auth`, only for [`AUTH`].
    pub fn start(auth: bool) -> Result<Self> {
        let directory = TempDir::new()?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::write(at("htpasswd"), HTPASSWD)?;
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "info", "formatter": "json" },
            "storage": { "filesystem": { "rootdirectory": at("store") } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if auth {
            config["auth"] = json!({ "htpasswd": { "realm": "tests", "path": at("htpasswd") } });
        }
        // JSON is YAML.
        fs::write(at("config.yml"), config.to_string())?;
        let log = at("log");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(at("config.yml"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let child = process::spawn(command, Signal::SIGKILL)
            .context("docker-registry: `ops/setup --tests` installs it")?;
        let mut registry = Self {
            child,
            directory,
            address: ([127, 0, 0, 1], 0).into(),
            auth,
        };
        registry.address = wait::until("the registry to listen", READY, || {
            let file = BufReader::new(File::open(&log)?);
            let mut lines = file.lines().map_while(Result::ok);
            let said = lines.find_map(|line| {
                let line: Value = serde_json::from_str(&line).ok()?;
                let address = line["msg"].as_str()?.strip_prefix("listening on ")?;
                address.parse().ok()
            });
            Ok(said)
        })?;
        Ok(registry)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes an image; its manifest's digest.
    pub fn push(&self, name: &str, tag: &str, image: &Image) -> Result<String> {
        for blob in image.layers.iter().map(|layer| &layer.blob) {
            self.push_blob(name, blob)?;
        }
        let config = image.config().to_string().into_bytes();
        self.push_blob(name, &config)?;
        let kind = "application/vnd.oci.image";
        let layers = image.layers.iter().map(|layer| {
            json!({
                "mediaType": format!("{kind}.layer.v1.tar{}", layer.compression),
                "digest": digest(&layer.blob), "size": layer.blob.len(),
            })
        });
        let layers: Vec<Value> = layers.collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{kind}.manifest.v1+json"),
            "config": {
                "mediaType": format!("{kind}.config.v1+json"),
                "digest": digest(&config), "size": config.len(),
            },
            "layers": layers,
        });
        self.push_manifest(name, tag, &manifest)
    }

    /// Pushes an index whose variant for this machine is that manifest.
    pub fn push_index(&self, name: &str, tag: &str, manifest: &str) -> Result<String> {
        let of = |architecture: &str, digest: &str| {
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
                "size": 2, "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [of("arm64", manifest), of("amd64", manifest)],
        });
        self.push_manifest(name, tag, &index)
    }

    fn push_manifest(&self, name: &str, tag: &str, manifest: &Value) -> Result<String> {
        let kind = manifest["mediaType"].as_str().context("a kind")?;
        let body = manifest.to_string().into_bytes();
        let url = format!("http://{}/v2/{name}/manifests/{tag}", self.address);
        self.send("PUT", &url, kind, &body)?;
        Ok(digest(&body))
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let url = format!("http://{}/v2/{name}/blobs/uploads/", self.address);
        let place = self.send("POST", &url, "application/octet-stream", &[])?;
        let join = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{join}digest={}", digest(bytes));
        self.send("PUT", &url, "application/octet-stream", bytes)?;
        Ok(())
    }

    /// The Location of the answer.
    fn send(&self, method: &str, url: &str, kind: &str, body: &[u8]) -> Result<String> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("Content-Type", kind);
        if self.auth {
            request = request.header("Authorization", format!("Basic {AUTH}"));
        }
        let answer = ureq::run(request.body(body)?);
        let answer = answer.with_context(|| format!("{method} {url}"))?;
        let place = answer.headers().get("Location");
        Ok(place.map_or(Ok(""), |place| place.to_str())?.to_owned())
    }

    /// Changes a byte of what it has of a blob; it goes on to say that it is the same.
    pub fn tamper(&self, blob: &str) -> Result<()> {
        let hex = blob.trim_start_matches("sha256:");
        let store = "store/docker/registry/v2/blobs/sha256";
        let path = self.directory.path().join(store).join(&hex[..2]);
        let path = path.join(hex).join("data");
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(&path, bytes)?)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = process::signal_group(&self.child, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// An image in the making.
#[derive(Default)]
pub struct Image {
    layers: Vec<Layer>,
    /// What its configuration says under `config`.
    pub said: Value,
}

struct Layer {
    /// Of the tar.
    diff: String,
    blob: Vec<u8>,
    compression: &'static str,
}

impl Image {
    /// With a layer of that tar, as it is, by `gzip`, or by `zstd`.
    pub fn layer(mut self, tar: &[u8], compression: &'static str) -> Result<Self> {
        let blob = match compression {
            "" => tar.to_vec(),
            other => filtered(other, tar)?,
        };
        self.layers.push(Layer {
            diff: digest(tar),
            blob,
            compression: match compression {
                "gzip" => "+gzip",
                "zstd" => "+zstd",
                _ => "",
            },
        });
        Ok(self)
    }

    /// The digest of a layer as it is in the registry.
    pub fn blob(&self, number: usize) -> String {
        digest(&self.layers[number].blob)
    }

    fn config(&self) -> Value {
        let diffs: Vec<&String> = self.layers.iter().map(|layer| &layer.diff).collect();
        json!({
            "os": "linux", "architecture": "amd64", "config": self.said,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        })
    }
}

fn filtered(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.arg("-1").arg("-c");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = process::spawn(command, Signal::SIGKILL)?;
    let mut input = child.stdin.take().context("an input")?;
    let text = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&text));
    let mut output = Vec::new();
    let mut stdout = child.stdout.take().context("an output")?;
    stdout.read_to_end(&mut output)?;
    ensure!(child.wait()?.success(), "{program} failed");
    writer.join().ok().context("the writer")??;
    Ok(output)
}

/// `sha256:…` of something.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A way to a registry that breaks: each connection ends after so many bytes of answers.
pub struct Flaky {
    address: SocketAddr,
    broken: Arc<AtomicUsize>,
}

impl Flaky {
    /// In front of `target`. Lives as long as the test.
    pub fn before(target: SocketAddr, bytes: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let flaky = Self {
            address: listener.local_addr()?,
            broken: Arc::default(),
        };
        let broken = Arc::clone(&flaky.broken);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let broken = Arc::clone(&broken);
                std::thread::spawn(move || pass(client, target, bytes, &broken));
            }
        });
        Ok(flaky)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it broke.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }
}

fn pass(client: TcpStream, target: SocketAddr, bytes: usize, broken: &AtomicUsize) -> Option<()> {
    let server = TcpStream::connect(target).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let limit = u64::try_from(bytes).ok()?;
    let copied = std::io::copy(&mut (&server).take(limit), &mut &client).ok()?;
    if copied == limit {
        broken.fetch_add(1, Ordering::SeqCst);
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
    Some(())
}
