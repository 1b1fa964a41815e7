//! Looks at the machine: files of /proc, programs with a bound on their time, ports, the disk.
//! What needs trying is tried in namespaces that end with the try.
//!
//! Must never happen here: a judgement, or a trace left behind.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fleet::timing;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Plan;
use super::cgroups::Cgroups;

/// What a try said; on failure the reason, for a human.
pub type Tried = Result<String, String>;

/// All that the verdict is made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// As Rust names it.
    pub architecture: &'static str,
    /// `uname -r`.
    pub kernel: String,
    /// The effective user is 0.
    pub root: bool,
    /// Where runsc and CRIU were looked for.
    pub prefix: PathBuf,
    /// `runc --version`.
    pub runc: Tried,
    /// `runsc --version`.
    pub runsc: Tried,
    /// A sandbox was started and ended.
    pub runsc_start: Tried,
    /// `criu --version`.
    pub criu: Tried,
    /// `criu check`.
    pub criu_check: Tried,
    /// The mount table's part about cgroups.
    pub cgroups: Cgroups,
    /// A group was made and removed in each hierarchy.
    pub cgroup_made: Result<(), String>,
    /// A table with masquerading was made and removed.
    pub nft: Tried,
    /// The rules of an empty namespace were listed.
    pub iptables: Tried,
    /// A pair of veths was made.
    pub veth: Tried,
    /// `kernel.pid_max`.
    pub pid_max: Option<u64>,
    /// `net.ipv4.neigh.default.gc_thresh3`.
    pub gc_thresh3: Option<u64>,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances: Option<u64>,
    /// Each listener of `up`, bound for a moment.
    pub ports: Vec<(SocketAddr, Result<(), io::ErrorKind>)>,
    /// The data dir, and the bytes that are free where it is or would be.
    pub disk: (PathBuf, Option<u64>),
    /// `/usr/bin/python3 -m pip --version`.
    pub python: Tried,
    /// `/usr/bin/node --version`, where `/usr/bin/npm` is there too.
    pub node: Tried,
}

/// Looks at everything, side by side. Takes at most `timing::DOCTOR_PROBE`.
pub async fn look(plan: &Plan) -> Facts {
    let runsc_program = plan.prefix.join("bin/runsc");
    let criu_program = plan.prefix.join("bin/criu");
    let (runc, runsc, runsc_start, criu, criu_check, nft, iptables, veth, python, node) = tokio::join!(
        try_run("runc", &["--version"]),
        try_run(&runsc_program, &["--version"]),
        start_a_sandbox(&runsc_program),
        try_run(&criu_program, &["--version"]),
        try_run(&criu_program, &["check"]),
        try_run_with("unshare", &["--net", "nft", "-f", "-"], NFT_TRIAL),
        try_run("unshare", &["--net", "iptables", "-S"]),
        try_run(
            "unshare",
            &[
                "--net", "ip", "link", "add", "fleeks-a", "type", "veth", "peer", "name",
                "fleeks-b"
            ]
        ),
        try_run("/usr/bin/python3", &["-m", "pip", "--version"]),
        look_for_node(),
    );
    let cgroups = Cgroups::parse(&read("/proc/self/mounts"), |at| {
        read(at.join("cgroup.controllers"))
    });
    Facts {
        architecture: std::env::consts::ARCH,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        root: rustix::process::geteuid().is_root(),
        prefix: plan.prefix.clone(),
        runc,
        runsc,
        runsc_start,
        criu,
        criu_check,
        cgroup_made: make_cgroups(&cgroups),
        cgroups,
        nft,
        iptables,
        veth,
        pid_max: read_number("/proc/sys/kernel/pid_max"),
        gc_thresh3: read_number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
        inotify_instances: read_number("/proc/sys/fs/inotify/max_user_instances"),
        ports: plan.listeners.iter().map(|at| (*at, bind(*at))).collect(),
        disk: (plan.data_dir.clone(), free_bytes(&plan.data_dir)),
        python,
        node,
    }
}

/// What a node's own table needs of the kernel.
const NFT_TRIAL: &str = "table inet fleeks_doctor {
    chain out { type nat hook postrouting priority 100; ip saddr 100.64.0.0/10 masquerade; }
    chain pass { type filter hook forward priority 0; policy drop; ct state established accept; }
}
delete table inet fleeks_doctor
";

/// runsc takes a namespace in which it sees `rmem_default` for the root one, and refuses its own
/// network: hence the empty `/proc/sys/net`. With the process namespace everything ends.
const SANDBOX_TRIAL: &str = "mount -t tmpfs none /proc/sys/net && mount -t tmpfs none /mnt && \
    exec \"$0\" --root /mnt --platform=systrap --network=sandbox --ignore-cgroups do true";

async fn start_a_sandbox(runsc: &Path) -> Tried {
    let Some(runsc) = runsc.to_str() else {
        return Err("its path is not UTF-8".into());
    };
    let namespaces = [
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let command = ["sh", "-c", SANDBOX_TRIAL, runsc];
    try_run("unshare", &[&namespaces[..], &command[..]].concat()).await
}

async fn look_for_node() -> Tried {
    if !Path::new("/usr/bin/npm").exists() {
        return Err("there is no /usr/bin/npm".into());
    }
    try_run("/usr/bin/node", &["--version"]).await
}

async fn try_run(program: impl AsRef<Path>, arguments: &[&str]) -> Tried {
    try_run_with(program, arguments, "").await
}

/// Runs a program to its end with `input`; gives its first line of output, or why it failed.
async fn try_run_with(program: impl AsRef<Path>, arguments: &[&str], input: &'static str) -> Tried {
    let program = program.as_ref();
    let ran = async {
        let mut child = Command::new(program)
            .args(arguments)
            // Administrators' programs are not on every user's path.
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input says the rest by its exit code.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(timing::DOCTOR_PROBE, ran).await {
        Err(_) => {
            return Err(format!(
                "{} did not end within {:?}",
                program.display(),
                timing::DOCTOR_PROBE
            ));
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{} is not there", program.display()));
        }
        Ok(Err(error)) => return Err(format!("{}: {error}", program.display())),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(shorten(lines(&output.stdout).next()));
    }
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    // The last line is usually the reason.
    Err(lines(said)
        .last()
        .map_or_else(|| output.status.to_string(), |line| shorten(Some(line))))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(text).unwrap_or("output that is not UTF-8");
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn shorten(line: Option<&str>) -> String {
    const LONGEST: usize = 200;
    line.unwrap_or_default().chars().take(LONGEST).collect()
}

fn make_cgroups(cgroups: &Cgroups) -> Result<(), String> {
    for root in cgroups.roots() {
        let group = root.join(format!("fleeks-doctor-{}", std::process::id()));
        fs::create_dir(&group)
            .and_then(|()| fs::remove_dir(&group))
            .map_err(|error| format!("{}: {error}", root.display()))?;
    }
    Ok(())
}

fn bind(at: SocketAddr) -> Result<(), io::ErrorKind> {
    TcpListener::bind(at)
        .map(drop)
        .map_err(|error| error.kind())
}

fn free_bytes(data_dir: &Path) -> Option<u64> {
    // A relative path's last ancestor is the empty one.
    let here = |path: &Path| {
        if path.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            path.to_owned()
        }
    };
    let existing = data_dir.ancestors().map(here).find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn read_number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}
