use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::id::{ContainerId, KeyId, OwnerId, Slug};
use crate::lifecycle::State;
use crate::record::{Claim, LifecycleSettings, Quota, Rate, Scope, Showing};

fn store() -> (tempfile::TempDir, RecordStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RecordStore::open(dir.path()).unwrap();
    (dir, store)
}

fn record(generation: u64) -> WorkspaceRecord {
    WorkspaceRecord {
        id: WorkspaceId::mint(),
        container: ContainerId::mint(),
        slug: Slug::mint(),
        template: "python".parse().unwrap(),
        address: [100, 64, 0, 2].into(),
        generation: Generation(generation),
        state: State::Running,
        claim: Some(Claim {
            owner: OwnerId::mint(),
            project: "demo".parse().unwrap(),
            number: 1,
            claimed_at: OffsetDateTime::UNIX_EPOCH,
        }),
        init_token: "secret".to_owned(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        started_at: Some(OffsetDateTime::UNIX_EPOCH),
        woken: None,
        showing: Showing::default(),
        lifecycle: LifecycleSettings::default(),
        activity: None,
        deleted: false,
    }
}

fn path(store: &RecordStore, record: &WorkspaceRecord) -> PathBuf {
    store.workspace_dir(&record.id).join(WORKSPACE_FILE)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn records_come_back_as_they_were_stored() {
    let (dir, store) = store();
    let (one, mut other) = (record(1), record(2));
    other.claim = None;
    let owner = OwnerRecord {
        id: OwnerId::mint(),
        name: "Ada \"L.\" \u{1F980}".to_owned(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        quota: Quota {
            running: Some(3),
            ..Quota::default()
        },
    };
    let key = KeyRecord {
        id: KeyId::mint(),
        owner: owner.id.clone(),
        sha256: "00".repeat(32),
        created_at: OffsetDateTime::UNIX_EPOCH,
        revoked: true,
        name: Some("ci".to_owned()),
        scopes: Some(vec![Scope::Read]),
        rate: Some(Rate {
            per_second: 5,
            burst: 10,
        }),
        expires_at: Some(OffsetDateTime::UNIX_EPOCH),
    };
    for record in [&one, &other] {
        store.save_workspace(record).await.unwrap();
    }
    store.save_owner(&owner).await.unwrap();
    store.save_key(&key).await.unwrap();

    let again = RecordStore::open(dir.path()).unwrap();
    let (mut records, damaged) = again.load_workspaces();
    records.sort_by_key(|record| record.generation);
    assert_eq!(damaged, []);
    assert_eq!(records, [one.clone(), other]);
    assert_eq!(again.load_owners(), (vec![owner], vec![]));
    assert_eq!(again.load_keys(), (vec![key], vec![]));
    assert_eq!(mode(&path(&store, &one)), 0o600);
    assert_eq!(mode(&store.workspace_dir(&one.id)), 0o700);
}

#[tokio::test]
async fn an_older_generation_is_not_stored_even_after_a_restart() {
    let (dir, store) = store();
    let mut newer = record(9);
    store.save_workspace(&newer).await.unwrap();
    let again = RecordStore::open(dir.path()).unwrap();
    assert_eq!(again.load_workspaces().0.len(), 1);
    for store in [store, again] {
        newer.generation = Generation(8);
        let refused = store.save_workspace(&newer).await;
        let stored = Generation(9);
        assert!(matches!(refused, Err(RecordError::Superseded { stored: s }) if s == stored));
    }
}

#[test]
fn an_overtaken_save_does_not_undo_the_later_one() {
    let (_dir, store) = store();
    let mut record = record(1);
    let early = store.begin_save(&record).unwrap();
    record.state = State::Frozen;
    let late = store.begin_save(&record).unwrap();
    late.run().unwrap();
    early.run().unwrap();
    assert_eq!(store.load_workspaces().0, [record]);
}

#[tokio::test]
async fn a_removed_workspace_is_gone_with_all_it_had() {
    let (_dir, store) = store();
    let (gone, kept) = (record(1), record(1));
    for record in [&gone, &kept] {
        store.save_workspace(record).await.unwrap();
        let deep = store.volume_dir(&record.id).join("a/b");
        fs::create_dir_all(deep).unwrap();
        fs::create_dir(store.jobs_dir(&record.id)).unwrap();
    }
    let late = store.begin_save(&gone).unwrap();
    store.remove_workspace(&gone.id).await.unwrap();
    assert!(matches!(late.run(), Err(RecordError::Removed)));
    assert!(!store.workspace_dir(&gone.id).exists());
    store.remove_workspace(&gone.id).await.unwrap();
    assert_eq!(store.load_workspaces(), (vec![kept], vec![]));
}

#[tokio::test]
async fn damage_is_set_aside_reported_again_and_never_fatal() {
    let (_dir, store) = store();
    let (broken, fine) = (record(1), record(1));
    for record in [&broken, &fine] {
        store.save_workspace(record).await.unwrap();
    }
    let whole = fs::read(path(&store, &broken)).unwrap();
    let other = fs::read(path(&store, &fine)).unwrap();
    let half = &whole[..whole.len() / 2];
    let contents = [&b""[..], half, b"\xff\xfe\x00", b"[]", b"null", &other];
    for (number, content) in contents.into_iter().enumerate() {
        fs::write(path(&store, &broken), content).unwrap();
        let (records, damaged) = store.load_workspaces();
        assert_eq!(records, std::slice::from_ref(&fine));
        assert_eq!(damaged.len(), 1, "{number}: {damaged:?}");
        assert_eq!(fs::read(&damaged[0].path).unwrap(), content);
        assert!(damaged[0].path.to_str().unwrap().ends_with(".damaged"));
        // The next start finds what was set aside, and does not take it for an orphan.
        let (records, reported) = store.load_workspaces();
        assert_eq!((records.len(), reported.len()), (1, number + 1));
        assert_eq!(store.unrecorded(), []);
    }
    let key = store.small_dir("keys").join("key_x.json");
    fs::write(&key, "{").unwrap();
    assert_eq!(store.load_keys().1.len(), 1);
    assert!(!key.exists() && key.with_extension("json.damaged").exists());
    assert_eq!(store.load_keys().1.len(), 1);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let (dir, store) = store();
    let volumes = dir.path().join("volumes");
    fs::create_dir(volumes.join("lost+found")).unwrap();
    fs::write(volumes.join("note.txt"), "mine").unwrap();
    let orphan = WorkspaceId::mint();
    fs::create_dir_all(store.volume_dir(&orphan)).unwrap();
    assert_eq!(store.load_workspaces(), (vec![], vec![]));
    assert_eq!(store.unrecorded(), [orphan]);
    assert!(volumes.join("lost+found").exists() && volumes.join("note.txt").exists());
}

#[test]
fn a_link_in_place_of_a_record_is_damage() {
    let (dir, store) = store();
    let record = record(1);
    store.save_workspace_blocking(&record).unwrap();
    let moved = dir.path().join("elsewhere.json");
    fs::rename(path(&store, &record), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, path(&store, &record)).unwrap();
    let (records, damaged) = store.load_workspaces();
    assert_eq!((records.len(), damaged.len()), (0, 1));
    assert!(moved.exists());
}

/// How far a write came before the process was killed.
#[derive(Debug, Clone, Copy)]
enum KilledAfter {
    Bytes(prop::sample::Index),
    Write,
    Rename,
}

fn killed_after() -> impl Strategy<Value = KilledAfter> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(KilledAfter::Bytes),
        Just(KilledAfter::Write),
        Just(KilledAfter::Rename),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever step of a write was the last, the next start sees the old record or the new one.
    #[test]
    fn a_kill_never_leaves_a_torn_record(
        killed in killed_after(),
        had_one in any::<bool>(),
        generation in 1_u64..1_000,
    ) {
        let (dir, store) = store();
        let old = record(generation);
        let mut new = old.clone();
        new.generation = old.generation.next();
        new.init_token = "x".repeat(300);
        if had_one {
            store.save_workspace_blocking(&old).unwrap();
        } else {
            durable::make_dir(&store.workspace_dir(&old.id)).unwrap();
        }
        // What `durable::write` has done by then.
        let (path, content) = (path(&store, &new), serialize(&new).unwrap());
        let unfinished = durable::unfinished_name(&path).unwrap();
        let written = match killed {
            KilledAfter::Bytes(index) => &content[..index.index(content.len())],
            KilledAfter::Write | KilledAfter::Rename => &content,
        };
        fs::write(&unfinished, written).unwrap();
        if matches!(killed, KilledAfter::Rename) {
            fs::rename(&unfinished, &path).unwrap();
        }

        let again = RecordStore::open(dir.path()).unwrap();
        let (records, damaged) = again.load_workspaces();
        let expected = match killed {
            KilledAfter::Rename => vec![new.clone()],
            _ if had_one => vec![old.clone()],
            _ => vec![],
        };
        prop_assert_eq!(records, expected);
        prop_assert_eq!(damaged, vec![]);
        // And the next write goes through, over whatever was left behind.
        again.save_workspace_blocking(&new).unwrap();
        prop_assert_eq!(again.load_workspaces().0, vec![new]);
        prop_assert!(!unfinished.exists());
    }
}
