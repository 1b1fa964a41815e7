//! Judges what was seen.
//!
//! Must never happen here: I/O.

use std::io::ErrorKind;

use super::cgroups::Layout;
use super::probe::{Facts, Tried};
use super::{Finding, Level, Report};

const RUNC_OLDEST: [u64; 3] = [1, 1, 0];
const RUNSC_OLDEST: u64 = 20_240_729;
const CRIU_OLDEST: [u64; 3] = [4, 2, 0];
/// A workspace has at most some hundred processes and threads, a pool a thousand workspaces.
const PID_MAX: u64 = 131_072;
/// A neighbour on either end of each of a thousand veths, v4 and v6, and then some.
const GC_THRESH3: u64 = 8_192;
/// Each development server that watches files takes one or two, all from the same user.
const INOTIFY_INSTANCES: u64 = 8_192;
const GIB: u64 = 1 << 30;
const DISK_FATAL: u64 = GIB / 4;
const DISK_GAP: u64 = 5 * GIB;

const SETUP: &str = "ops/setup";
/// Where `ops/setup` puts things by itself.
const PREFIX: &str = "/opt/fleeks";

/// The report that these facts make.
pub fn judge(facts: &Facts) -> Report {
    let runc = runc(facts);
    let runsc = runsc(facts);
    let works = |finding: &Finding| finding.level == Level::Ok;
    let runtimes: Vec<_> = [("runsc", works(&runsc)), ("runc", works(&runc))]
        .into_iter()
        .filter_map(|(name, works)| works.then_some(name))
        .collect();

    let mut findings = vec![
        system(facts),
        root(facts),
        runc,
        runsc,
        criu(facts),
        cgroups(facts),
    ];
    findings.push(trial(
        "nftables",
        &facts.nft,
        "a table was made and removed",
        Level::Fatal,
    ));
    findings.push(trial(
        "iproute2",
        &facts.veth,
        "a pair of veths was made",
        Level::Fatal,
    ));
    findings.push(trial(
        "iptables",
        &facts.iptables,
        "CRIU can lock a network",
        Level::Gap,
    ));
    findings.push(sysctl("pid_max", "kernel.pid_max", facts.pid_max, PID_MAX));
    findings.push(sysctl(
        "gc_thresh3",
        "net.ipv4.neigh.default.gc_thresh3",
        facts.gc_thresh3,
        GC_THRESH3,
    ));
    findings.push(sysctl(
        "inotify",
        "fs.inotify.max_user_instances",
        facts.inotify_instances,
        INOTIFY_INSTANCES,
    ));
    findings.extend(ports(facts));
    findings.push(disk(facts));
    findings.push(trial("python", &facts.python, "", Level::Gap));
    findings.push(trial("node", &facts.node, "", Level::Gap));

    let ready =
        !runtimes.is_empty() && findings.iter().all(|finding| finding.level != Level::Fatal);
    Report {
        ready,
        runtimes,
        findings,
    }
}

fn system(facts: &Facts) -> Finding {
    if facts.architecture != "x86_64" {
        return fatal(
            "kernel",
            format!("{} on {}", facts.kernel, facts.architecture),
            "a machine with an x86_64 processor",
        );
    }
    match version(&facts.kernel) {
        Some(seen) if seen >= [5, 9, 0] => ok("kernel", &facts.kernel),
        _ => gap(
            "kernel",
            format!("{} is older than what this was tried on", facts.kernel),
            "Debian 12 or newer",
        ),
    }
}

fn root(facts: &Facts) -> Finding {
    if facts.root {
        return ok("root", "yes");
    }
    // Without root the trials below fail as well; this line says why.
    fatal(
        "root",
        "no: networks, cgroups and containers need it",
        "run it as root, or with sudo",
    )
}

/// A runtime that does not work is a gap: the other one may.
fn runc(facts: &Facts) -> Finding {
    let text = match &facts.runc {
        Err(reason) => return gap("runc", reason, SETUP),
        Ok(text) => text.trim_start_matches("runc version ").to_owned(),
    };
    match version(&text) {
        Some(seen) if seen >= RUNC_OLDEST => ok("runc", text),
        _ => gap("runc", format!("{text} is older than 1.1"), "a newer runc"),
    }
}

fn runsc(facts: &Facts) -> Finding {
    let text = match &facts.runsc {
        Err(reason) => return gap("runsc", reason, setup(facts)),
        Ok(text) => text.trim_start_matches("runsc version ").to_owned(),
    };
    let date = text
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| part.len() == 8)
        .and_then(|part| part.parse().ok());
    match (date, &facts.runsc_start) {
        (Some(RUNSC_OLDEST..), Ok(_)) => ok("runsc", format!("{text}, a sandbox was started")),
        (Some(RUNSC_OLDEST..), Err(reason)) => gap(
            "runsc",
            format!("{text} does not start a sandbox: {reason}"),
            "fleeks up --runtime runc runs code that you trust",
        ),
        _ => gap(
            "runsc",
            format!("{text} is older than {RUNSC_OLDEST}"),
            setup(facts),
        ),
    }
}

