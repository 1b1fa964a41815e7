use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use super::*;

fn domain() -> Domain {
    "fleeks.localhost".parse().unwrap()
}

async fn open(dir: &Path) -> Certificates {
    Certificates::open(dir, &domain()).await.unwrap()
}

fn authority(certificates: &Certificates) -> &CertAuthority {
    let Issuer::Development(authority) = &certificates.issuer;
    authority
}

/// A client that trusts what is in `ca_file`, and nothing else.
fn client(
    ca_file: &Path,
    host: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Moves what each side has to say to the other until the handshake is over.
fn finish(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn served(client: &ClientConnection) -> CertificateDer<'static> {
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_client_that_trusts_ca_pem_reaches_every_host_of_the_domain() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let config = certificates.server_config().unwrap();
    for versions in [[&rustls::version::TLS13], [&rustls::version::TLS12]] {
        for host in [
            "fleeks.localhost",
            "api.fleeks.localhost",
            "3000--workspace-abcdefghij.fleeks.localhost",
        ] {
            let mut client = client(certificates.ca_file(), host, &versions);
            let mut server = ServerConnection::new(config.clone()).unwrap();
            finish(&mut client, &mut server).unwrap();
            assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
            assert!(certificates.resolver().covers(host));
            client.writer().write_all(b"hello").unwrap();
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut heard = [0; 5];
            server.reader().read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
        }
    }
}

#[tokio::test]
async fn a_foreign_or_missing_name_gets_the_same_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let config = certificates.server_config().unwrap();
    for host in ["a.b.fleeks.localhost", "example.com", "127.0.0.1"] {
        assert!(!certificates.resolver().covers(host));
        let mut client = client(certificates.ca_file(), host, rustls::ALL_VERSIONS);
        let mut server = ServerConnection::new(config.clone()).unwrap();
        // The client refuses it for itself; the server did not abort.
        let refused = finish(&mut client, &mut server).unwrap_err();
        assert!(
            matches!(refused, rustls::Error::InvalidCertificate(_)),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn the_ca_vouches_for_its_domain_only() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let authority = authority(&certificates);
    let now = OffsetDateTime::now_utc();
    let verdict = |host: &str| {
        let leaf = authority.issue_for(vec![host.to_owned()], now).unwrap();
        let name = ServerName::try_from(host.replace('*', "any")).unwrap();
        authority.verify(&leaf, &name, now)
    };
    for inside in [
        "fleeks.localhost",
        "*.fleeks.localhost",
        "a.b.fleeks.localhost",
    ] {
        verdict(inside).unwrap();
    }
    for outside in [
        "example.com",
        "localhost",
        "evilfleeks.localhost",
        "fleeks.localhost.example.com",
        "*.example.com",
        "127.0.0.1",
        "::1",
    ] {
        let refused = verdict(outside).unwrap_err();
        let constrained = "NameConstraintViolation";
        assert!(
            format!("{refused:?}").contains(constrained),
            "{outside}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn another_ca_is_not_believed() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (open(one.path()).await, open(other.path()).await);
    let now = OffsetDateTime::now_utc();
    let foreign = authority(&one).issue(now).unwrap();
    assert!(authority(&other).check(&foreign, now).is_err());
}

#[tokio::test]
async fn all_is_kept_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).await;
    let second = open(dir.path()).await;
    assert_eq!(
        authority(&first).certificate(),
        authority(&second).certificate()
    );
    let leaf = |of: &Certificates| of.resolver().current().to_pem();
    assert_eq!(leaf(&first), leaf(&second));
    // Another domain has its own; ca.pem follows the one in use.
    let other = "other.test".parse().unwrap();
    let third = Certificates::open(dir.path(), &other).await.unwrap();
    assert!(third.resolver().covers("api.other.test"));
    let published = || CertificateDer::from_pem_file(dir.path().join("ca.pem")).unwrap();
    assert_eq!(&published(), authority(&third).certificate());
    let again = open(dir.path()).await;
    assert_eq!(leaf(&again), leaf(&first));
    assert_eq!(&published(), authority(&first).certificate());
}

#[tokio::test]
async fn keys_are_private_and_not_in_the_public_file() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await;
    let path = |name: &str| dir.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("certs"), 0o700);
    assert_eq!(mode("certs/fleeks.localhost"), 0o700);
    assert_eq!(mode("certs/fleeks.localhost/ca.pem"), 0o600);
    assert_eq!(mode("certs/fleeks.localhost/leaf.pem"), 0o600);
    assert_eq!(mode("ca.pem"), 0o644);
    let key = "PRIVATE KEY";
    let text = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert!(text("certs/fleeks.localhost/ca.pem").contains(key));
    assert!(!text("ca.pem").contains(key));
    let certificates = open(dir.path()).await;
    let secret = certificates.resolver().current().to_pem();
    let line = secret.lines().rev().nth(1).unwrap();
    assert!(!format!("{certificates:?}").contains(line));
}

