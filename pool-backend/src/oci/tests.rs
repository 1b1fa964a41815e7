use std::net::Ipv4Addr;

use fleet::id::Generation;

use super::*;
use crate::config::Limits;
use crate::runtime::{OciId, Rootfs, User};

fn spec() -> ContainerSpec {
    let instance = "fabcdef".parse().unwrap();
    let container = "cnt_abcdefghijklmnop".parse().unwrap();
    ContainerSpec {
        id: OciId::new(&instance, &container, Generation(7)),
        rootfs: Rootfs::Host,
        binds: Vec::new(),
        volume: "/data/volumes/ws/data".into(),
        jobs: "/data/volumes/ws/jobs".into(),
        init: "/data/runtime/init".into(),
        init_token: "secret-token".to_owned(),
        netns: "/run/netns/x".into(),
        address: Ipv4Addr::new(100, 64, 1, 2),
        hostname: "workspace-abcdefghij".to_owned(),
        environment: vec![("LANG".to_owned(), "de_DE.UTF-8".to_owned())],
        user: User::default(),
        limits: Limits::default(),
    }
}

fn plan(kind: RuntimeKind) -> Plan {
    Plan {
        kind,
        root: "/data/runtime/rootfs/host".into(),
        binds: vec![("/usr".into(), "/usr".into())],
        bundle: "/data/runtime/runc/bundles/x".into(),
        cgroup: (kind == RuntimeKind::Runc).then(|| "/fleeks/fabcdef/x".to_owned()),
        swap_limit: true,
    }
}

/// Set `FLEEKS_BLESS=1` to write what is built now as the expected text.
fn assert_golden(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/oci/golden")
        .join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("FLEEKS_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == expected,
        "{name} differs; look at it, then FLEEKS_BLESS=1"
    );
}

#[test]
fn runc_gets_the_golden_configuration() {
    assert_golden("runc.json", &config(&spec(), &plan(RuntimeKind::Runc)));
}

#[test]
fn runsc_gets_the_golden_configuration() {
    assert_golden("runsc.json", &config(&spec(), &plan(RuntimeKind::Runsc)));
}

#[test]
fn the_token_is_nowhere_in_it() {
    let text = config(&spec(), &plan(RuntimeKind::Runc)).to_string();
    assert!(!text.contains("secret-token"));
}

#[test]
fn the_specs_environment_wins() {
    let config = config(&spec(), &plan(RuntimeKind::Runc));
    let environment = config["process"]["env"].as_array().unwrap();
    let lang: Vec<_> = environment
        .iter()
        .filter_map(|entry| entry.as_str().filter(|text| text.starts_with("LANG=")))
        .collect();
    assert_eq!(lang, ["LANG=de_DE.UTF-8"]);
}

#[test]
fn the_environment_is_sorted() {
    let names: Vec<String> = environment().into_iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted());
}

#[test]
fn whatever_comes_from_the_host_is_read_only_except_the_volume_and_jobs() {
    let config = config(&spec(), &plan(RuntimeKind::Runc));
    for mount in config["mounts"].as_array().unwrap() {
        let options: Vec<_> = mount["options"].as_array().unwrap().iter().collect();
        let has = |option: &str| options.iter().any(|o| *o == option);
        if mount["type"] == "bind" {
            let writable = mount["destination"] == WORKSPACE || mount["destination"] == JOBS;
            assert_eq!(has("rw"), writable, "{mount}");
            assert_eq!(has("ro"), !writable, "{mount}");
            assert!(has("nosuid") && has("nodev"), "{mount}");
        }
    }
}
