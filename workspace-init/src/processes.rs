//! The processes of this container, from `/proc`.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use init_protocol::{COMMAND_SHOWN, MAX_PROCESSES, Process};
use rustix::process::Pid;

/// Bytes of a user table that are read.
const MAX_PASSWD: u64 = 64 * 1024;

/// By number. Processes that end meanwhile are left out.
pub fn list() -> Vec<Process> {
    let users = users(&read("/etc/passwd", MAX_PASSWD));
    let mut pids: Vec<u32> = numbers().collect();
    pids.sort_unstable();
    pids.truncate(MAX_PROCESSES);
    pids.into_iter()
        .filter_map(|pid| process(pid, &users))
        .collect()
}

/// The processes of a session.
pub fn of_session(session: Pid) -> Vec<Pid> {
    numbers()
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .filter(|pid| rustix::process::getsid(Some(*pid)) == Ok(session))
        .collect()
}

fn numbers() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn process(pid: u32, users: &HashMap<u32, String>) -> Option<Process> {
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let stat = read(&format!("/proc/{pid}/stat"), 4096);
    let stat = parse_stat(std::str::from_utf8(&stat).unwrap_or_default())?;
    let arguments = read(&format!("/proc/{pid}/cmdline"), COMMAND_SHOWN as u64);
    Some(Process {
        pid,
        parent: stat.parent,
        user: users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        command: command(&arguments).unwrap_or_else(|| format!("[{}]", stat.name)),
        cpu_ms: stat.ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1),
        resident_bytes: stat.pages.saturating_mul(rustix::param::page_size() as u64),
    })
}

#[derive(Debug, PartialEq)]
struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
    pages: u64,
}

/// `7 (a name) S 1 …`: the name may hold spaces and parentheses, so it ends at the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)?.saturating_add(number(12)?),
        pages: number(21).unwrap_or_default(),
    })
}

/// Arguments joined by spaces; none for a kernel thread or a zombie.
fn command(arguments: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(arguments).replace('\0', " ");
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

fn users(passwd: &[u8]) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    String::from_utf8_lossy(passwd)
        .lines()
        .filter_map(entry)
        .collect()
}

fn read(path: &str, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What could be read before an error counts: a process may end in between.
        let _ = file.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = parse_stat(
            "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 99 123 456 rest",
        )
        .unwrap();
        let expected = Stat {
            name: "a) b (c)".to_owned(),
            parent: 3,
            ticks: 110,
            pages: 456,
        };
        assert_eq!(stat, expected);
        assert_eq!(parse_stat("7 (a) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn users_come_from_the_table() {
        let users = users(
            b"root:x:0:0:root:/root:/bin/sh\nbroken\nfleeks:x:1000:1000::/workspace:/bin/bash\n",
        );
        assert_eq!(users.get(&1000).map(String::as_str), Some("fleeks"));
        assert_eq!(users.len(), 2);
    }

    #[test]
    fn this_process_is_among_them() {
        let me = std::process::id();
        let mine = list()
            .into_iter()
            .find(|process| process.pid == me)
            .unwrap();
        assert!(mine.resident_bytes > 0);
        assert!(mine.command.contains("workspace_init"));
    }
}
