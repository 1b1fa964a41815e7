//! `fleeks template build --root debian`: this machine's release of Debian as a root file system in
//! the data dir, made by mmdebstrap from the archives that the machine's own apt is configured with.
//!
//! ```text
//! DATA/roots/debian -> debian-<when it was made>    what templates with `rootfs = "debian"` use
//! DATA/roots/.building/                             the next one; gone at the next build
//! ```
//!
//! Must never happen here: a process or mount that outlives us, or a root that looks whole and is
//! not.

mod sources;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use pool_backend::template::language::{LANGUAGES, Language, by_name};
use pool_backend::{rootfs, volume};
use rustix::fs::FlockOperation;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// What every root has.
const LEAST: &[&str] = &["bash", "ca-certificates"];
/// What one with all languages has besides.
const TOOLS: &[&str] = &[
    "build-essential",
    "curl",
    "git",
    "less",
    "procps",
    "python-is-python3",
];
/// So many of its last words are told when it fails.
const LAST_WORDS: usize = 12;
/// Host names and the like that mmdebstrap takes along; containers get their own.
const OF_THE_HOST: [&str; 4] = [
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/apt/sources.list",
];

/// A language by its name, for clap.
pub fn language(name: &str) -> Result<&'static Language, String> {
    by_name(name).ok_or_else(|| {
        let known: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
        format!("those that are known: {}", known.join(", "))
    })
}

