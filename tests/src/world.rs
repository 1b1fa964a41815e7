//! A real `fleeks up` on ports and a data dir of its own.
//!
//! [`World::stop`] is the ordinary end: SIGTERM, exit code 0, nothing left in the kernel. A world
//! that is dropped instead is taken down by force. A world whose test process died is cleared
//! away by the next run (see `plot`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::api::Api;
use crate::plot::Plot;
use crate::process::Finished;
use crate::traces::Traces;
use crate::workspace::Workspace;
use crate::{process, wait};

/// From the start of `fleeks up` until `/health` is 200.
const READY: Duration = Duration::from_secs(60);
/// From SIGTERM until the process has gone: the drain and the removal of containers.
const GONE: Duration = Duration::from_secs(40);

/// Which runtime runs the containers of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "plain")]
pub enum Runtime {
    Runc,
    Runsc,
}

impl Runtime {
    /// As `--runtime` wants it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }
}

/// What `--ready-file` says.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the file's words")]
pub struct Ready {
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub api_key_file: PathBuf,
    pub ca_file: PathBuf,
    pub domain: String,
    pub pid: i32,
    pub instance: String,
}

/// How to start a world.
pub struct Builder {
    runtime: Runtime,
    freeze_after: Option<u64>,
    pools: Vec<(&'static str, String)>,
    pool_memory: Option<&'static str>,
    log: Option<&'static str>,
    environment: BTreeMap<String, String>,
    templates: Option<PathBuf>,
}

impl Builder {
    /// Further templates.
    pub fn templates(mut self, directory: &Path) -> Self {
        self.templates = Some(directory.to_owned());
        self
    }

    /// Warm containers of a template, in place of the defaults: 5, or "2..50".
    pub fn pool(mut self, template: &'static str, size: impl fmt::Display) -> Self {
        self.pools.push((template, size.to_string()));
        self
    }

    /// How much of the memory warm containers may take, in place of the default.
    pub fn pool_memory(mut self, share: &'static str) -> Self {
        self.pool_memory = Some(share);
        self
    }

    /// What its log says, in place of what the environment asks for.
    pub fn log(mut self, directives: &'static str) -> Self {
        self.log = Some(directives);
        self
    }

    /// A variable of its environment.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Seconds after which unused workspaces are frozen, in place of the default.
    pub fn freeze_after(mut self, seconds: u64) -> Self {
        self.freeze_after = Some(seconds);
        self
    }

    /// Starts it and waits until it is ready.
    pub fn open(self) -> Result<World> {
        let plot = Plot::claim()?;
        let mut world = World {
            runtime: self.runtime,
            freeze_after: self.freeze_after,
            pools: self.pools,
            pool_memory: self.pool_memory,
            log: self.log,
            templates: self.templates,
            plot,
            environment: self.environment,
            child: None,
            ready: None,
        };
        world.start()?;
        Ok(world)
    }
}

/// See the module.
pub struct World {
    runtime: Runtime,
    freeze_after: Option<u64>,
    pools: Vec<(&'static str, String)>,
    pool_memory: Option<&'static str>,
    log: Option<&'static str>,
    templates: Option<PathBuf>,
    plot: Plot,
    environment: BTreeMap<String, String>,
    child: Option<Child>,
    ready: Option<Ready>,
}

impl World {
    /// A world to be.
    pub fn builder(runtime: Runtime) -> Builder {
        Builder {
            runtime,
            freeze_after: None,
            pools: Vec::new(),
            pool_memory: None,
            log: None,
            environment: BTreeMap::new(),
            templates: None,
        }
    }

    /// One with small pools, for most stories.
    pub fn open(runtime: Runtime) -> Result<Self> {
        Self::builder(runtime)
            .pool("python", 2)
            .pool("node", 1)
            .pool("default", 1)
            .open()
    }

    /// Which runtime it has.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// What the platform said of itself at its last start.
    pub fn ready(&self) -> Result<&Ready> {
        self.ready.as_ref().context("this world never became ready")
    }

    /// The platform's process.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.ready()?.pid)
    }

