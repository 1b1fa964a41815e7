//! Flags, FLEEKS_* and the TOML file become one checked configuration, here and nowhere else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fleet::id::TemplateName;
use fleet::timing;
use pool_backend::config::{Limits, MemoryShare, PoolSize, RuntimeChoice};
use pool_backend::faults::FailPoints;
use serde::Deserialize;

use crate::args::{AdminArg, RuntimeArg, UpArgs};

/// The static PID 1 of every container.
pub static INIT: &[u8] = include_bytes!(env!("FLEEKS_INIT", "run `make init` first"));

/// The files of the console.
pub static CONSOLE: &[u8] = include_bytes!(env!("FLEEKS_CONSOLE", "run `make console` first"));

/// TLS listener when none is named.
pub const DEFAULT_HTTPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// Plain listener when none is named.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// For operators when nothing is named.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// Where set-up puts runsc and CRIU.
pub const DEFAULT_PREFIX: &str = "/opt/fleeks";

/// All of `fleeks up`.
#[derive(Debug, Clone)]
pub struct UpConfig {
    /// Made if missing.
    pub data_dir: PathBuf,
    /// Lower case, checked.
    pub domain: String,
    /// TLS listener.
    pub https: SocketAddr,
    /// Plain listener; loopback.
    pub http: SocketAddr,
    /// For operators; none: off.
    pub admin: Option<SocketAddr>,
    /// Port in returned https URLs, when it differs from the listener's.
    pub public_port: Option<u16>,
    /// Warm containers.
    pub pools: BTreeMap<TemplateName, PoolSize>,
    /// How much memory they may take.
    pub pool_memory: MemoryShare,
    /// Unused for this long, a workspace is stopped in memory.
    pub freeze_after: Duration,
    /// Which runtime.
    pub runtime: RuntimeChoice,
    /// runc on a public address is meant.
    pub trust_code: bool,
    /// runsc's and CRIU's home.
    pub prefix: PathBuf,
    /// Further templates.
    pub templates: Option<PathBuf>,
    /// Limits of each container.
    pub limits: Limits,
    /// Told when ready.
    pub ready_file: Option<PathBuf>,
    /// What all snapshots together may take on disk; none: half of the disk.
    pub snapshot_bytes: Option<u64>,
    /// Between two looks for orphans.
    pub reconcile_every: Duration,
    /// For tests.
    pub fail_points: FailPoints,
}

/// The TOML file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    domain: Option<String>,
    https: Option<SocketAddr>,
    http: Option<SocketAddr>,
    admin: Option<AdminArg>,
    public_url: Option<String>,
    pool: Option<BTreeMap<TemplateName, FilePool>>,
    pool_memory: Option<String>,
    freeze_after: Option<std::num::NonZeroU64>,
    runtime: Option<RuntimeArg>,
    trust_code: Option<bool>,
    prefix: Option<PathBuf>,
    templates: Option<PathBuf>,
    limits: FileLimits,
    snapshots: FileSnapshots,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileSnapshots {
    max_mib: Option<u64>,
}

/// `5`, `"2..50"`, or `{ min = 2, max = 50 }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FilePool {
    Fixed(u32),
    Written(String),
    Between { min: u32, max: u32 },
}

