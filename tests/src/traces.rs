//! What an instance leaves in the kernel: processes, network namespaces, links, nftables tables,
//! cgroups, mounts. Found by the instance's id and its data dir, so that nothing of another
//! instance is ever taken for its.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{process, wait};

/// All traces found at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Processes whose cgroup, command line or network namespace is the instance's.
    pub processes: Vec<(i32, String)>,
    /// Names below `/run/netns`.
    pub netns: Vec<String>,
    /// Network interfaces of the host.
    pub links: Vec<String>,
    /// `family name` of nftables tables.
    pub tables: Vec<String>,
    /// Control groups, deepest first.
    pub cgroups: Vec<PathBuf>,
    /// Mount points, last mounted first.
    pub mounts: Vec<String>,
}

impl Traces {
    /// Looks for them. `home` is the directory that holds the data dir.
    pub fn of(instance: Option<&str>, home: &Path) -> Result<Self> {
        let home = home.to_string_lossy().into_owned();
        let needles: Vec<&str> = instance
            .into_iter()
            .filter(|id| id.len() >= 7)
            .chain([home.as_str()])
            .collect();
        let ours = |text: &str| needles.iter().any(|needle| text.contains(needle));
        let netns = names_in("/run/netns", &ours);
        Ok(Self {
            processes: processes(&ours, &netns),
            links: names_in("/sys/class/net", &ours),
            tables: tables(&ours)?,
            cgroups: cgroups(&ours),
            mounts: mounts(&ours),
            netns,
        })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many containers have control groups.
    pub fn containers(&self) -> usize {
        let below = |path: &PathBuf| {
            let mut names = path.components().map(|part| part.as_os_str());
            names.by_ref().find(|name| *name == "fleeks");
            names.nth(1).map(std::ffi::OsStr::to_owned)
        };
        self.cgroups
            .iter()
            .filter_map(below)
            .collect::<HashSet<_>>()
            .len()
    }

    /// How many commands of a runtime write or read a snapshot now.
    pub fn sleep_commands(&self) -> usize {
        let words = |command: &str| {
            let mut words = command.split(' ');
            words.any(|word| matches!(word, "checkpoint" | "restore" | "dump"))
        };
        let all = self.processes.iter();
        all.filter(|(_, command)| words(command)).count()
    }

    /// Removes them all, by force.
    pub fn remove(&self) -> Result<()> {
        for (pid, _) in &self.processes {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let gone = |pid: &i32| is_zombie(*pid) || !Path::new(&format!("/proc/{pid}")).exists();
        // One that a debugger or a stuck mount holds is not worth failing a later run for.
        let _ = wait::until_true("killed processes to go", Duration::from_secs(5), || {
            Ok(self.processes.iter().all(|(pid, _)| gone(pid)))
        });
        for mount in &self.mounts {
            let _ = nix::mount::umount2(mount.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        for name in &self.netns {
            run_quietly("ip", &["netns", "delete", name]);
        }
        for name in &self.links {
            run_quietly("ip", &["link", "delete", name]);
        }
        for table in &self.tables {
            let words: Vec<&str> = ["delete", "table"]
                .into_iter()
                .chain(table.split(' '))
                .collect();
            run_quietly("nft", &words);
        }
        for cgroup in &self.cgroups {
            let _ = wait::until_true("a control group to empty", Duration::from_secs(2), || {
                Ok(!cgroup.exists() || fs::remove_dir(cgroup).is_ok())
            });
        }
        Ok(())
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pid, command) in &self.processes {
            writeln!(f, "  process {pid}: {command}")?;
        }
        for (kind, names) in [
            ("netns", &self.netns),
            ("link", &self.links),
            ("nft table", &self.tables),
            ("mount", &self.mounts),
        ] {
            for name in names {
                writeln!(f, "  {kind} {name}")?;
            }
        }
        for cgroup in &self.cgroups {
            writeln!(f, "  cgroup {}", cgroup.display())?;
        }
        Ok(())
    }
}

fn run_quietly(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments);
    let _ = process::run(command, Duration::from_secs(10));
}

fn names_in(directory: &str, ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| ours(name)).collect()
}

fn processes(ours: &dyn Fn(&str) -> bool, netns: &[String]) -> Vec<(i32, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: String| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let spaces: Vec<_> = netns
        .iter()
        .filter_map(|name| inode(format!("/run/netns/{name}")))
        .collect();
    let me = nix::unistd::getpid().as_raw();
    let mut found = Vec::new();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = pid.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        if pid == me || is_zombie(pid) {
            continue;
        }
        let read = |file: &str| {
            fs::read(format!("/proc/{pid}/{file}"))
                .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
                .unwrap_or_default()
        };
        let command = read("cmdline");
        let inside =
            || inode(format!("/proc/{pid}/ns/net")).is_some_and(|space| spaces.contains(&space));
        if ours(&command) || ours(&read("cgroup")) || inside() {
            found.push((pid, command.trim().to_owned()));
        }
    }
    found
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn tables(ours: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut command = Command::new("nft");
    command.args(["list", "tables"]);
    let Ok(finished) = process::run(command, Duration::from_secs(10)) else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.strip_prefix("table "));
    Ok(names.filter(|name| ours(name)).map(str::to_owned).collect())
}

fn cgroups(ours: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    // Of a thousand containers there are ten thousand.
    let mut found = HashSet::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if ours(&entry.file_name().to_string_lossy()) || found.contains(&directory) {
                found.insert(entry.path());
            }
            if depth < 6 {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    let mut found: Vec<PathBuf> = found.into_iter().collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

fn mounts(ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| ours(point))
        .map(str::to_owned)
        .rev()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_removes_what_bears_the_name() {
        let instance = format!("ftest{:08x}", rand::random::<u32>());
        let nowhere = Path::new("/nonexistent/fleeks-world");
        let look = || Traces::of(Some(&instance), nowhere).unwrap();
        assert!(look().is_empty());
        run_quietly("ip", &["netns", "add", &format!("{instance}-a")]);
        run_quietly("nft", &["add", "table", "inet", &instance]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{instance}-a"), "sleep", "60"]);
        let mut child = process::spawn(command, Signal::SIGKILL).unwrap();
        wait::until_true("the sleeper", Duration::from_secs(5), || {
            Ok(!look().processes.is_empty())
        })
        .unwrap();
        let found = look();
        assert_eq!(found.netns, [format!("{instance}-a")]);
        assert_eq!(found.tables, [format!("inet {instance}")]);
        assert!(found.to_string().contains("sleep"));
        found.remove().unwrap();
        child.wait().unwrap();
        assert!(look().is_empty(), "{}", look());
    }
}
