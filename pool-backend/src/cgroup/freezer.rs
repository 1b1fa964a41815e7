//! Stops and continues the processes of one cgroup.

use std::io;
use std::path::PathBuf;

use super::Version;

/// See the module.
#[derive(Debug)]
pub struct Freezer {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
}

impl Freezer {
    /// Asks for it; stopping takes a moment.
    ///
    /// # Errors
    /// What the system said.
    pub fn set(&self, frozen: bool) -> io::Result<()> {
        let (file, value) = match (self.version, frozen) {
            (Version::One, true) => ("freezer.state", "FROZEN"),
            (Version::One, false) => ("freezer.state", "THAWED"),
            (Version::Two, true) => ("cgroup.freeze", "1"),
            (Version::Two, false) => ("cgroup.freeze", "0"),
        };
        std::fs::OpenOptions::new()
            .write(true)
            .open(self.directory.join(file))
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
    }

    /// Whether processes stand, or are about to.
    ///
    /// # Errors
    /// What the system said.
    pub fn is_told(&self) -> io::Result<bool> {
        let (file, running) = match self.version {
            Version::One => ("freezer.state", "THAWED"),
            Version::Two => ("cgroup.freeze", "0"),
        };
        let text = std::fs::read_to_string(self.directory.join(file))?;
        Ok(text.trim() != running)
    }

    /// Whether every process stands.
    ///
    /// # Errors
    /// What the system said.
    pub fn is_frozen(&self) -> io::Result<bool> {
        let (file, line) = match self.version {
            Version::One => ("freezer.state", "FROZEN"),
            Version::Two => ("cgroup.events", "frozen 1"),
        };
        let text = std::fs::read_to_string(self.directory.join(file))?;
        Ok(text.lines().any(|found| found == line))
    }
}
