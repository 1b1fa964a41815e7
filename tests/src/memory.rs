//! What processes cost, as the kernel counts it.

use std::fs;

use anyhow::{Context as _, Result};

/// Forgets the highest resident size of a process, so that [`peak`] counts from now.
pub fn reset_peak(pid: i32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset a process's peak")
}

/// Highest resident size, in bytes.
pub fn peak(pid: i32) -> Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Resident size now, in bytes.
pub fn resident(pid: i32) -> Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Proportional share: pages shared with others counted by their part. In bytes.
pub fn proportional(pid: i32) -> Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// What it wrote itself, without the pages of its program that happened to be read. In bytes.
pub fn anonymous(pid: i32) -> Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss_Anon:")
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| {
        rest.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    Ok(kib.with_context(|| format!("no {name} in {path}"))? * 1024)
}
