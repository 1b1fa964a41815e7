//! What the node tells this init, by a read-only file: `{"token": "…", "workspace":
//! "/workspace", "jobs": "/run/fleeks/jobs"}`, and `"listen": "ADDRESS:PORT"` in tests.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest file that is read.
const MAX: u64 = 64 * 1024;

/// See the module.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who knows it is the node.
    pub token: String,
    /// All file calls stay within.
    pub workspace: PathBuf,
    /// Where job output goes.
    pub jobs: PathBuf,
    #[serde(default = "everywhere")]
    pub listen: SocketAddr,
}

fn everywhere() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, init_protocol::CONTROL_PORT).into()
}

impl Config {
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(MAX)
            .read_to_string(&mut text)?;
        let config: Self = serde_json::from_str(&text)?;
        let usable =
            !config.token.is_empty() && config.workspace.is_absolute() && config.jobs.is_absolute();
        if !usable {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(config)
    }
}