/// Makes it; what is unfinished is gone when this returns, or with the next call after a kill.
///
/// # Errors
/// For people.
pub async fn run(
    data_dir: &Path,
    languages: &[&'static Language],
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "making a root file system needs root"
    );
    for program in ["mmdebstrap", "setpriv", "unshare"] {
        ensure!(
            is_installed(program),
            "{program} is not installed; `apt-get install mmdebstrap util-linux` brings it"
        );
    }
    ensure!(
        data_dir.is_dir(),
        "{} is no data dir; `fleeks up` makes one",
        data_dir.display()
    );
    let system = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let suite = sources::suite(&system).context("this machine's release of Debian is not known")?;
    let sources = sources::of(&sources::configured()?, &suite);
    ensure!(
        sources
            .iter()
            .any(|line| sources::names_suite(line, &suite)),
        "apt on this machine is configured with no archive of {suite}"
    );
    let roots = data_dir.join("roots");
    fs::create_dir_all(&roots)?;
    let lock = File::create(roots.join(".lock"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .context("another root is being made in this data dir")?;
    let began = Instant::now();
    let building = roots.join(".building");
    discard(&building)?;
    fs::create_dir(&building)?;
    let made = make(&building, &suite, &sources, languages, as_json).await;
    let place = made.and_then(|root| commit(&root, &roots));
    discard(&building)?;
    let place = place?;
    let seconds = began.elapsed().as_secs();
    if as_json {
        let names = chosen(languages).map(|language| language.name);
        let document = json!({
            "root": "debian", "suite": suite, "path": place, "seconds": seconds,
            "languages": names.collect::<Vec<_>>(),
        });
        writeln!(out, "{document:#}")?;
    } else {
        writeln!(out, "{} is ready ({seconds} s)", place.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen(languages: &[&'static Language]) -> impl Iterator<Item = &'static Language> {
    let all = languages.is_empty().then_some(&LANGUAGES);
    languages.iter().copied().chain(all.into_iter().flatten())
}

fn is_installed(program: &str) -> bool {
    let places = ["/usr/local/bin", "/usr/bin", "/bin"];
    places
        .iter()
        .any(|place| Path::new(place).join(program).exists())
}

/// Where the finished tree is.
async fn make(
    building: &Path,
    suite: &str,
    sources: &[String],
    languages: &[&'static Language],
    as_json: bool,
) -> anyhow::Result<PathBuf> {
    let (root, proxies) = (building.join("root"), building.join("apt.conf"));
    write_secret(&proxies, &proxy_settings().await)?;
    let mut packages: Vec<&str> = LEAST.to_vec();
    if languages.is_empty() {
        packages.extend(TOOLS);
    }
    packages.extend(chosen(languages).flat_map(|language| language.packages.split(' ')));
    // Whoever kills us kills the first of these, which takes the process ids of all others along,
    // and with them what is mounted.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
    ]);
    command.args(["--kill-child", "--mount-proc", "mmdebstrap"]);
    command.args(["--variant=minbase", "--mode=root", "--format=directory"]);
    command
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!("--aptopt={}", proxies.display()))
        .arg(suite)
        .arg(&root)
        .arg("-");
    command
        .env("TMPDIR", building)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("mmdebstrap could not be started")?;
    let mut input = child.stdin.take().context("no way to tell it")?;
    input.write_all(sources.join("\n").as_bytes()).await?;
    input.write_all(b"\n").await?;
    drop(input);
    let words = child.stderr.take().context("no way to hear it")?;
    let mut words = BufReader::new(words).lines();
    let mut last: Vec<String> = Vec::new();
    let began = Instant::now();
    let (mut interrupted, mut terminated) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let listening = async {
        while let Some(line) = words.next_line().await? {
            tell(&line, began.elapsed(), as_json);
            last.push(line);
            if last.len() > LAST_WORDS {
                last.remove(0);
            }
        }
        child.wait().await
    };
    let ended = tokio::select! {
        ended = listening => ended?,
        _ = interrupted.recv() => bail!(stop(child).await),
        _ = terminated.recv() => bail!(stop(child).await),
    };
    ensure!(ended.success(), "mmdebstrap failed:\n{}", last.join("\n"));
    Ok(root)
}

async fn stop(mut child: tokio::process::Child) -> &'static str {
    let _ = child.kill().await;
    "stopped; nothing of it is left"
}

fn tell(line: &str, since: Duration, as_json: bool) {
    let step = line
        .strip_prefix("I: ")
        .map(|step| step.trim_end_matches('.'));
    if let Some(step) = step
        && !as_json
    {
        crate::report::progress(&format!("debian: {step} ({} s)", since.as_secs()));
    }
}

/// Gives the tree its name, and makes it the one that is used from now on.
fn commit(root: &Path, roots: &Path) -> anyhow::Result<PathBuf> {
    for name in OF_THE_HOST {
        fs::write(root.join(name), "").with_context(|| name.to_owned())?;
    }
    discard(&root.join("etc/apt/sources.list.d"))?;
    rootfs::fit(root).context("what was made cannot be used")?;
    let name = format!(
        "debian-{}",
        time::OffsetDateTime::now_utc().unix_timestamp()
    );
    let place = roots.join(&name);
    fs::rename(root, &place)?;
    let link = roots.join(".debian");
    discard(&link)?;
    std::os::unix::fs::symlink(&name, &link)?;
    // A directory of the operator's own is not replaced.
    fs::rename(&link, roots.join("debian"))
        .context("roots/debian is no link: move it away, or link it to the new root")?;
    Ok(place)
}

/// Never over something that is mounted: that would be taken away as well.
fn discard(path: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let below = format!("{}/", path.display());
    let mounted = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|at| at.starts_with(&below));
    if let Some(at) = mounted {
        bail!("{at} is mounted; `umount` it first");
    }
    volume::remove_tree(path).with_context(|| format!("remove {}", path.display()))
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// What apt on this machine says of proxies.
async fn proxy_settings() -> String {
    let asked = Command::new("apt-config").arg("dump").output().await;
    let text = asked.map(|said| said.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let proxies = text
        .lines()
        .filter(|line| line.starts_with("Acquire::") && line.contains("Proxy"));
    proxies.fold(String::new(), |all, line| all + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_that_are_not_known_are_said() {
        assert_eq!(language("node").unwrap().name, "nodejs");
        assert!(language("cobol").unwrap_err().contains("python"));
    }
}
