//! Control groups: the limits of a container, and what it uses.
//!
//! Three layouts exist: version 1 (a hierarchy per controller), version 2 (one for all), and
//! hybrid (version 2 is mounted but owns no or few controllers). So each controller is looked up
//! by itself, and everything of ours stands at `/fleeks/<instance>/<name>` in each hierarchy.
//!
//! Must never happen here: a cgroup outside `/fleeks/<instance>` changed.

mod disk;
mod freezer;
mod layout;

use std::io;
use std::path::{Path, PathBuf};

use fleet::id::InstanceId;
use fleet::timing;

use crate::config::Limits;
use crate::runtime::{Traffic, Usage};
use freezer::Freezer;
pub use layout::{Capabilities, Layout, Version};

const TOP: &str = "fleeks";
const CPU_PERIOD_MICROS: u64 = 100_000;
/// What all sandboxes weigh together, for each CPU: as two busy threads of the host's, so that
/// neither they nor the platform starve when both have much to do. (Without, a thousand sandboxes
/// weigh as one thread.)
const WEIGHT_PER_CPU: u64 = 2048;
/// The kernel's own bounds of a weight (version 1).
const WEIGHTS: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Which limits this machine can apply, without an instance: for the doctor.
///
/// # Errors
/// What the system said.
pub fn capabilities() -> io::Result<Capabilities> {
    Ok(Layout::detect()?.capabilities())
}

/// The cgroups of one instance.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    instance: InstanceId,
}

impl Cgroups {
    /// Finds out how this machine's cgroups are laid out.
    ///
    /// # Errors
    /// What the system said.
    pub fn detect(instance: InstanceId) -> io::Result<Self> {
        let layout = Layout::detect()?;
        Ok(Self { layout, instance })
    }

    /// Which limits can be applied here at all.
    pub fn capabilities(&self) -> Capabilities {
        self.layout.capabilities()
    }

    /// The path of a container's cgroup within each hierarchy.
    pub fn path(&self, name: &str) -> String {
        format!("/{TOP}/{}/{name}", self.instance)
    }

