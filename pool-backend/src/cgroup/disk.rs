//! What a container read from and wrote to disks: by its cgroup, in the kernel's two spellings, and
//! by its processes.
//!
//! Recent kernels count nothing for cgroups of version 1 that have no limit on I/O, so processes are
//! asked as well. A process that is reaped leaves its count to its parent, in the end to init: the
//! sum over the living does not fall.

use crate::runtime::Traffic;

/// Lines `MAJOR:MINOR Read BYTES`; one for each device and operation, and totals.
pub(super) fn version_1(text: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(operation), Some(bytes)) = (words.next(), words.next()) else {
            continue;
        };
        let bytes: u64 = bytes.parse().unwrap_or(0);
        match operation {
            "Read" => traffic.received = traffic.received.saturating_add(bytes),
            "Write" => traffic.sent = traffic.sent.saturating_add(bytes),
            _ => {}
        }
    }
    traffic
}

/// Lines `MAJOR:MINOR rbytes=BYTES wbytes=BYTES …`; one for each device.
pub(super) fn version_2(text: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for word in text.lines().flat_map(str::split_ascii_whitespace) {
        let Some((name, value)) = word.split_once('=') else {
            continue;
        };
        let bytes: u64 = value.parse().unwrap_or(0);
        match name {
            "rbytes" => traffic.received = traffic.received.saturating_add(bytes),
            "wbytes" => traffic.sent = traffic.sent.saturating_add(bytes),
            _ => {}
        }
    }
    traffic
}

/// Of the processes that a `cgroup.procs` names.
pub(super) fn of_processes(processes: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for process in processes.lines().filter(|line| is_number(line)) {
        let io = std::fs::read_to_string(format!("/proc/{process}/io"));
        let process = by_process(&io.unwrap_or_default());
        traffic.received = traffic.received.saturating_add(process.received);
        traffic.sent = traffic.sent.saturating_add(process.sent);
    }
    traffic
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lines `name: BYTES`.
fn by_process(text: &str) -> Traffic {
    let bytes = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| *known == name);
        found.and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0)
    };
    Traffic {
        received: bytes("read_bytes"),
        sent: bytes("write_bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let one = "8:0 Read 100\n8:0 Write 7\n8:0 Sync 1\n8:16 Read 1\n8:16 Write x\nTotal 108\n";
        let two = "8:0 rbytes=100 wbytes=7 rios=1 wios=1\n8:16 rbytes=1 wbytes=0\n254:0\n";
        let expected = Traffic {
            received: 101,
            sent: 7,
        };
        assert_eq!(version_1(one), expected);
        assert_eq!(version_2(two), expected);
        assert_eq!(version_1(""), Traffic::default());
        let process = "rchar: 9\nread_bytes: 101\nwrite_bytes: 7\ncancelled_write_bytes: 1\n";
        assert_eq!(by_process(process), expected);
        assert!(!is_number("../1") && !is_number(""));
    }
}