impl FilePool {
    fn size(&self) -> anyhow::Result<PoolSize> {
        Ok(match self {
            Self::Fixed(size) => size.to_string().parse()?,
            Self::Written(text) => text.parse()?,
            Self::Between { min, max } => format!("{min}..{max}").parse()?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileLimits {
    memory_mib: Option<u64>,
    cpu_millis: Option<u32>,
    pids: Option<u32>,
    open_files: Option<u64>,
}

/// The data dir when none is named: for root a system one, else below HOME.
pub fn default_data_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !home.is_empty() && home != "/root" => {
            Path::new(&home).join(".local/share/fleeks")
        }
        _ => PathBuf::from("/var/lib/fleeks"),
    }
}

impl UpConfig {
    /// Merges and checks.
    pub fn from_args(args: &UpArgs) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let domain = args
            .domain
            .clone()
            .or(file.domain)
            .unwrap_or("fleeks.localhost".to_owned());
        let domain = check_domain(&domain)?;
        let https = args.https.or(file.https).unwrap_or(DEFAULT_HTTPS);
        let http = args.http.or(file.http).unwrap_or(DEFAULT_HTTP);
        ensure!(
            http.ip().is_loopback(),
            "--http {http} is not a loopback address: keys and previews would cross the network \
             unencrypted; use --https for the outside"
        );
        let admin = match args.admin.or(file.admin) {
            Some(AdminArg::Off) => None,
            Some(AdminArg::At(address)) => Some(address),
            None => Some(DEFAULT_ADMIN),
        };
        let public_url = args.public_url.clone().or(file.public_url);
        let public_port = public_url
            .as_deref()
            .map(|url| public_port(url, &domain))
            .transpose()?;
        let pools = if args.pools.is_empty() {
            file.pool.map_or_else(default_pools, file_pools)?
        } else {
            args.pools.iter().cloned().collect()
        };
        let pool_memory = match (args.pool_memory, &file.pool_memory) {
            (Some(share), _) => share,
            (None, Some(text)) => text.parse()?,
            (None, None) => MemoryShare::default(),
        };
        let freeze_after = args
            .freeze_after
            .or(file.freeze_after.map(std::num::NonZeroU64::get))
            .map_or(fleet::timing::FREEZE_AFTER, Duration::from_secs);
        let runtime = match args.runtime.or(file.runtime).unwrap_or(RuntimeArg::Auto) {
            RuntimeArg::Auto => RuntimeChoice::Auto,
            RuntimeArg::Runc => RuntimeChoice::Runc,
            RuntimeArg::Runsc => RuntimeChoice::Runsc,
        };
        Ok(Self {
            data_dir: args
                .data
                .data_dir
                .clone()
                .or(file.data_dir)
                .unwrap_or_else(default_data_dir),
            domain,
            https,
            http,
            admin,
            freeze_after,
            public_port,
            pools,
            pool_memory,
            runtime,
            trust_code: args.trust_code || file.trust_code.unwrap_or(false),
            prefix: args
                .prefix
                .clone()
                .or(file.prefix)
                .unwrap_or(DEFAULT_PREFIX.into()),
            templates: args.templates.clone().or(file.templates),
            limits: file.limits.over(Limits::default())?,
            ready_file: args.ready_file.clone(),
            snapshot_bytes: file
                .snapshots
                .max_mib
                .map(|mib| {
                    mib.checked_mul(1 << 20)
                        .context("snapshots.max_mib is too large")
                })
                .transpose()?,
            reconcile_every: args
                .reconcile_seconds
                .map_or(timing::RECONCILE, Duration::from_secs),
            fail_points: args.fail_points.clone().unwrap_or_default(),
        })
    }

    /// Whether strangers can reach the previews.
    pub fn is_public(&self) -> bool {
        !self.https.ip().is_loopback()
    }
}

impl FileLimits {
    fn over(&self, default: Limits) -> anyhow::Result<Limits> {
        let memory_bytes = match self.memory_mib {
            Some(mib) => mib
                .checked_mul(1 << 20)
                .context("limits.memory_mib is too large")?,
            None => default.memory_bytes,
        };
        ensure!(
            memory_bytes >= 32 << 20,
            "limits.memory_mib must be at least 32"
        );
        let limits = Limits {
            memory_bytes,
            cpu_millis: self.cpu_millis.unwrap_or(default.cpu_millis),
            pids: self.pids.unwrap_or(default.pids),
            open_files: self.open_files.unwrap_or(default.open_files),
        };
        ensure!(
            limits.cpu_millis >= 10,
            "limits.cpu_millis must be at least 10"
        );
        ensure!(limits.pids >= 16, "limits.pids must be at least 16");
        ensure!(
            limits.open_files >= 64,
            "limits.open_files must be at least 64"
        );
        Ok(limits)
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
    toml::from_str(&text)
        .with_context(|| format!("the configuration file {} is wrong", path.display()))
}

fn default_pools() -> anyhow::Result<BTreeMap<TemplateName, PoolSize>> {
    let sizes = [("python", "2..32"), ("node", "2..32"), ("default", "1..32")];
    sizes
        .into_iter()
        .map(|(name, size)| Ok((name.parse()?, size.parse()?)))
        .collect()
}

fn file_pools(
    pools: BTreeMap<TemplateName, FilePool>,
) -> anyhow::Result<BTreeMap<TemplateName, PoolSize>> {
    pools
        .into_iter()
        .map(|(name, pool)| {
            let size = pool.size().with_context(|| format!("the pool of {name}"))?;
            Ok((name, size))
        })
        .collect()
}

/// A DNS name of at least two labels, lower-cased.
fn check_domain(text: &str) -> anyhow::Result<String> {
    let domain = text.to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A preview's label has up to 6 bytes of port, 2 dashes and the slug.
    if domain.len() > 180 || domain.split('.').count() < 2 || !domain.split('.').all(label_ok) {
        bail!("--domain {text}: write a DNS name of two labels or more, e.g. fleeks.example.com");
    }
    Ok(domain)
}

/// The port of `https://<domain>[:port]`.
fn public_port(url: &str, domain: &str) -> anyhow::Result<u16> {
    let rest = url
        .strip_prefix("https://")
        .with_context(|| format!("--public-url {url}: must start with https://"))?
        .trim_end_matches('/');
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (
            host,
            port.parse()
                .with_context(|| format!("--public-url {url}: bad port"))?,
        ),
        None => (rest, 443),
    };
    ensure!(
        host.eq_ignore_ascii_case(domain),
        "--public-url {url}: its host must be {domain}"
    );
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_checked_and_lowered() {
        assert_eq!(
            check_domain("Fleeks.Localhost").unwrap(),
            "fleeks.localhost"
        );
        for bad in [
            "",
            "one",
            "a..b",
            "-a.b",
            "a.b-",
            "a_b.c",
            "a.b.",
            "ü.de",
            &"a".repeat(64),
        ] {
            assert!(check_domain(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_public_url_names_our_domain() {
        assert_eq!(public_port("https://d.io", "d.io").unwrap(), 443);
        assert_eq!(public_port("https://d.io:8443/", "d.io").unwrap(), 8443);
        for bad in ["http://d.io", "https://e.io", "https://d.io:x", "d.io"] {
            assert!(public_port(bad, "d.io").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn operators_may_be_turned_away() {
        let admin = |text| toml::from_str::<File>(text).map(|file| file.admin);
        assert_eq!(admin("admin = 'off'").unwrap(), Some(AdminArg::Off));
        assert!(admin("admin = 'on'").is_err());
    }

    #[test]
    fn a_file_with_an_unknown_word_is_refused() {
        let error = toml::from_str::<File>("domian = 'x.y'").unwrap_err();
        assert!(error.to_string().contains("domian"));
    }

    #[test]
    fn a_pool_s_size_is_written_in_three_ways() {
        let text = "[pool]\na = 5\nb = '2..50'\nc = { min = 0, max = 3 }\nd = '7..'";
        let file: File = toml::from_str(text).unwrap();
        let pools = file_pools(file.pool.unwrap()).unwrap();
        let sizes: Vec<String> = pools.values().map(ToString::to_string).collect();
        assert_eq!(sizes, ["5", "2..50", "0..3", "7.."]);
        for bad in ["a = 10001", "a = '5..2'", "a = { min = 5, max = 2 }"] {
            let file: File = toml::from_str(&format!("[pool]\n{bad}")).unwrap();
            let error = file_pools(file.pool.unwrap()).unwrap_err();
            assert!(format!("{error:#}").contains("the pool of a"), "{error:#}");
        }
    }

    #[test]
    fn the_example_file_says_the_defaults() {
        let file: File = toml::from_str(include_str!("../../ops/fleeks.toml")).unwrap();
        let pools = file_pools(file.pool.unwrap()).unwrap();
        assert_eq!(pools, default_pools().unwrap());
        let share: MemoryShare = file.pool_memory.unwrap().parse().unwrap();
        assert_eq!(share, MemoryShare::default());
        assert_eq!(
            file.limits.over(Limits::default()).unwrap(),
            Limits::default()
        );
        assert_eq!(
            (file.https, file.http),
            (Some(DEFAULT_HTTPS), Some(DEFAULT_HTTP))
        );
        assert_eq!(file.admin, Some(AdminArg::At(DEFAULT_ADMIN)));
        assert_eq!(file.prefix.unwrap(), Path::new(DEFAULT_PREFIX));
    }
}