    /// The API with the first owner's key, over loopback HTTP.
    pub fn api(&self) -> Result<Api> {
        let key = fs::read_to_string(&self.ready()?.api_key_file).context("read the API key")?;
        Ok(self.api_as(key.trim()))
    }

    /// The API with another key.
    pub fn api_as(&self, key: &str) -> Api {
        let http = self
            .ready
            .as_ref()
            .map(|ready| ready.http.to_string())
            .unwrap_or_default();
        Api::new(&format!("http://{http}"), Some(key))
    }

    /// A new workspace with a random project id; deleted when dropped.
    pub fn workspace(&self, template: &str) -> Result<Workspace> {
        Workspace::create(
            self.api()?,
            &format!("t-{:08x}", rand::random::<u32>()),
            template,
        )
    }

    /// What it has in the kernel now.
    pub fn traces(&self) -> Result<Traces> {
        Traces::of(self.plot.instance().as_deref(), self.plot.path())
    }

    /// Data dir.
    pub fn data_dir(&self) -> PathBuf {
        self.plot.path().join("data")
    }

    /// A directory for a story's own files, gone with the world.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self
            .plot
            .path()
            .join(format!("scratch-{:08x}", rand::random::<u32>()));
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Kills the platform as a power cut would: no handler runs, containers go on.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("nothing runs")?;
        process::signal_group(&child, Signal::SIGKILL)?;
        child.wait()?;
        Ok(())
    }

    /// A variable of its environment from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Waits until the platform has killed itself, at a fail point.
    pub fn died(&mut self, limit: Duration) -> Result<()> {
        let mut child = self.child.take().context("nothing runs")?;
        match process::wait_for_end(&mut child, limit)? {
            Some(status) => {
                ensure!(status.signal() == Some(9), "it ended with {status}");
                Ok(())
            }
            None => {
                self.child = Some(child);
                bail!("it did not die within {limit:?}")
            }
        }
    }

    /// Waits until the platform has stopped itself, at a fail point.
    pub fn is_stopped(&self, limit: Duration) -> Result<()> {
        let stat = format!("/proc/{}/stat", self.pid()?);
        wait::until_true("the platform to stand still", limit, || {
            let text = fs::read_to_string(&stat)?;
            let (_, rest) = text.rsplit_once(')').context("no state")?;
            Ok(rest.trim_start().starts_with('T'))
        })
    }