#[tokio::test]
async fn damaged_files_are_set_aside_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let good = open(dir.path()).await;
    let ca = dir.path().join("certs/fleeks.localhost/ca.pem");
    let leaf = good.leaf_file.clone();
    let leaf_pem = fs::read_to_string(&leaf).unwrap();
    let ca_pem = fs::read_to_string(&ca).unwrap();
    let half = &leaf_pem[..leaf_pem.len() / 2];
    // The CA stays when only the leaf is damaged; its own pair is no leaf for the domain.
    for damage in [
        b"".as_slice(),
        half.as_bytes(),
        b"\xff\x00",
        ca_pem.as_bytes(),
    ] {
        fs::write(&leaf, damage).unwrap();
        let again = open(dir.path()).await;
        assert_eq!(
            authority(&again).certificate(),
            authority(&good).certificate()
        );
        assert_eq!(
            fs::read(leaf.with_extension("pem.damaged")).unwrap(),
            damage
        );
        assert!(again.resolver().covers("api.fleeks.localhost"));
    }
    let half = &ca_pem[..ca_pem.len() / 2];
    for damage in [
        b"".as_slice(),
        half.as_bytes(),
        b"\xff\x00",
        leaf_pem.as_bytes(),
    ] {
        fs::write(&ca, damage).unwrap();
        let again = open(dir.path()).await;
        assert_ne!(
            authority(&again).certificate(),
            authority(&good).certificate()
        );
        assert_eq!(fs::read(ca.with_extension("pem.damaged")).unwrap(), damage);
        let now = OffsetDateTime::now_utc();
        authority(&again)
            .check(&again.resolver().current(), now)
            .unwrap();
    }
}

#[tokio::test]
async fn a_leaf_is_renewed_when_due_and_lives_at_most_ninety_days() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let now = OffsetDateTime::now_utc();
    let days = time::Duration::days;
    let old = certificates.resolver().current();
    assert!(old.not_after() <= now + days(90));
    for (later, renewed) in [(days(0), false), (days(59), false), (days(61), true)] {
        let done = certificates.renew_if_due(now + later).await.unwrap();
        assert_eq!(done, renewed, "after {later}");
    }
    let new = certificates.resolver().current();
    assert_ne!(old.to_pem(), new.to_pem());
    assert!(new.not_after() > old.not_after());
    // What is stored is what is served.
    assert_eq!(
        fs::read_to_string(&certificates.leaf_file).unwrap(),
        new.to_pem()
    );
    // Near the CA's end no leaf outlives it.
    let last = authority(&certificates).issue(now + days(3649)).unwrap();
    assert!(last.not_after() <= now + days(3651));
}

#[tokio::test]
async fn a_due_leaf_is_replaced_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let then = OffsetDateTime::now_utc() - time::Duration::days(70);
    let old = authority(&certificates).issue(then).unwrap();
    fs::write(&certificates.leaf_file, old.to_pem()).unwrap();
    let again = open(dir.path()).await;
    assert_ne!(again.resolver().current().to_pem(), old.to_pem());
    // It was due, not damaged.
    assert!(
        !certificates
            .leaf_file
            .with_extension("pem.damaged")
            .exists()
    );
}

#[tokio::test]
async fn a_swap_leaves_handshakes_under_way_alone() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path()).await;
    let config = certificates.server_config().unwrap();
    let host = "api.fleeks.localhost";
    let connect = || {
        let client = client(certificates.ca_file(), host, rustls::ALL_VERSIONS);
        (client, ServerConnection::new(config.clone()).unwrap())
    };
    let old = certificates.resolver().current();
    let (mut client, mut server) = connect();
    // The server has answered the hello with the old certificate; the client has not finished.
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let now = OffsetDateTime::now_utc();
    let new = authority(&certificates).issue(now).unwrap();
    certificates.resolver().replace(new.clone());
    finish(&mut client, &mut server).unwrap();
    assert_eq!(served(&client), old.certified().cert[0]);
    let (mut client, mut server) = connect();
    finish(&mut client, &mut server).unwrap();
    assert_eq!(served(&client), new.certified().cert[0]);
}

#[tokio::test]
async fn handshakes_succeed_while_certificates_are_swapped_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Arc::new(open(dir.path()).await);
    let config = certificates.server_config().unwrap();
    let now = OffsetDateTime::now_utc();
    let both: Vec<_> = (0..2)
        .map(|_| authority(&certificates).issue(now).unwrap())
        .collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for leaf in both.iter().cycle() {
                certificates.resolver().replace(leaf.clone());
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..50 {
            let host = "api.fleeks.localhost";
            let mut client = client(certificates.ca_file(), host, rustls::ALL_VERSIONS);
            let mut server = ServerConnection::new(config.clone()).unwrap();
            finish(&mut client, &mut server).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