    /// Makes the level above the containers', with what they weigh together against the rest of
    /// the machine.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(&self) -> io::Result<()> {
        let cpu = self.layout.controllers().find(|(name, ..)| *name == "cpu");
        let Some((_, version, mount)) = cpu else {
            return Ok(());
        };
        let ours = self.directory(mount, "");
        // An instance that ends at this moment may take the level above away once more.
        if std::fs::create_dir_all(&ours).is_err() {
            std::fs::create_dir_all(&ours)?;
        }
        if version == Version::Two {
            self.delegate(mount)?;
        }
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        write_weight(&mount.join(TOP), version, WEIGHT_PER_CPU * cpus)
    }

    /// Makes a container's cgroup with its limits, and returns the files into which a process
    /// writes `0` to enter it.
    ///
    /// # Errors
    /// What the system said; the caller removes what there is.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<Vec<PathBuf>> {
        if let Some(unified) = self.layout.unified() {
            self.delegate(unified)?;
        }
        let mut entrances = Vec::new();
        for hierarchy in self.layout.useful() {
            let directory = self.directory(hierarchy, name);
            std::fs::create_dir_all(&directory)?;
            entrances.push(directory.join("cgroup.procs"));
        }
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_MICROS / 1000;
        for (controller, version, mount) in self.layout.controllers() {
            let directory = self.directory(mount, name);
            let set = |file: &str, value: String| write_limit(&directory.join(file), &value);
            match (controller, version) {
                ("memory", Version::One) => {
                    set("memory.limit_in_bytes", limits.memory_bytes.to_string())?;
                    set(
                        "memory.memsw.limit_in_bytes",
                        limits.memory_bytes.to_string(),
                    )?;
                }
                ("memory", Version::Two) => {
                    set("memory.max", limits.memory_bytes.to_string())?;
                    set("memory.swap.max", "0".to_owned())?;
                }
                ("cpu", Version::One) => {
                    set("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string())?;
                    set("cpu.cfs_quota_us", quota.to_string())?;
                    write_weight(&directory, version, weight(limits))?;
                }
                ("cpu", Version::Two) => {
                    set("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}"))?;
                    write_weight(&directory, version, weight(limits))?;
                }
                ("pids", _) => set("pids.max", limits.pids.to_string())?,
                _ => {}
            }
        }
        Ok(entrances)
    }

    /// Lets cgroups below ours have controllers (version 2 only).
    fn delegate(&self, unified: &Path) -> io::Result<()> {
        let top = unified.join(TOP);
        let ours = top.join(self.instance.as_str());
        std::fs::create_dir_all(&ours)?;
        for directory in [unified, &top, &ours] {
            for (controller, version, _) in self.layout.controllers() {
                // Version 2 counts CPU time and freezes without a controller.
                if version == Version::Two && matches!(controller, "cpu" | "io" | "memory" | "pids")
                {
                    let file = directory.join("cgroup.subtree_control");
                    std::fs::write(file, format!("+{controller}"))?;
                }
            }
        }
        Ok(())
    }

    /// What a container uses now; zeros where nobody counts.
    pub fn usage(&self, name: &str) -> Usage {
        let mut usage = Usage::default();
        for (controller, version, mount) in self.layout.controllers() {
            let directory = self.directory(mount, name);
            match (controller, version) {
                ("memory", Version::One) => {
                    // What the kernel would give back first is not in use.
                    usage.memory_bytes = number(&directory.join("memory.usage_in_bytes"))
                        .saturating_sub(stat(&directory, "memory.stat", "total_inactive_file"));
                }
                ("memory", Version::Two) => {
                    usage.memory_bytes = number(&directory.join("memory.current"))
                        .saturating_sub(stat(&directory, "memory.stat", "inactive_file"));
                }
                ("cpuacct", Version::One) => {
                    usage.cpu_micros = number(&directory.join("cpuacct.usage")) / 1000;
                }
                ("cpu", Version::Two) => {
                    usage.cpu_micros = stat(&directory, "cpu.stat", "usage_usec");
                }
                ("pids", _) => usage.pids = number(&directory.join("pids.current")),
                _ => {}
            }
        }
        usage
    }

    /// What a container read from and wrote to disks since it started, as far as anybody counted.
    pub fn disk(&self, name: &str) -> Traffic {
        let (mut by_cgroup, mut by_process) = (Traffic::default(), Traffic::default());
        for (controller, version, mount) in self.layout.controllers() {
            let directory = self.directory(mount, name);
            let read = |file| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
            match (controller, version) {
                ("blkio", Version::One) => {
                    by_cgroup = disk::version_1(&read("blkio.throttle.io_service_bytes_recursive"));
                }
                ("io", Version::Two) => by_cgroup = disk::version_2(&read("io.stat")),
                ("pids", _) => by_process = disk::of_processes(&read("cgroup.procs")),
                _ => {}
            }
        }
        Traffic {
            received: by_cgroup.received.max(by_process.received),
            sent: by_cgroup.sent.max(by_process.sent),
        }
    }

    /// Stops all of a container's processes where they are, and waits until they stand. Idempotent.
    ///
    /// # Errors
    /// `TimedOut` when some process does not stop (they all run again then); else what the system
    /// said.
    pub async fn freeze(&self, name: &str) -> io::Result<()> {
        let freezer = self.freezer(name)?;
        let stopped = async {
            loop {
                // Again each time: a process that forks just now can be missed once.
                freezer.set(true)?;
                if freezer.is_frozen()? {
                    return Ok(());
                }
                tokio::time::sleep(timing::CGROUP_POLL).await;
            }
        };
        let outcome = tokio::time::timeout(timing::FREEZE, stopped)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if outcome.is_err() {
            drop(freezer.set(false));
        }
        outcome
    }

    /// Whether a container's processes stand still, or are told to.
    pub fn is_frozen(&self, name: &str) -> bool {
        let freezer = self.freezer(name);
        freezer.is_ok_and(|freezer| freezer.is_told().unwrap_or(false))
    }

    /// The processes in a container's cgroup; none if there is none.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let hierarchy = self.layout.useful().next();
        let directory = hierarchy.map(|hierarchy| self.directory(hierarchy, name));
        directory.map_or_else(Vec::new, |directory| processes_in(&directory))
    }

    /// Lets a frozen container's processes go on. Idempotent.
    ///
    /// # Errors
    /// What the system said.
    pub fn thaw(&self, name: &str) -> io::Result<()> {
        self.freezer(name)?.set(false)
    }

    fn freezer(&self, name: &str) -> io::Result<Freezer> {
        self.layout
            .controllers()
            .find(|(controller, ..)| *controller == "freezer")
            .map(|(_, version, mount)| Freezer {
                version,
                directory: self.directory(mount, name),
            })
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no freezer here"))
    }

    /// Kills everything in a container's cgroup and waits until it is dead, up to
    /// `timing::RUNTIME_COMMAND`. What is frozen does nothing any more. Idempotent.
    ///
    /// # Errors
    /// `TimedOut` when something does not die.
    pub async fn kill(&self, name: &str) -> io::Result<()> {
        let killed = async {
            while self.kill_all(name) > 0 {
                // Only now, when each has its SIGKILL pending: what is on disk as a snapshot must
                // not write to its volume once more. Without a freezer nothing is frozen.
                drop(self.thaw(name));
                tokio::time::sleep(timing::CGROUP_POLL).await;
            }
        };
        tokio::time::timeout(timing::RUNTIME_COMMAND, killed)
            .await
            .map_err(|_| io::ErrorKind::TimedOut.into())
    }

    /// How many processes were still there.
    fn kill_all(&self, name: &str) -> usize {
        self.layout
            .hierarchies()
            .map(|hierarchy| {
                let directory = self.directory(hierarchy, name);
                let below: usize = subdirectories(&directory).iter().map(|d| kill_in(d)).sum();
                below + kill_in(&directory)
            })
            .sum()
    }

    /// Kills what is left in a container's cgroup and removes it. Idempotent. Waits for processes
    /// to die, up to `timing::RUNTIME_COMMAND`.
    ///
    /// # Errors
    /// `TimedOut` when something does not die; else what the system said.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        let removed = async {
            while !self.try_remove(name)? {
                tokio::time::sleep(timing::CGROUP_POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(timing::RUNTIME_COMMAND, removed)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether all of a container's cgroups are gone now.
    fn try_remove(&self, name: &str) -> io::Result<bool> {
        let mut gone = true;
        for hierarchy in self.layout.hierarchies() {
            let directory = self.directory(hierarchy, name);
            // A runtime may have made cgroups below.
            for child in subdirectories(&directory) {
                gone &= remove_one(&child)?;
            }
            gone &= remove_one(&directory)?;
        }
        Ok(gone)
    }

    /// Names of all containers that have a cgroup.
    pub fn list(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .layout
            .hierarchies()
            .flat_map(|hierarchy| subdirectories(&self.directory(hierarchy, "")))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes the instance's own level, if it is empty, and the one above likewise.
    pub fn close(&self) {
        for hierarchy in self.layout.hierarchies() {
            // Not empty: somebody still needs it.
            if std::fs::remove_dir(self.directory(hierarchy, "")).is_ok() {
                drop(std::fs::remove_dir(hierarchy.join(TOP)));
            }
        }
    }

    fn directory(&self, hierarchy: &Path, name: &str) -> PathBuf {
        hierarchy.join(TOP).join(self.instance.as_str()).join(name)
    }
}

/// What a container weighs against its neighbours: as much as it may use.
pub(crate) fn weight(limits: &Limits) -> u64 {
    (u64::from(limits.cpu_millis) * 1024 / 1000).clamp(*WEIGHTS.start(), *WEIGHTS.end())
}

/// Written as the controller wants it: version 2 counts from 1 to 10,000, where 100 is usual.
fn write_weight(directory: &Path, version: Version, weight: u64) -> io::Result<()> {
    let weight = weight.clamp(*WEIGHTS.start(), *WEIGHTS.end());
    match version {
        Version::One => write_limit(&directory.join("cpu.shares"), &weight.to_string()),
        Version::Two => {
            let weight = (weight * 100 / 1024).clamp(1, 10_000);
            write_limit(&directory.join("cpu.weight"), &weight.to_string())
        }
    }
}

/// A limit that this kernel does not know is not set; [`Capabilities`] tells.
fn write_limit(file: &Path, value: &str) -> io::Result<()> {
    match std::fs::write(file, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The kernel has no file of that name to create.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !file.exists() => Ok(()),
        other => other,
    }
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether one cgroup is gone; kills who is still in it.
fn remove_one(directory: &Path) -> io::Result<bool> {
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        Err(error) => return Err(error),
    }
    kill_in(directory);
    Ok(false)
}

/// Sends SIGKILL to the processes of one cgroup; how many there were.
fn kill_in(directory: &Path) -> usize {
    let processes = processes_in(directory);
    for process in &processes {
        // 0 is a process of another pid namespace; negative would be a group.
        if *process > 0 {
            let process = nix::unistd::Pid::from_raw(*process);
            // Gone meanwhile is as good.
            let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
        }
    }
    processes.len()
}

fn processes_in(directory: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn number(file: &Path) -> u64 {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn stat(directory: &Path, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
