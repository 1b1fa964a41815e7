//! Files through the façade, over the real init and the real volume.

use bytes::Bytes;
use fleet::lifecycle::State;
use futures_util::{StreamExt as _, stream};
use pool_backend::ErrorKind;
use pool_backend::workspaces::{FileKind, WriteOptions};

use crate::rig::{Rig, bytes_of, is_runsc, output, read, run, write};

#[tokio::test(flavor = "multi_thread")]
async fn writes_reads_lists_and_removes() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let options = WriteOptions {
        mode: Some(0o600),
        exclusive: true,
    };
    let written = workspace
        .write_file(
            "/workspace/src/deep/all.bin",
            bytes_of(every_byte.clone()),
            options,
        )
        .await
        .unwrap();
    assert_eq!(
        (written.path.as_str(), written.size),
        ("src/deep/all.bin", 256)
    );
    assert_eq!(written.mode, 0o600);
    assert_eq!(
        read(&workspace, "./src/deep/all.bin").await.unwrap(),
        every_byte
    );
    assert_eq!(
        output(&workspace, "wc -c < src/deep/all.bin").await.trim(),
        "256"
    );

    let again = workspace
        .write_file("src/deep/all.bin", bytes_of(vec![]), options)
        .await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::Conflict);
    let directory = workspace
        .write_file("src", bytes_of(vec![]), WriteOptions::default())
        .await;
    assert_eq!(directory.unwrap_err().kind, ErrorKind::WrongFileType);

    let made = workspace.make_directory("a/b", true, None).await.unwrap();
    assert_eq!(
        (made.path.as_str(), made.kind),
        ("a/b", FileKind::Directory)
    );
    let orphan = workspace
        .make_directory("x/y", false, None)
        .await
        .unwrap_err();
    assert_eq!(orphan.kind, ErrorKind::NotFound);

    let listed = workspace.list_files("src", true, false).await.unwrap();
    let paths: Vec<_> = listed.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["src/deep", "src/deep/all.bin"]);

    workspace.remove_file("src").await.unwrap();
    assert_eq!(
        read(&workspace, "src/deep/all.bin").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        workspace.remove_file("src").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        workspace.remove_file("/").await.unwrap_err().kind,
        ErrorKind::Invalid
    );
    assert_eq!(
        workspace.stat("../x").await.unwrap_err().kind,
        ErrorKind::Invalid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_nowhere_outside() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    output(
        &workspace,
        "ln -s /etc/passwd passwd; ln -s ../../../../../../etc up; ln -s / root; mkfifo fifo",
    )
    .await;
    for path in ["passwd", "up/shadow", "root/etc/passwd"] {
        let error = read(&workspace, path).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{path}");
        let options = WriteOptions::default();
        let content = bytes_of(b"x".to_vec());
        // What a write through init does to a link is init's to say; the host's files are safe.
        let _ = workspace.write_file(path, content, options).await;
    }
    // gVisor keeps a FIFO to itself: the volume has none.
    let fifo = read(&workspace, "fifo").await.unwrap_err().kind;
    let (wrong, absent) = (ErrorKind::WrongFileType, ErrorKind::NotFound);
    assert!(fifo == wrong || is_runsc() && fifo == absent, "{fifo:?}");
    assert!(
        std::fs::read_to_string("/etc/passwd")
            .unwrap()
            .contains("root:")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_wakes_and_a_read_does_not() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "file", "one").await;
    workspace.stop().await.unwrap();
    assert_eq!(read(&workspace, "file").await.unwrap(), b"one");
    assert_eq!(
        workspace.list_files("", false, false).await.unwrap().len(),
        workspace.list_files("/", false, false).await.unwrap().len()
    );
    assert_eq!(
        workspace.remove_file("absent").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert!(workspace.jobs().await.unwrap().is_empty());
    assert!(workspace.processes().await.unwrap().is_empty());
    assert_eq!(workspace.summary().state, State::Stopped);
    write(&workspace, "file", "two").await;
    assert_eq!(workspace.summary().state, State::Running);
    assert_eq!(read(&workspace, "file").await.unwrap(), b"two");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_stream_and_broken_ones_leave_the_old() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 96;
    let content = stream::iter((0..CHUNKS).map(|n| Ok(Bytes::from(vec![n as u8; CHUNK])))).boxed();
    let options = WriteOptions::default();
    let written = workspace
        .write_file("large", content, options)
        .await
        .unwrap();
    assert_eq!(written.size, (CHUNK * CHUNKS) as u64);
    let (info, mut reading) = workspace.read_file("large").await.unwrap();
    let mut total = 0;
    while let Some(chunk) = reading.next().await {
        total += chunk.unwrap().len() as u64;
    }
    assert_eq!(total, info.size);

    let broken = stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err(std::io::Error::other("the client went away")),
    ]);
    assert!(
        workspace
            .write_file("large", broken.boxed(), options)
            .await
            .is_err()
    );
    assert_eq!(workspace.stat("large").await.unwrap().size, info.size);
    let files = output(&workspace, "ls -A | grep -v '^\\.home$'").await;
    assert_eq!(
        files.lines().filter(|name| name.contains("large")).count(),
        1,
        "{files}"
    );
    run(&workspace, "rm large").await;
}
