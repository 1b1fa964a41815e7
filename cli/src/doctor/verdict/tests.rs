use std::path::PathBuf;

use proptest::prelude::*;

use super::super::cgroups::Cgroups;
use super::*;

/// A machine on which everything is as it should be.
fn good() -> Facts {
    let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0";
    Facts {
        architecture: "x86_64",
        kernel: "6.12.9-amd64".into(),
        root: true,
        prefix: PathBuf::from("/opt/fleeks"),
        runc: Ok("runc version 1.1.5+ds1".into()),
        runsc: Ok("runsc version 0.0~20240729.0".into()),
        runsc_start: Ok(String::new()),
        criu: Ok("Version: 4.2.1".into()),
        criu_check: Ok("Looks good.".into()),
        cgroups: Cgroups::parse(mounts, |_| "cpu memory pids".into()),
        cgroup_made: Ok(()),
        nft: Ok(String::new()),
        iptables: Ok("-P INPUT ACCEPT".into()),
        veth: Ok(String::new()),
        pid_max: Some(4_194_304),
        gc_thresh3: Some(8_192),
        inotify_instances: Some(8_192),
        ports: vec![("127.0.0.1:8443".parse().unwrap(), Ok(()))],
        disk: (PathBuf::from("/var/lib/fleeks"), Some(50 * GIB)),
        python: Ok("pip 23.0.1".into()),
        node: Ok("v20.20.2".into()),
    }
}

fn level(report: &Report, name: &str) -> Level {
    report
        .findings
        .iter()
        .find(|finding| finding.name == name)
        .unwrap()
        .level
}

#[test]
fn a_good_machine_is_ready_with_both_runtimes() {
    let report = judge(&good());
    assert!(report.ready);
    assert_eq!(report.runtimes, ["runsc", "runc"]);
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.level == Level::Ok && f.fix.is_none()),
        "{report:?}"
    );
}

#[test]
fn one_runtime_is_enough_none_is_not() {
    let mut facts = Facts {
        runsc: Err("/opt/fleeks/bin/runsc is not there".into()),
        ..good()
    };
    let report = judge(&facts);
    assert!(report.ready);
    assert_eq!(report.runtimes, ["runc"]);
    facts.runc = Err("runc is not there".into());
    let report = judge(&facts);
    assert!(!report.ready);
    assert_eq!(report.runtimes, [""; 0]);
}

#[test]
fn old_versions_are_gaps_and_their_runtime_is_not_offered() {
    let old = Facts {
        runc: Ok("runc version 1.0.3".into()),
        runsc: Ok("runsc version 0.0~20221219.0".into()),
        criu: Ok("Version: 4.1.1".into()),
        ..good()
    };
    let report = judge(&old);
    for name in ["runc", "runsc", "CRIU"] {
        assert_eq!(level(&report, name), Level::Gap, "{name}");
    }
    assert!(!report.ready);
}

#[test]
fn a_runsc_that_starts_nothing_is_not_offered() {
    let facts = Facts {
        runsc_start: Err("permission denied".into()),
        ..good()
    };
    let report = judge(&facts);
    assert_eq!(report.runtimes, ["runc"]);
    assert_eq!(level(&report, "runsc"), Level::Gap);
}

#[test]
fn what_up_cannot_do_without_is_fatal() {
    let failed = || Err("no".to_owned());
    for (name, facts) in [
        (
            "root",
            Facts {
                root: false,
                ..good()
            },
        ),
        (
            "kernel",
            Facts {
                architecture: "aarch64",
                ..good()
            },
        ),
        (
            "nftables",
            Facts {
                nft: failed(),
                ..good()
            },
        ),
        (
            "iproute2",
            Facts {
                veth: failed(),
                ..good()
            },
        ),
        (
            "cgroups",
            Facts {
                cgroups: Cgroups::default(),
                ..good()
            },
        ),
        (
            "cgroups",
            Facts {
                cgroup_made: Err("read-only".into()),
                ..good()
            },
        ),
        (
            "port",
            Facts {
                ports: vec![("127.0.0.1:80".parse().unwrap(), Err(ErrorKind::AddrInUse))],
                ..good()
            },
        ),
        (
            "disk",
            Facts {
                disk: (PathBuf::from("/x"), Some(DISK_FATAL - 1)),
                ..good()
            },
        ),
    ] {
        let report = judge(&facts);
        assert!(!report.ready, "{name}");
        assert_eq!(level(&report, name), Level::Fatal, "{name}");
    }
}

#[test]
fn the_rest_is_a_gap() {
    let failed = || Err("no".to_owned());
    for (name, facts) in [
        (
            "kernel",
            Facts {
                kernel: "4.19.0".into(),
                ..good()
            },
        ),
        (
            "CRIU",
            Facts {
                criu_check: failed(),
                ..good()
            },
        ),
        (
            "iptables",
            Facts {
                iptables: failed(),
                ..good()
            },
        ),
        (
            "cgroups",
            Facts {
                cgroups: Cgroups::parse("c /c cgroup2 rw 0 0", |_| "cpu pids".into()),
                ..good()
            },
        ),
        (
            "pid_max",
            Facts {
                pid_max: Some(32_768),
                ..good()
            },
        ),
        (
            "gc_thresh3",
            Facts {
                gc_thresh3: None,
                ..good()
            },
        ),
        (
            "inotify",
            Facts {
                inotify_instances: Some(128),
                ..good()
            },
        ),
        (
            "disk",
            Facts {
                disk: (PathBuf::from("/x"), Some(DISK_FATAL)),
                ..good()
            },
        ),
        (
            "python",
            Facts {
                python: failed(),
                ..good()
            },
        ),
        (
            "node",
            Facts {
                node: failed(),
                ..good()
            },
        ),
    ] {
        let report = judge(&facts);
        assert!(report.ready, "{name}");
        assert_eq!(level(&report, name), Level::Gap, "{name}");
        assert!(
            report
                .findings
                .iter()
                .all(|f| (f.level == Level::Ok) == f.fix.is_none()),
            "{name}"
        );
    }
}

#[test]
fn a_fix_names_the_prefix_that_was_looked_in() {
    let fix = |prefix: &str| {
        let facts = Facts {
            prefix: prefix.into(),
            criu: Err("not there".into()),
            ..good()
        };
        judge(&facts)
            .findings
            .into_iter()
            .find_map(|finding| finding.fix)
    };
    assert_eq!(fix("/opt/fleeks").as_deref(), Some("ops/setup"));
    assert_eq!(
        fix("/srv/x").as_deref(),
        Some("FLEEKS_PREFIX=/srv/x ops/setup")
    );
}

#[test]
fn versions_are_compared_as_numbers() {
    assert_eq!(version("1.1.5+ds1"), Some([1, 1, 5]));
    assert_eq!(version("4.10"), Some([4, 10, 0]));
    assert!(version("4.10") > version("4.2"));
    assert_eq!(version("6.18.44-fc-v595"), Some([6, 18, 44]));
    for nothing in ["", "unknown", "..", "v1"] {
        assert_eq!(version(nothing), None, "{nothing}");
    }
}

proptest! {
    #[test]
    fn no_output_of_a_program_breaks_the_verdict(text in "\\PC*") {
        let said = || Ok(text.clone());
        let facts = Facts { kernel: text.clone(), runc: said(), runsc: said(), criu: said(), ..good() };
        judge(&facts);
    }
}
