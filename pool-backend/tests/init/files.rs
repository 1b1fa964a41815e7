//! Files that are written, made and removed through init.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use init_protocol::{RefusalKind, Write};
use pool_backend::init_client::InitError;

use crate::world::{World, until};

fn to(path: &str) -> Write {
    Write {
        path: path.to_owned(),
        mode: None,
        parents: true,
        exclusive: false,
    }
}

fn content(text: &'static str) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))])
}

fn kind<T: std::fmt::Debug>(result: Result<T, InitError>) -> RefusalKind {
    match result {
        Err(InitError::Refused { kind, .. }) => kind,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn files_come_whole_whatever_their_size() {
    let world = World::start().await;
    let first = world
        .client
        .write(to("a/b"), content("hello"))
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(world.workspace().join("a/b")).unwrap(),
        b"hello"
    );
    let second = world
        .client
        .write(to("empty"), stream::empty())
        .await
        .unwrap();
    assert!(second > first, "numbers of writes rise");
    assert_eq!(std::fs::read(world.workspace().join("empty")).unwrap(), b"");

    let pattern: Bytes = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let chunks = stream::iter(vec![pattern.clone(); 20]).map(Ok);
    world.client.write(to("large"), chunks).await.unwrap();
    let large = std::fs::read(world.workspace().join("large")).unwrap();
    assert!(large == pattern.repeat(20));
    let peak = world.status_kib("VmHWM");
    assert!(peak < 8 * 1024, "{peak} KiB resident at most");

    let with_mode = Write {
        mode: Some(0o755),
        exclusive: true,
        ..to("script")
    };
    world
        .client
        .write(with_mode.clone(), content("#!/bin/sh\necho ran"))
        .await
        .unwrap();
    assert_eq!(world.sh("./script").await.1, "ran\n");
    assert_eq!(
        kind(world.client.write(with_mode, content("again")).await),
        RefusalKind::Exists
    );
}

#[tokio::test]
async fn content_that_ends_early_changes_nothing() {
    let world = World::start().await;
    world
        .client
        .write(to("file"), content("old"))
        .await
        .unwrap();
    let broken = stream::iter([
        Ok(Bytes::from(vec![0; 1_000_000])),
        Err(io::Error::other("the visitor left")),
    ]);
    let written = world.client.write(to("file"), broken).await;
    assert!(matches!(written, Err(InitError::Source(_))), "{written:?}");
    until("the draft is gone", async || {
        std::fs::read_dir(world.workspace()).unwrap().count() == 1
    })
    .await;
    assert_eq!(
        std::fs::read(world.workspace().join("file")).unwrap(),
        b"old"
    );
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_rest_of_the_content() {
    let world = World::start().await;
    std::fs::create_dir(world.workspace().join("dir")).unwrap();
    let endless = || stream::repeat_with(|| Ok(Bytes::from(vec![0; 100_000])));
    assert_eq!(
        kind(world.client.write(to("dir"), endless()).await),
        RefusalKind::IsDirectory
    );
    let slow = stream::pending();
    assert_eq!(
        kind(world.client.write(to("../x"), slow).await),
        RefusalKind::BadCall
    );
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_no_draft() {
    let world = World::start_with(&[
        "sh",
        "-c",
        "mount -t tmpfs -o size=1m tmpfs \"$(dirname \"$2\")/workspace\" && exec \"$1\" \"$2\"",
        "sh",
    ])
    .await;
    let much = stream::iter(vec![Bytes::from(vec![1; 100_000]); 50]).map(Ok);
    assert_eq!(
        kind(world.client.write(to("f"), much).await),
        RefusalKind::NoSpace
    );
    until("the draft is gone", async || {
        world.sh("ls -A | wc -l").await.1 == "0\n"
    })
    .await;
    world
        .client
        .write(to("small"), content("fits"))
        .await
        .unwrap();
}

#[tokio::test]
async fn symlinks_lead_nowhere_else() {
    let world = World::start().await;
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, world.workspace().join("out")).unwrap();
    std::fs::create_dir(world.workspace().join("in")).unwrap();
    symlink("in", world.workspace().join("link")).unwrap();
    let client = &world.client;
    assert_eq!(
        kind(client.write(to("out/x"), content("x")).await),
        RefusalKind::Denied
    );
    assert_eq!(
        kind(client.mkdir("out/x", true, None).await),
        RefusalKind::Denied
    );
    assert_eq!(kind(client.remove("out/x").await), RefusalKind::Denied);
    client.write(to("link/x"), content("x")).await.unwrap();
    assert!(world.workspace().join("in/x").exists());
    client.remove("out").await.unwrap();
    assert!(outside.exists());
}

#[tokio::test]
async fn directories_come_and_go() {
    let world = World::start().await;
    let client = &world.client;
    assert_eq!(
        kind(client.mkdir("a/b", false, None).await),
        RefusalKind::NotFound
    );
    client.mkdir("a/b", true, Some(0o700)).await.unwrap();
    let mode = std::fs::metadata(world.workspace().join("a/b"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        kind(client.mkdir("a/b", false, None).await),
        RefusalKind::Exists
    );

    // Other calls are answered while a large tree goes.
    world
        .sh("mkdir -p a/d/{1..20}/{1..20}; for d in a/d/*/*; do touch $d/{1..20}; done")
        .await;
    let (removed, pinged) = tokio::join!(client.remove("a"), async {
        tokio::time::timeout(Duration::from_secs(5), client.ping()).await
    });
    removed.unwrap();
    pinged.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 0);
    assert_eq!(kind(client.remove("a").await), RefusalKind::NotFound);
    assert_eq!(kind(client.remove("").await), RefusalKind::IsDirectory);
}
