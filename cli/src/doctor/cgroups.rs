//! Which cgroup layout the machine has, read from its mount table.
//!
//! Must never happen here: I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What limits a workspace; `freezer` is built into v2.
pub const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Where controllers are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cgroups {
    /// Controllers of v1 and where each is mounted.
    pub v1: BTreeMap<String, PathBuf>,
    /// The v2 hierarchy, if it is mounted, and the controllers in it.
    pub v2: Option<(PathBuf, Vec<String>)>,
}

/// The three ways in which distributions mount cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Only v1.
    V1,
    /// Only v2.
    V2,
    /// Controllers in v1, and a v2 hierarchy that has few or none.
    Hybrid,
    /// Nothing is mounted.
    None,
}

impl Cgroups {
    /// From `/proc/self/mounts`; `v2_controllers` is asked for the content of a hierarchy's
    /// `cgroup.controllers`.
    pub fn parse(mounts: &str, v2_controllers: impl Fn(&PathBuf) -> String) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(_), Some(at), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let at = PathBuf::from(at);
            match kind {
                "cgroup" => {
                    for controller in options
                        .split(',')
                        .filter(|o| NEEDED.contains(o) || *o == "freezer")
                    {
                        found
                            .v1
                            .entry(controller.to_owned())
                            .or_insert_with(|| at.clone());
                    }
                }
                "cgroup2" if found.v2.is_none() => {
                    let controllers = v2_controllers(&at)
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect();
                    found.v2 = Some((at, controllers));
                }
                _ => {}
            }
        }
        found
    }

    /// Which of the layouts it is.
    pub fn layout(&self) -> Layout {
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => Layout::None,
            (true, Some(_)) => Layout::V2,
            (false, None) => Layout::V1,
            (false, Some(_)) => Layout::Hybrid,
        }
    }

    /// Needed controllers that are in no hierarchy: nothing limits a workspace by them.
    pub fn missing(&self) -> Vec<&'static str> {
        let in_v2 = |name: &str| {
            self.v2
                .as_ref()
                .is_some_and(|(_, all)| all.iter().any(|c| c == name))
        };
        NEEDED
            .into_iter()
            .filter(|name| !self.v1.contains_key(*name) && !in_v2(name))
            .collect()
    }

    /// A directory of each hierarchy in which a group for a workspace would be made.
    pub fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<_> = self.v1.values().cloned().collect();
        if let (true, Some((at, _))) = (self.v1.is_empty(), &self.v2) {
            roots.push(at.clone());
        }
        roots.sort();
        roots.dedup();
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n";
    const UNIFIED: &str = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    const V2: &str = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";

    #[test]
    fn v1_and_hybrid_take_their_controllers_from_v1() {
        let v1 = Cgroups::parse(V1, |_| unreachable!());
        assert_eq!((v1.layout(), v1.missing()), (Layout::V1, vec![]));
        let hybrid = Cgroups::parse(&format!("{V1}{UNIFIED}"), |_| "hugetlb\n".into());
        assert_eq!(
            (hybrid.layout(), hybrid.missing()),
            (Layout::Hybrid, vec![])
        );
        let roots =
            ["cpu,cpuacct", "memory", "pids"].map(|c| PathBuf::from("/sys/fs/cgroup").join(c));
        assert_eq!(hybrid.roots(), roots);
    }

    #[test]
    fn v2_lists_its_controllers_in_a_file() {
        let all = Cgroups::parse(V2, |_| "cpuset cpu io memory pids\n".into());
        assert_eq!((all.layout(), all.missing()), (Layout::V2, vec![]));
        assert_eq!(all.roots(), [PathBuf::from("/sys/fs/cgroup")]);
        let some = Cgroups::parse(V2, |_| "cpu pids".into());
        assert_eq!(some.missing(), ["memory"]);
    }

    #[test]
    fn nothing_is_made_of_nothing_or_of_garbage() {
        for mounts in ["", "\n\n", "cgroup", "cgroup2 /x", "a b c d e f"] {
            let none = Cgroups::parse(mounts, |_| String::new());
            assert_eq!(
                (none.layout(), none.missing()),
                (Layout::None, NEEDED.to_vec()),
                "{mounts:?}"
            );
        }
    }
}
