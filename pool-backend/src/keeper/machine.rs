//! What the machine has left, as the kernel says it.

use std::io;

use crate::pool::room::Machine;

/// Reads it. Costs four small files.
pub(super) fn look() -> io::Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path);
    let number = |path: &str| read(path).map(|text| text.trim().parse::<u64>().unwrap_or(u64::MAX));
    let available = available(&read("/proc/meminfo")?);
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let tasks = most.saturating_sub(tasks(&read("/proc/loadavg")?).unwrap_or(0));
    Ok(Machine {
        available: available.ok_or(io::ErrorKind::InvalidData)?,
        tasks,
    })
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line?.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Of `0.00 0.01 0.05 1/210 4711`: how many there are.
fn tasks(loadavg: &str) -> Option<u64> {
    let (_, all) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    all.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        let meminfo = "MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemTotal: 100 kB\n"), None);
        assert_eq!(tasks("0.00 0.01 0.05 1/210 4711\n"), Some(210));
        let here = look().unwrap();
        assert!(here.available > 0 && here.tasks > 0, "{here:?}");
    }
}
