//! The OCI configuration of a container, as a pure function of its spec.
//!
//! What runs inside is a stranger's: no capability, no new privilege, a read-only root, its own
//! namespaces, and of the host's files only what [`Plan`] names.
//!
//! Must never happen here: I/O, or a secret in arguments or environment.

mod seccomp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cgroup;
use crate::runtime::{ContainerSpec, RuntimeKind};

/// PID 1 inside.
pub const INIT: &str = "/run/fleeks/init";
/// Its configuration inside.
pub const INIT_CONFIG: &str = "/run/fleeks/init.json";
/// Where it writes job logs.
pub const JOBS: &str = "/run/fleeks/jobs";
/// In a bundle: options for CRIU.
pub const CRIU_CONFIG: &str = "criu.conf";
/// The volume inside.
pub const WORKSPACE: &str = "/workspace";

/// The period in which a container may use its CPU share.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// `/dev/shm`, as large as Docker makes it.
const SHM_BYTES: u64 = 64 << 20;

/// Everything about the host that the configuration depends on.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which runtime will read it.
    pub kind: RuntimeKind,
    /// What the runtime makes `/` from.
    pub root: PathBuf,
    /// Read-only binds over it: (on the host, inside).
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Directory of this container's own small files.
    pub bundle: PathBuf,
    /// The cgroup, absolute in each hierarchy; none where the runtime is put into one instead.
    pub cgroup: Option<String>,
    /// Whether the kernel limits swap.
    pub swap_limit: bool,
}

/// Where the user's own programs are.
const USERS_PATH: &str = "/workspace/.home/.local/bin:/workspace/.home/.npm-global/bin";
/// And the others.
pub(crate) const SYSTEM_PATH: &str =
    "/opt/fleeks/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every container has in its environment, sorted by name.
