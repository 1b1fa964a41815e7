use super::*;

struct World {
    store: SnapshotStore,
    workspace: WorkspaceId,
    reader: Reader,
    data: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self {
            store: SnapshotStore::open(data.path(), None).unwrap(),
            workspace: WorkspaceId::mint(),
            reader: Reader {
                runtime: RuntimeKind::Runc,
                version: "1".to_owned(),
                cpu_features: "f".to_owned(),
                layout: "l".to_owned(),
            },
            data,
        }
    }

    fn about(&self) -> About {
        About {
            container: ContainerId::mint(),
            template: "python".to_owned(),
            address: Ipv4Addr::new(100, 64, 1, 1),
            reader: self.reader.clone(),
            connections_kept: true,
            volume: None,
        }
    }

    async fn draft(&self, generation: u64) -> Draft {
        let draft = self.store.begin(&self.workspace, Generation(generation));
        let draft = draft.await.unwrap();
        std::fs::write(draft.images_dir().join("pages"), [7; 5000]).unwrap();
        std::fs::write(draft.images_dir().join("core"), "core").unwrap();
        draft
    }

    async fn commit(&self, generation: u64) -> Snapshot {
        let draft = self.draft(generation).await;
        draft.commit(self.about()).await.unwrap()
    }

    async fn latest(&self) -> Result<Option<Snapshot>, SnapshotError> {
        self.store.latest(&self.workspace, &self.reader).await
    }

    fn names(&self) -> Vec<String> {
        let directory = self
            .data
            .path()
            .join("snapshots")
            .join(self.workspace.as_str());
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// Damages generation 3 and looks that it is told, kept, and hides generation 1.
    async fn damage(how: impl FnOnce(&Snapshot)) {
        let world = Self::new();
        world.commit(1).await;
        how(&world.commit(3).await);
        for _ in 0..2 {
            let found = world.latest().await;
            assert!(
                matches!(&found, Err(SnapshotError::Damaged { generation, .. }) if generation.0 == 3),
                "{found:?}"
            );
            assert_eq!(world.names(), ["1", "3.damaged"]);
        }
        // The next one is not concerned.
        world.commit(4).await;
        assert_eq!(
            world.latest().await.unwrap().unwrap().manifest.generation.0,
            4
        );
    }
}

#[tokio::test]
async fn what_is_committed_is_found() {
    let world = World::new();
    assert_eq!(world.latest().await.unwrap(), None);
    assert_eq!(world.store.highest(&world.workspace).await, None);
    let first = world.commit(2).await;
    assert_eq!(first.bytes(), 5004);
    assert_eq!(
        std::fs::read(first.images_dir().join("core")).unwrap(),
        b"core"
    );
    assert_eq!(world.latest().await.unwrap(), Some(first));
    let second = world.commit(10).await;
    assert_eq!(world.latest().await.unwrap(), Some(second));
    assert_eq!(
        world.store.highest(&world.workspace).await,
        Some(Generation(10))
    );
    assert!(world.store.total_bytes().await > 10_008);
}

#[tokio::test]
async fn a_draft_leaves_nothing_and_a_snapshot_is_never_replaced() {
    let world = World::new();
    drop(world.draft(2).await);
    assert!(world.names().is_empty());
    // As after a crash.
    std::mem::forget(world.draft(2).await);
    assert_eq!(world.latest().await.unwrap(), None);
    let draft = world
        .store
        .begin(&world.workspace, Generation(2))
        .await
        .unwrap();
    assert_eq!(std::fs::read_dir(draft.images_dir()).unwrap().count(), 0);
    let first = draft.commit(world.about()).await.unwrap();
    let again = world.store.begin(&world.workspace, Generation(2)).await;
    assert!(matches!(again, Err(SnapshotError::Exists(Generation(2)))));
    assert_eq!(world.latest().await.unwrap(), Some(first));
}

