//! Where each controller lives on this machine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The controllers that we use.
const WANTED: [&str; 7] = ["blkio", "cpu", "cpuacct", "freezer", "io", "memory", "pids"];

/// Which interface a controller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub enum Version {
    One,
    Two,
}

/// Which limits can be applied; what cannot is for the doctor to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct Capabilities {
    pub memory: bool,
    pub swap: bool,
    pub cpu: bool,
    pub pids: bool,
    pub freezer: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    controllers: BTreeMap<&'static str, (Version, PathBuf)>,
    /// Of all hierarchies: runc enters those, too, that we have no use for.
    mounts: Vec<PathBuf>,
}

impl Layout {
    /// This machine's.
    ///
    /// # Errors
    /// What the system said.
    pub fn detect() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&mounts, |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// From the text of `mountinfo`; `unified` reads the controllers of a version 2 mount.
    fn parse(mountinfo: &str, unified: impl Fn(&Path) -> String) -> Self {
        let mut controllers = BTreeMap::new();
        let mut mounts = Vec::new();
        for line in mountinfo.lines() {
            let Some((mount, kind, options)) = parse_line(line) else {
                continue;
            };
            if matches!(kind, "cgroup" | "cgroup2") {
                mounts.push(PathBuf::from(mount));
            }
            match kind {
                "cgroup" => {
                    for name in WANTED {
                        if options.split(',').any(|option| option == name) {
                            controllers.insert(name, (Version::One, PathBuf::from(mount)));
                        }
                    }
                }
                "cgroup2" => {
                    let available = unified(Path::new(mount));
                    for name in WANTED {
                        let has = available.split_whitespace().any(|word| word == name);
                        // A controller is in one hierarchy only; freezing is always there.
                        let implied = name == "freezer" && !available.trim().is_empty();
                        if has || implied {
                            controllers
                                .entry(name)
                                .or_insert((Version::Two, PathBuf::from(mount)));
                        }
                    }
                }
                _ => {}
            }
        }
        Self {
            controllers,
            mounts,
        }
    }

    /// See [`Capabilities`].
    pub fn capabilities(&self) -> Capabilities {
        let has = |name: &str| self.controllers.contains_key(name);
        Capabilities {
            memory: has("memory"),
            swap: self
                .controllers
                .get("memory")
                .is_some_and(|(version, mount)| match version {
                    Version::One => mount.join("memory.memsw.limit_in_bytes").exists(),
                    // Where the kernel counts no swap, refusing it is taken as done.
                    Version::Two => true,
                }),
            cpu: self.controllers.get("cpu").is_some_and(|(version, mount)| {
                *version == Version::Two || mount.join("cpu.cfs_quota_us").exists()
            }),
            pids: has("pids"),
            freezer: has("freezer"),
        }
    }

    /// Each controller with its interface and mount point.
    pub fn controllers(&self) -> impl Iterator<Item = (&'static str, Version, &Path)> {
        self.controllers
            .iter()
            .map(|(name, (version, mount))| (*name, *version, mount.as_path()))
    }

    /// Mount points of the hierarchies with a controller of ours, each once.
    pub fn useful(&self) -> impl Iterator<Item = &Path> {
        let mut mounts: Vec<&Path> = self.controllers().map(|(_, _, mount)| mount).collect();
        mounts.sort_unstable();
        mounts.dedup();
        mounts.into_iter()
    }

    /// Mount points of all hierarchies.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(PathBuf::as_path)
    }

    /// The mount point of version 2, where it owns one of ours.
    pub fn unified(&self) -> Option<&Path> {
        self.controllers()
            .find(|(_, version, _)| *version == Version::Two)
            .map(|(_, _, mount)| mount)
    }
}

/// Mount point, type and super-block options of a line.
fn parse_line(line: &str) -> Option<(&str, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mount = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    Some((mount, right.next()?, right.nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
35 30 0:31 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
37 30 0:33 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
36 30 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn hybrid_uses_version_1() {
        let layout = Layout::parse(HYBRID, |_| "hugetlb\n".to_owned());
        let mut versions = layout.controllers().map(|(_, version, _)| version);
        assert!(versions.all(|version| version == Version::One));
        // All but `io`, which is what version 2 calls `blkio`.
        assert_eq!(layout.controllers().count(), WANTED.len() - 1);
        assert_eq!(layout.unified(), None);
    }

    #[test]
    fn version_2_owns_everything() {
        let layout = Layout::parse(UNIFIED, |_| {
            "cpuset cpu io memory hugetlb pids\n".to_owned()
        });
        assert_eq!(layout.unified(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(layout.hierarchies().count(), 1);
        let names: Vec<_> = layout.controllers().map(|(name, ..)| name).collect();
        assert_eq!(names, ["cpu", "freezer", "io", "memory", "pids"]);
    }

    #[test]
    fn controllers_named_together_share_a_mount() {
        let line = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
        let layout = Layout::parse(line, |_| String::new());
        assert_eq!(layout.controllers().count(), 2);
        assert_eq!(layout.hierarchies().count(), 1);
    }

    #[test]
    fn nothing_mounted_is_nothing_possible() {
        let layout = Layout::parse("garbage\n", |_| String::new());
        assert!(!layout.capabilities().memory);
        assert_eq!(layout.hierarchies().count(), 0);
    }
}