    /// Continues a platform that stands still.
    pub fn go_on(&self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.pid()?);
        nix::sys::signal::kill(pid, Signal::SIGCONT).context("continue the platform")
    }

    /// Starts the platform over the same data dir, on the same ports.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let ready_file = self.plot.path().join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = Command::new(binary()?);
        command.arg("up").arg("--data-dir").arg(self.data_dir());
        let address = |of: fn(&Ready) -> SocketAddr| {
            self.ready
                .as_ref()
                .map_or_else(|| "127.0.0.1:0".to_owned(), |ready| of(ready).to_string())
        };
        command.args([
            "--https",
            &address(|ready| ready.https),
            "--http",
            &address(|ready| ready.http),
            "--admin",
            &address(|ready| ready.admin),
        ]);
        command.args(["--runtime", self.runtime.name(), "--prefix", &prefix()]);
        if let Some(seconds) = self.freeze_after {
            command.arg("--freeze-after").arg(seconds.to_string());
        }
        for (template, count) in &self.pools {
            command.arg("--pool").arg(format!("{template}={count}"));
        }
        if let Some(share) = self.pool_memory {
            command.args(["--pool-memory", share]);
        }
        if let Some(directory) = &self.templates {
            command.arg("--templates").arg(directory);
        }
        command.arg("--ready-file").arg(&ready_file);
        if let Some(directives) = self.log {
            command.env("FLEEKS_LOG", directives);
        }
        command.envs(&self.environment);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // SIGTERM, so that the platform takes its containers down should this process be killed.
        let child = self.child.insert(process::spawn(command, Signal::SIGTERM)?);
        let ready = wait::until("the ready file", READY, || {
            if child.try_wait()?.is_some() {
                return Ok(Some(None));
            }
            let Ok(text) = fs::read(&ready_file) else {
                return Ok(None);
            };
            Ok(serde_json::from_slice::<Ready>(&text).ok().map(Some))
        });
        let ready = match ready {
            Ok(Some(ready)) => ready,
            Ok(None) => bail!(
                "`fleeks up` ended at once; the end of its log:\n{}",
                self.log_tail()
            ),
            Err(error) => bail!("{error}; the end of the log:\n{}", self.log_tail()),
        };
        self.ready = Some(ready);
        let health = self.api()?.get("/health")?;
        ensure!(
            health.status == 200,
            "ready, but /health says {}: {}",
            health.status,
            health.text()
        );
        Ok(())
    }

    /// Ends the platform as an operator would, and checks what `fleeks` promises of that.
    pub fn terminate(&mut self) -> Result<()> {
        let mut child = self.child.take().context("nothing runs")?;
        process::signal_group(&child, Signal::SIGTERM)?;
        let Some(status) = process::wait_for_end(&mut child, GONE)? else {
            process::signal_group(&child, Signal::SIGKILL)?;
            child.wait()?;
            bail!(
                "still running {GONE:?} after SIGTERM; the end of the log:\n{}",
                self.log_tail()
            );
        };
        ensure!(
            status.success(),
            "ended with {status} after SIGTERM; the end of the log:\n{}",
            self.log_tail()
        );
        let mut left = Traces::default();
        let clean = wait::until_true("nothing to be left", Duration::from_secs(5), || {
            left = self.traces()?;
            Ok(left.is_empty())
        });
        clean.with_context(|| {
            format!(
                "left behind by a clean stop:\n{left}the end of the log:\n{}",
                self.log_tail()
            )
        })
    }

    /// `fleeks down` on a platform that was killed.
    pub fn down(&self) -> Result<()> {
        let mut command = Command::new(binary()?);
        command.arg("down").arg("--data-dir").arg(self.data_dir());
        command.args(["--prefix", &prefix()]);
        process::run(command, GONE)?.success()?;
        Ok(())
    }

    /// `fleeks template check`.
    pub fn template_check(directory: &Path, options: &[&str]) -> Result<Finished> {
        let mut command = Command::new(binary()?);
        command
            .args(["template", "check"])
            .arg(directory)
            .args(options);
        process::run(command, Duration::from_secs(20))
    }

    /// What a second `fleeks up` on the same data dir says at its end.
    pub fn second(&self) -> Result<Finished> {
        let mut command = Command::new(binary()?);
        command.arg("up").arg("--data-dir").arg(self.data_dir());
        command.args([
            "--https",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--admin",
            "off",
        ]);
        command.args(["--runtime", self.runtime.name(), "--prefix", &prefix()]);
        process::run(command, Duration::from_secs(20))
    }

    /// [`Self::terminate`], and then the world's end.
    pub fn stop(mut self) -> Result<()> {
        self.terminate()
    }

    /// The last lines of the platform's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Where the platform's log is.
    pub fn log_file(&self) -> PathBuf {
        self.plot.path().join("fleeks.log")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = process::signal_group(&child, Signal::SIGTERM);
            // It may stand still.
            let _ = process::signal_group(&child, Signal::SIGCONT);
            if !matches!(process::wait_for_end(&mut child, GONE), Ok(Some(_))) {
                let _ = process::signal_group(&child, Signal::SIGKILL);
                let _ = child.wait();
            }
        }
        if let Ok(left) = self.traces()
            && !left.is_empty()
        {
            let _ = left.remove();
        }
    }
}

/// The `fleeks` that is tested.
pub fn binary() -> Result<PathBuf> {
    let named = std::env::var_os("FLEEKS_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        target
            .unwrap_or_else(|| repository().join("target"))
            .join("release/fleeks")
    });
    ensure!(
        path.is_file(),
        "{} is missing: run `make build`",
        path.display()
    );
    Ok(path)
}

fn prefix() -> String {
    std::env::var("FLEEKS_PREFIX").unwrap_or_else(|_| "/opt/fleeks".to_owned())
}

/// The root of the source tree.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
