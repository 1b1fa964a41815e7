//! How large a pool may be, as the operator says it.

use std::fmt;
use std::str::FromStr;

use super::MOST;

/// Between these it sizes itself; `min == max` is a fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Always kept warm, memory permitting.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

/// What was written is no size of a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a size of a pool: write 5 (always five), 2..50 (as many as are needed, from two \
     to fifty) or 2.. (from two on), at most {MOST}"
)]
pub struct BadPoolSize(String);

impl PoolSize {
    /// Always this many.
    pub const fn fixed(size: u32) -> Self {
        Self {
            min: size,
            max: size,
        }
    }

    /// From `min` to `max`, both included; none where that makes no sense.
    pub fn between(min: u32, max: u32) -> Option<Self> {
        (min <= max && max <= MOST).then_some(Self { min, max })
    }

    /// The nearest size that is allowed.
    pub(super) fn within(self, wanted: u32) -> u32 {
        wanted.max(self.min).min(self.max)
    }
}

impl FromStr for PoolSize {
    type Err = BadPoolSize;

    fn from_str(text: &str) -> Result<Self, BadPoolSize> {
        let bad = || BadPoolSize(text.chars().take(40).collect());
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        let size = match text.split_once("..") {
            None => number(text).map(Self::fixed)?,
            Some((min, "")) => Self {
                min: number(min)?,
                max: MOST,
            },
            Some((min, max)) => Self {
                min: number(min)?,
                max: number(max)?,
            },
        };
        Self::between(size.min, size.max).ok_or_else(bad)
    }
}

impl fmt::Display for PoolSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, max) if min == max => write!(f, "{min}"),
            (min, MOST) => write!(f, "{min}.."),
            (min, max) => write!(f, "{min}..{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for text in ["0", "5", "2..50", "0..1", "2.."] {
            assert_eq!(text.parse::<PoolSize>().unwrap().to_string(), text);
        }
        assert_eq!("3..3".parse(), Ok(PoolSize::fixed(3)));
        for bad in [
            "", "..", "..5", "5..2", "-1", "2...5", "10001", "2..10001", "x", "2..=5",
        ] {
            let error = bad.parse::<PoolSize>().unwrap_err();
            assert!(error.to_string().contains("2..50"), "{bad}");
        }
    }
}
