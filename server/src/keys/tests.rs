use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

async fn open(dir: &Path) -> Result<KeyStore, KeyError> {
    KeyStore::open(RecordStore::open(dir)?, dir.to_owned()).await
}

fn secret(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("api-key")).unwrap();
    text.trim_end().to_owned()
}

fn valid(keys: &KeyStore, secret: &str) -> Option<Caller> {
    match keys.check(secret) {
        Verdict::Valid(entry) => Some(entry.caller()),
        Verdict::Revoked | Verdict::Expired | Verdict::Unknown => None,
    }
}

#[tokio::test]
async fn the_first_start_makes_a_key_and_the_next_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path()).await.unwrap();
    let first = secret(dir.path());
    assert_eq!(first.len(), KEY_PREFIX.len() + 52);
    let mode = std::fs::metadata(keys.key_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let caller = valid(&keys, &first).unwrap();
    assert!(caller.admin);
    assert_eq!(&*caller.owner_name, "default");
    drop(keys);
    let keys = open(dir.path()).await.unwrap();
    assert_eq!(secret(dir.path()), first);
    assert_eq!(valid(&keys, &first).unwrap().owner, caller.owner);
    // The secret is nowhere else.
    let shown = format!("{:?}", keys.list());
    assert!(!shown.contains(&first));
    // Its file is the operator's to move away.
    std::fs::remove_file(dir.path().join("api-key")).unwrap();
    let keys = open(dir.path()).await.unwrap();
    assert!(!dir.path().join("api-key").exists());
    assert!(valid(&keys, &first).is_some());
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.unwrap();
    let first = secret(dir.path());
    let records = dir.path().join("records");
    for entry in std::fs::read_dir(records.join("keys")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let keys = open(dir.path()).await.unwrap();
    assert_eq!(secret(dir.path()), first);
    assert!(valid(&keys, &first).unwrap().admin);
    assert_eq!(
        std::fs::read_dir(records.join("owners")).unwrap().count(),
        1
    );
}

#[tokio::test]
async fn a_strange_key_file_or_damaged_records_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("api-key"), "short").unwrap();
    assert!(matches!(open(dir.path()).await, Err(KeyError::KeyFile(_))));

    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.unwrap();
    for entry in std::fs::read_dir(dir.path().join("records/keys")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert!(matches!(open(dir.path()).await, Err(KeyError::Damaged(_))));
}

#[tokio::test]
async fn owners_get_keys_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path()).await.unwrap();
    let admin = valid(&keys, &secret(dir.path())).unwrap();
    let own = keys
        .create(&admin.owner, None, Terms::default())
        .await
        .unwrap();
    assert_eq!(own.record.owner, admin.owner);
    let ada = keys
        .create(&admin.owner, Some("ada"), Terms::default())
        .await
        .unwrap();
    let again = keys
        .create(&admin.owner, Some("ada"), Terms::default())
        .await
        .unwrap();
    assert_eq!(ada.record.owner, again.record.owner);
    assert_ne!(ada.secret, again.secret);
    let caller = valid(&keys, &ada.secret).unwrap();
    assert!(!caller.admin);
    assert_eq!(&*caller.owner_name, "ada");
    for name in ["", " x", "a\nb", &"x".repeat(101)] {
        let refused = keys
            .create(&admin.owner, Some(name), Terms::default())
            .await;
        assert!(matches!(refused, Err(KeyError::BadName)), "{name:?}");
    }
    // All of it is durable.
    let keys = open(dir.path()).await.unwrap();
    assert_eq!(keys.list().len(), 4);
    assert!(!valid(&keys, &again.secret).unwrap().admin);
}

#[tokio::test]
async fn revoked_keys_are_told_from_unknown_ones_and_the_last_admin_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path()).await.unwrap();
    let first = secret(dir.path());
    let admin = valid(&keys, &first).unwrap();
    let ada = keys
        .create(&admin.owner, Some("ada"), Terms::default())
        .await
        .unwrap();
    keys.revoke(&ada.record.id).await.unwrap();
    keys.revoke(&ada.record.id).await.unwrap();
    assert!(matches!(keys.check(&ada.secret), Verdict::Revoked));
    assert!(matches!(keys.check("fleeks_sk_nothing"), Verdict::Unknown));
    assert!(matches!(keys.check(&"x".repeat(100_000)), Verdict::Unknown));
    assert!(matches!(
        keys.revoke(&admin.key.id).await,
        Err(KeyError::LastAdmin)
    ));
    assert!(matches!(
        keys.revoke(&KeyId::mint()).await,
        Err(KeyError::Absent)
    ));
    let second = keys
        .create(&admin.owner, None, Terms::default())
        .await
        .unwrap();
    keys.revoke(&admin.key.id).await.unwrap();
    let keys = open(dir.path()).await.unwrap();
    assert!(matches!(keys.check(&first), Verdict::Revoked));
    assert!(matches!(keys.check(&ada.secret), Verdict::Revoked));
    assert!(valid(&keys, &second.secret).unwrap().admin);
}

#[tokio::test]
async fn a_key_has_its_terms_and_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path()).await.unwrap();
    let admin = valid(&keys, &secret(dir.path())).unwrap();
    assert_eq!(admin.key.scopes, ["read", "write", "exec", "keys"]);
    assert_eq!(admin.key.rate, None);
    let rate = Rate {
        per_second: 1,
        burst: 2,
    };
    let terms = Terms {
        name: Some("ci".to_owned()),
        scopes: Some(vec![Scope::Read]),
        rate: Some(rate),
        expires_at: Some(OffsetDateTime::now_utc() + time::Duration::hours(1)),
    };
    let ci = keys.create(&admin.owner, None, terms).await.unwrap();
    let over = Terms {
        expires_at: Some(OffsetDateTime::now_utc()),
        ..Terms::default()
    };
    let over = keys.create(&admin.owner, None, over).await.unwrap();
    let ada = keys.create(&admin.owner, Some("ada"), Terms::default());
    let ada = ada.await.unwrap();
    for keys in [keys, open(dir.path()).await.unwrap()] {
        let Verdict::Valid(entry) = keys.check(&ci.secret) else {
            panic!("not valid");
        };
        assert!(entry.allows(Scope::Read) && !entry.allows(Scope::Exec));
        let taken = (0..5).filter(|_| entry.take(Duration::ZERO).is_ok());
        assert_eq!(taken.count(), 2);
        assert!(matches!(keys.check(&over.secret), Verdict::Expired));
        let ada = valid(&keys, &ada.secret).unwrap();
        assert_eq!(ada.key.scopes, ["read", "write", "exec"]);
        assert_eq!(ada.key.rate, Some(OTHERS_RATE));
    }
}
