//! What of a machine processes remember.

use nix::time::ClockId;
use sha2::{Digest as _, Sha256};

/// A digest of what this machine's CPU can do: programs ask once, when they start.
pub fn cpu_features() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    features_in(&text)
}

fn features_in(cpuinfo: &str) -> String {
    // x86 says `flags`, ARM `Features`; the first processor's stand for all.
    let mut words: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| matches!(key.trim(), "flags" | "Features"))
        .map(|(_, value)| value.split_whitespace().collect())
        .unwrap_or_default();
    words.sort_unstable();
    let digest = Sha256::digest(words.join(" "));
    data_encoding::HEXLOWER.encode(&digest[..16])
}

/// Time since the machine started.
pub fn clock_ms() -> u64 {
    let now = nix::time::clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| {
        let millis = now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000;
        millis.try_into().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_count_of_processors_do_not_matter() {
        let one = "vendor_id : x\nflags\t\t: fpu sse avx\n";
        let two = "flags : avx fpu sse\n\nflags : avx fpu sse\n";
        assert_eq!(features_in(one), features_in(two));
        assert_ne!(features_in(one), features_in("flags : fpu sse\n"));
        assert_ne!(features_in(one), features_in(""));
    }

    #[test]
    fn the_clock_goes() {
        assert!(clock_ms() > 0);
    }
}