/// Without it, workspaces on runc run but do not sleep.
fn criu(facts: &Facts) -> Finding {
    let text = match &facts.criu {
        Err(reason) => {
            return gap(
                "CRIU",
                format!("{reason}: workspaces on runc cannot sleep"),
                setup(facts),
            );
        }
        Ok(text) => text.trim_start_matches("Version: ").to_owned(),
    };
    match (version(&text), &facts.criu_check) {
        (Some(seen), Ok(_)) if seen >= CRIU_OLDEST => {
            ok("CRIU", format!("{text}, its own check passed"))
        }
        (Some(seen), Err(reason)) if seen >= CRIU_OLDEST => gap(
            "CRIU",
            format!("{text} says of this kernel: {reason}"),
            "use runsc for workspaces that sleep",
        ),
        _ => gap("CRIU", format!("{text} is older than 4.2"), setup(facts)),
    }
}

fn cgroups(facts: &Facts) -> Finding {
    let who = match facts.cgroups.layout() {
        Layout::None => {
            return fatal(
                "cgroups",
                "none are mounted",
                "mount -t cgroup2 none /sys/fs/cgroup",
            );
        }
        Layout::V1 => "v1: runc applies limits itself, runsc runs in a group of ours",
        Layout::V2 => "v2: runc applies limits itself, runsc runs in a group of ours",
        Layout::Hybrid => {
            "v1 with an extra v2: runc applies limits itself, runsc runs in a group of ours"
        }
    };
    if let Err(reason) = &facts.cgroup_made {
        return fatal(
            "cgroups",
            format!("no group can be made: {reason}"),
            "run on the machine itself, or with its cgroups writable",
        );
    }
    let missing = facts.cgroups.missing();
    if missing.is_empty() {
        return ok("cgroups", who);
    }
    let missing = missing.join(" and ");
    gap(
        "cgroups",
        format!("{who}; nothing limits {missing} on either runtime"),
        format!("a kernel with the controllers for {missing}"),
    )
}

fn ports(facts: &Facts) -> impl Iterator<Item = Finding> {
    facts.ports.iter().map(|(at, bound)| match bound {
        Ok(()) => ok("port", format!("{at} is free")),
        Err(ErrorKind::AddrInUse) => fatal(
            "port",
            format!("{at} is taken"),
            "end what listens there (fleeks itself?), or give up another --https or --http",
        ),
        Err(ErrorKind::AddrNotAvailable) => fatal(
            "port",
            format!("{at} is no address of this machine"),
            "another --https or --http",
        ),
        Err(ErrorKind::PermissionDenied) => fatal(
            "port",
            format!("{at} needs root"),
            "run it as root, or a port above 1023",
        ),
        Err(other) => fatal(
            "port",
            format!("{at}: {other}"),
            "another --https or --http",
        ),
    })
}

fn disk(facts: &Facts) -> Finding {
    let (at, free) = &facts.disk;
    let Some(free) = *free else {
        return gap(
            "disk",
            format!("cannot tell what is free at {}", at.display()),
            "another --data-dir",
        );
    };
    let text = format!(
        "{:.1} GiB free at {}",
        free as f64 / GIB as f64,
        at.display()
    );
    match free {
        ..DISK_FATAL => fatal("disk", text, "free some, or another --data-dir"),
        DISK_FATAL..DISK_GAP => gap("disk", text, "free some: volumes and snapshots grow"),
        DISK_GAP.. => ok("disk", text),
    }
}

fn sysctl(name: &'static str, key: &str, seen: Option<u64>, wanted: u64) -> Finding {
    let fix = || format!("sysctl -w {key}={wanted} (and a line in /etc/sysctl.d)");
    match seen {
        Some(seen) if seen >= wanted => ok(name, seen.to_string()),
        Some(seen) => gap(
            name,
            format!("{seen}: a thousand workspaces want {wanted}"),
            fix(),
        ),
        None => gap(name, format!("{key} cannot be read"), fix()),
    }
}

/// What was tried works or not; `said` is printed where it printed nothing worth repeating.
fn trial(name: &'static str, tried: &Tried, said: &str, otherwise: Level) -> Finding {
    match tried {
        Ok(text) if said.is_empty() => ok(name, text),
        Ok(_) => ok(name, said),
        Err(reason) => Finding {
            name,
            level: otherwise,
            text: reason.clone(),
            fix: Some(SETUP.into()),
        },
    }
}

/// What fetches runsc and CRIU to where they were looked for.
fn setup(facts: &Facts) -> String {
    let prefix = facts.prefix.display().to_string();
    if prefix == PREFIX {
        SETUP.to_owned()
    } else {
        format!("FLEEKS_PREFIX={prefix} {SETUP}")
    }
}

/// The first three numbers of a version; what is not there counts as 0.
fn version(text: &str) -> Option<[u64; 3]> {
    let numbers = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    let mut parts = numbers.split('.').filter(|part| !part.is_empty());
    let first = parts.next()?.parse().ok()?;
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Some([first, next(), next()])
}

fn ok(name: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        name,
        level: Level::Ok,
        text: text.into(),
        fix: None,
    }
}

fn gap(name: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        name,
        level: Level::Gap,
        text: text.into(),
        fix: Some(fix.into()),
    }
}

fn fatal(name: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        name,
        level: Level::Fatal,
        text: text.into(),
        fix: Some(fix.into()),
    }
}

#[cfg(test)]
mod tests;