#[tokio::test]
async fn damage_is_told() {
    let edit = |name: &'static str, bytes: &'static [u8]| {
        move |snapshot: &Snapshot| std::fs::write(snapshot.directory.join(name), bytes).unwrap()
    };
    World::damage(edit("images/core", b"cor")).await;
    World::damage(edit("images/core", b"cora")).await;
    World::damage(edit("images/more", b"")).await;
    World::damage(edit("manifest.json", b"{")).await;
    World::damage(|it| std::fs::remove_file(it.images_dir().join("core")).unwrap()).await;
    World::damage(|it| std::fs::remove_file(it.directory.join("manifest.json")).unwrap()).await;
    World::damage(|it| {
        let file = it.directory.join("manifest.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("100.64.1.1", "100.64.1.2")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn another_reader_is_refused() {
    let mut world = World::new();
    let snapshot = world.commit(1).await;
    let good = world.reader.clone();
    let others = [
        Reader {
            runtime: RuntimeKind::Runsc,
            ..good.clone()
        },
        Reader {
            version: "2".to_owned(),
            ..good.clone()
        },
        Reader {
            cpu_features: String::new(),
            ..good.clone()
        },
        Reader {
            layout: String::new(),
            ..good.clone()
        },
    ];
    for other in others {
        world.reader = other;
        let found = world.latest().await;
        assert!(
            matches!(found, Err(SnapshotError::Foreign { .. })),
            "{found:?}"
        );
    }
    world.reader = good;
    assert_eq!(world.latest().await.unwrap(), Some(snapshot));
}

#[tokio::test]
async fn what_is_spent_goes() {
    let world = World::new();
    for generation in 1..4 {
        world.commit(generation).await;
    }
    let bad = world.latest().await.unwrap().unwrap();
    let of = bad.manifest.generation;
    world.store.put_aside(&world.workspace, of).await.unwrap();
    std::mem::forget(world.draft(4).await);
    world
        .store
        .prune(&world.workspace, Generation(2))
        .await
        .unwrap();
    assert_eq!(world.names(), ["2", "3.damaged", "4.draft"]);
    world.store.sweep(|_| true).await.unwrap();
    assert_eq!(world.names(), ["2", "3.damaged"]);
    let listed = world.store.workspaces().await;
    assert_eq!(listed, std::slice::from_ref(&world.workspace));
    world.store.give_up(&world.workspace).await.unwrap();
    assert_eq!(world.names(), ["3.damaged"], "evidence stays");
    assert_eq!(world.store.workspaces().await, []);
    for _ in 0..2 {
        world.store.remove_all(&world.workspace).await.unwrap();
        assert_eq!(world.latest().await.unwrap(), None);
    }
    world.commit(9).await;
    world
        .store
        .sweep(|known| *known != world.workspace)
        .await
        .unwrap();
    assert!(world.names().is_empty());
    assert_eq!(world.store.total_bytes().await, 0);
}

#[tokio::test]
async fn of_what_is_put_aside_the_last_few_stay() {
    let world = World::new();
    for generation in 1..8 {
        world.commit(generation).await;
        let of = Generation(generation);
        world.store.put_aside(&world.workspace, of).await.unwrap();
    }
    assert_eq!(
        world.names(),
        ["4.damaged", "5.damaged", "6.damaged", "7.damaged"]
    );
}

#[tokio::test]
async fn all_together_take_no_more_than_they_may() {
    let mut world = World::new();
    let mib = 1 << 20;
    let bound = Some(mib);
    world.store = SnapshotStore::open(world.data.path(), bound).unwrap();
    world.store.has_room(mib).await.unwrap();
    world.commit(1).await;
    let used = world.store.total_bytes().await;
    assert!(used > 5000, "{used}");
    world.store.has_room(mib - used).await.unwrap();
    let refused = world.store.has_room(mib).await.unwrap_err();
    assert!(
        matches!(refused, SnapshotError::Bound { used: found, most } if (found, most) == (used, mib))
    );
    // Another process counts what it finds, evidence as well.
    let again = SnapshotStore::open(world.data.path(), bound).unwrap();
    assert_eq!(again.total_bytes().await, used);
    let of = Generation(1);
    world.store.put_aside(&world.workspace, of).await.unwrap();
    assert_eq!(world.store.total_bytes().await, used);
    world.store.remove_all(&world.workspace).await.unwrap();
    assert_eq!(world.store.total_bytes().await, 0);
    world.store.has_room(mib).await.unwrap();
    // And nobody fills the disk.
    let all = SnapshotStore::open(world.data.path(), Some(u64::MAX)).unwrap();
    let refused = all.has_room(1 << 60).await.unwrap_err();
    assert!(matches!(refused, SnapshotError::Full), "{refused}");
}