pub fn environment() -> Vec<(String, String)> {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    [
        ("HOME", "/workspace/.home"),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "root"),
        // Node and requests bring certificates of their own; an operator's CA is in the host's.
        ("NODE_EXTRA_CA_CERTS", bundle),
        ("NODE_PATH", "/workspace/.home/.npm-global/lib/node_modules"),
        ("PATH", &format!("{USERS_PATH}:{SYSTEM_PATH}")),
        // Debian's refusal protects its own packages; here they are read-only, and pip falls back
        // to the user's directory by itself. (PIP_USER would break virtual environments.)
        ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
        ("PIP_CERT", bundle),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
        ("REQUESTS_CA_BUNDLE", bundle),
        ("SHELL", "/bin/bash"),
        ("SSL_CERT_FILE", bundle),
        // Archives name owners that nobody here may become.
        ("TAR_OPTIONS", "--no-same-owner"),
        ("USER", "root"),
        ("npm_config_fund", "false"),
        ("npm_config_prefix", "/workspace/.home/.npm-global"),
        ("npm_config_update_notifier", "false"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// PATH with these directories behind the user's own ones and before the system's.
pub fn path_with(directories: &[String]) -> String {
    format!("{USERS_PATH}:{}:{SYSTEM_PATH}", directories.join(":"))
}

/// The text of `config.json`.
pub fn config(spec: &ContainerSpec, plan: &Plan) -> Value {
    let mut environment: BTreeMap<_, _> = environment().into_iter().collect();
    environment.extend(spec.environment.iter().cloned());
    let environment: Vec<String> = environment
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let nothing: [&str; 0] = [];
    let mut config = json!({
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": { "path": plan.root, "readonly": true },
        "process": {
            "terminal": false,
            "args": [INIT, INIT_CONFIG],
            "cwd": WORKSPACE,
            "env": environment,
            "user": { "uid": spec.user.uid, "gid": spec.user.gid, "umask": 0o022 },
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": nothing, "effective": nothing, "inheritable": nothing,
                "permitted": nothing, "ambient": nothing,
            },
            "rlimits": [
                rlimit("RLIMIT_NOFILE", spec.limits.open_files),
                rlimit("RLIMIT_CORE", 0),
            ],
            // When the host runs out of memory, a container goes before the host's services.
            "oomScoreAdj": 500,
        },
        "mounts": mounts(spec, plan),
        "linux": linux(spec, plan),
    });
    if plan.kind == RuntimeKind::Runc {
        config["annotations"] = json!({ "org.criu.config": plan.bundle.join(CRIU_CONFIG) });
    }
    config
}

fn rlimit(kind: &str, value: u64) -> Value {
    json!({ "type": kind, "hard": value, "soft": value })
}

fn mounts(spec: &ContainerSpec, plan: &Plan) -> Vec<Value> {
    let memory = spec.limits.memory_bytes;
    let own = |name: &str| plan.bundle.join(name);
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc",
                "options": ["nosuid", "noexec", "nodev"] }),
        tmpfs(
            "/dev",
            &["nosuid", "noexec", "strictatime", "mode=755", "size=65536"],
        ),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        tmpfs(
            "/dev/shm",
            &[
                "nosuid",
                "nodev",
                "noexec",
                "mode=1777",
                &format!("size={SHM_BYTES}"),
            ],
        ),
    ];
    for (source, destination) in &plan.binds {
        mounts.push(bind(source, destination, &["ro", "nosuid", "nodev"]));
    }
    for (name, destination) in [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")] {
        mounts.push(bind(
            &own(name),
            Path::new(destination),
            &["ro", "nosuid", "nodev", "noexec"],
        ));
    }
    // Charged to the container's memory; the size only makes `df` tell the truth.
    let size = format!("size={memory}");
    for (destination, mode) in [("/tmp", "1777"), ("/var/tmp", "1777"), ("/run", "755")] {
        let mode = format!("mode={mode}");
        mounts.push(tmpfs(destination, &["nosuid", "nodev", &mode, &size]));
    }
    mounts.push(bind(
        &spec.volume,
        Path::new(WORKSPACE),
        &["rw", "nosuid", "nodev"],
    ));
    mounts.push(bind(
        &spec.init,
        Path::new(INIT),
        &["ro", "nosuid", "nodev"],
    ));
    mounts.push(bind(
        &own("init.json"),
        Path::new(INIT_CONFIG),
        &["ro", "nosuid", "nodev", "noexec"],
    ));
    mounts.push(bind(
        &spec.jobs,
        Path::new(JOBS),
        &["rw", "nosuid", "nodev", "noexec"],
    ));
    mounts
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> Value {
    let options: Vec<&str> = ["bind", "rprivate"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

/// What a container does not see.
const MASKED: [&str; 10] = [
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/firmware",
];
/// What it only sees.
const READ_ONLY: [&str; 7] = [
    "/proc/bus",
    "/proc/driver",
    "/proc/fs",
    "/proc/irq",
    "/proc/mtrr",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn linux(spec: &ContainerSpec, plan: &Plan) -> Value {
    // A directory is masked by a file system of its own, for which CRIU starts an archiver at each
    // sleep and wake; nothing of these is secret.
    let hardware = ["/proc/acpi", "/proc/asound", "/proc/scsi"];
    let (mut masked, mut read_only) = (MASKED.to_vec(), READ_ONLY.to_vec());
    match plan.kind {
        RuntimeKind::Runc => read_only.extend(hardware),
        RuntimeKind::Runsc => masked.extend(hardware),
    }
    let mut namespaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "mount" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "network", "path": spec.netns }),
    ];
    // runc's would be gone after a wake: CRIU leaves cgroups alone. All that it would hide is a name.
    if plan.kind == RuntimeKind::Runsc {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": masked,
        "readonlyPaths": read_only,
        "resources": resources(spec, plan),
    });
    if let Some(cgroup) = &plan.cgroup {
        linux["cgroupsPath"] = json!(cgroup);
    }
    if plan.kind == RuntimeKind::Runc {
        linux["seccomp"] = seccomp::filter();
    }
    linux
}

fn resources(spec: &ContainerSpec, plan: &Plan) -> Value {
    let limits = &spec.limits;
    let mut memory = json!({ "limit": limits.memory_bytes });
    if plan.swap_limit {
        memory["swap"] = json!(limits.memory_bytes);
    }
    json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": memory,
        "cpu": {
            "period": CPU_PERIOD_MICROS,
            "quota": u64::from(limits.cpu_millis) * CPU_PERIOD_MICROS / 1000,
            "shares": cgroup::weight(limits),
        },
        "pids": { "limit": limits.pids },
    })
}

#[cfg(test)]
mod tests;
