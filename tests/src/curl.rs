//! A visitor: curl, which speaks h1 and h2, verifies certificates against the printed CA file,
//! and streams.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process;
use crate::world::World;

/// How curl asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1, over TLS or plain.
    H1,
    /// HTTP/2 over TLS.
    H2,
}

/// One request to be.
pub struct Curl {
    command: Command,
    url: String,
    scratch: PathBuf,
    limit: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Header names in lower case; of several with one name the last.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Curl {
    /// A request for `url` at `world`, wherever its host name would lead.
    pub fn new(world: &World, version: Version, url: &str) -> Result<Self> {
        let ready = world.ready()?;
        let mut command = Command::new("curl");
        // No configuration file, no proxy: the machine's own settings must not matter.
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error"]);
        command.arg(match version {
            Version::H1 => "--http1.1",
            Version::H2 => "--http2",
        });
        command
            .env_remove("CURL_CA_BUNDLE")
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR");
        command.arg("--cacert").arg(&ready.ca_file);
        for port in [ready.https.port(), ready.http.port()] {
            command.arg("--resolve").arg(format!("*:{port}:127.0.0.1"));
        }
        Ok(Self {
            command,
            url: url.to_owned(),
            scratch: world.scratch()?,
            limit: Duration::from_secs(40),
        })
    }

    /// Adds a request header; given by a `Host` of its own, curl still asks TLS for the URL's.
    pub fn header(mut self, line: &str) -> Self {
        self.command.arg("--header").arg(line);
        self
    }

    /// Any argument.
    pub fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Uploads a file by PUT.
    pub fn upload(self, file: &Path) -> Self {
        self.argument("--upload-file").argument(file)
    }

    /// In place of 40 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends it and takes the answer.
    pub fn send(mut self) -> Result<Answer> {
        let (head, body) = (self.scratch.join("head"), self.scratch.join("body"));
        self.command
            .arg("--dump-header")
            .arg(&head)
            .arg("--output")
            .arg(&body);
        self.command
            .arg("--write-out")
            .arg("%{http_code} %{http_version}")
            .arg(&self.url);
        let told = process::run(self.command, self.limit)?.success();
        let told = told.with_context(|| format!("curl {}", self.url))?;
        let (status, version) = told
            .trim()
            .split_once(' ')
            .with_context(|| format!("curl said {told:?}"))?;
        let answer = Answer {
            status: status.parse()?,
            version: version.to_owned(),
            headers: headers(&fs::read_to_string(&head).unwrap_or_default()),
            body: fs::read(&body).unwrap_or_default(),
        };
        let _ = fs::remove_dir_all(&self.scratch);
        Ok(answer)
    }

    /// Sends it, or them where the URL stands for many; the bodies, one after the other.
    pub fn text(mut self) -> Result<String> {
        self.command.arg("--fail").arg(&self.url);
        let said = process::run(self.command, self.limit)?.success();
        said.with_context(|| format!("curl {}", self.url))
    }

    /// Sends it and gives what arrives, as it arrives.
    pub fn stream(mut self) -> Result<Stream> {
        self.command.args(["--no-buffer", "--fail"]).arg(&self.url);
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = process::spawn(self.command, Signal::SIGKILL)?;
        let stdout = child.stdout.take().context("curl's output")?;
        Ok(Stream {
            child,
            stdout: Some(stdout),
            lines: None,
        })
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a 200 as JSON.
    pub fn json(&self) -> Result<Value> {
        ensure!(
            self.status == 200,
            "status {}: {}",
            self.status,
            self.text()
        );
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header's value, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn headers(dump: &str) -> BTreeMap<String, String> {
    let lines = dump.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// A response that goes on; curl ends when this is dropped.
pub struct Stream {
    child: Child,
    stdout: Option<ChildStdout>,
    lines: Option<mpsc::Receiver<String>>,
}

impl Stream {
    /// The next line, or an error when none comes within `limit`.
    pub fn line(&mut self, limit: Duration) -> Result<String> {
        if self.lines.is_none() {
            let stdout = self.stdout.take().context("the stream is read already")?;
            // Little waits here: who does not ask for lines is slow for the server too.
            let (sender, lines) = mpsc::sync_channel(1);
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
            self.lines = Some(lines);
        }
        let lines = self.lines.as_ref().context("no lines")?;
        lines
            .recv_timeout(limit)
            .with_context(|| format!("no line within {limit:?}"))
    }

    /// Reads the raw bytes to their end through `look`; how many there were. curl must succeed.
    pub fn bytes(mut self, mut look: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<u64> {
        let mut stdout = self.stdout.take().context("the stream is read already")?;
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        loop {
            let count = stdout.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            look(total, &buffer[..count])?;
            total += count as u64;
        }
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "curl ended with {status} after {total} bytes"
        );
        Ok(total)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = process::signal_group(&self.child, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
