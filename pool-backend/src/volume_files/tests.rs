use super::reading::CHUNK;
use super::*;
use futures_util::StreamExt as _;
use std::os::unix::fs::symlink;

fn path(text: &str) -> VolumePath {
    VolumePath::parse(text).unwrap()
}

async fn content(files: &VolumeFiles, root: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let mut stream = files.open(root, &path(name)).await?.bytes();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    Ok(all)
}

fn names(entries: &[FileInfo]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[tokio::test]
async fn reads_what_is_inside_and_nothing_else() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    let big: Vec<u8> = (0..CHUNK * 2 + 7).map(|n| (n % 251) as u8).collect();
    std::fs::write(root.join("big"), &big).unwrap();
    std::fs::create_dir(root.join("dir")).unwrap();
    symlink("big", root.join("inner")).unwrap();
    symlink("../../../../etc/passwd", root.join("dir/up")).unwrap();
    symlink(outside.path().join("secret"), root.join("absolute")).unwrap();
    symlink(outside.path(), root.join("away")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/workspace/dir", root.join("inside")).unwrap();
    std::fs::write(root.join("dir/file"), "f").unwrap();
    symlink("/workspace/inside/../big", root.join("around")).unwrap();
    symlink("/workspace/../etc/passwd", root.join("over")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

    let files = VolumeFiles::new();
    assert_eq!(content(&files, root, "big").await.unwrap(), big);
    assert_eq!(content(&files, root, "inner").await.unwrap(), big);
    assert_eq!(content(&files, root, "inside/file").await.unwrap(), b"f");
    assert_eq!(content(&files, root, "around").await.unwrap(), big);
    let link = files.stat(root, &path("around")).await.unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    let listed = files.list(root, &path("inside"), false, false).await;
    assert_eq!(names(&listed.unwrap()), ["inside/file", "inside/up"]);
    for (name, kind) in [
        ("absent", ErrorKind::NotFound),
        ("big/below", ErrorKind::NotFound),
        ("dir", ErrorKind::WrongFileType),
        ("fifo", ErrorKind::WrongFileType),
        ("socket", ErrorKind::WrongFileType),
        ("dir/up", ErrorKind::Invalid),
        ("absolute", ErrorKind::Invalid),
        ("away/secret", ErrorKind::Invalid),
        ("loop", ErrorKind::Invalid),
        ("over", ErrorKind::Invalid),
        ("inside/absent", ErrorKind::NotFound),
    ] {
        let error = content(&files, root, name).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}");
    }
    let error = files
        .list(root, &path("away"), true, true)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn lists() {
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    std::fs::create_dir_all(root.join("src/deep")).unwrap();
    std::fs::create_dir_all(root.join(".home/.cache")).unwrap();
    std::fs::write(root.join("src/deep/a.txt"), "12345").unwrap();
    std::fs::write(root.join(".env"), "").unwrap();
    symlink("src", root.join("link")).unwrap();

    let files = VolumeFiles::new();
    let flat = files.list(root, &path("/"), false, false).await.unwrap();
    assert_eq!(names(&flat), ["link", "src"]);
    assert_eq!(flat[0].kind, FileKind::Symlink);
    let all = files.list(root, &path("/"), true, true).await.unwrap();
    assert_eq!(
        names(&all),
        [".env", "link", "src", "src/deep", "src/deep/a.txt"]
    );
    let home = files.list(root, &path(".home"), false, true).await.unwrap();
    assert_eq!(names(&home), [".home/.cache"]);
    let one = files
        .list(root, &path("src/deep/a.txt"), false, false)
        .await
        .unwrap();
    assert_eq!((names(&one), one[0].size), (vec!["src/deep/a.txt"], 5));
    let through = files
        .list(root, &path("link/deep"), false, false)
        .await
        .unwrap();
    assert_eq!(names(&through), ["link/deep/a.txt"]);
    let absent = files
        .list(root, &path("nope"), false, false)
        .await
        .unwrap_err();
    assert_eq!(absent.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_that_shrinks_is_an_error_not_a_short_answer() {
    let volume = tempfile::tempdir().unwrap();
    let name = volume.path().join("f");
    std::fs::write(&name, vec![1; CHUNK * 2]).unwrap();
    let files = VolumeFiles::new();
    let opened = files.open(volume.path(), &path("f")).await.unwrap();
    let mut stream = opened.bytes();
    assert_eq!(opened.info.size, (CHUNK * 2) as u64);
    assert_eq!(stream.next().await.unwrap().unwrap().len(), CHUNK);
    std::fs::write(&name, "short").unwrap();
    assert!(stream.next().await.unwrap().is_err());
}

#[tokio::test]
async fn parts_of_a_file_and_its_version() {
    let volume = tempfile::tempdir().unwrap();
    let name = volume.path().join("f");
    std::fs::write(&name, "0123456789").unwrap();
    let files = VolumeFiles::new();
    let first = files.open(volume.path(), &path("f")).await.unwrap();
    let mut middle = first.range(3..6);
    assert_eq!(middle.next().await.unwrap().unwrap(), "345");
    assert!(middle.next().await.is_none());
    assert!(first.range(10..20).next().await.is_none());
    let same = files.open(volume.path(), &path("f")).await.unwrap();
    assert_eq!(first.version, same.version);
    // Replaced by one of the same size: another inode.
    std::fs::write(volume.path().join("g"), "9876543210").unwrap();
    std::fs::rename(volume.path().join("g"), &name).unwrap();
    let other = files.open(volume.path(), &path("f")).await.unwrap();
    assert_ne!(first.version, other.version);
    // The one that was opened is still the old one.
    assert_eq!(first.range(0..2).next().await.unwrap().unwrap(), "01");
}

#[tokio::test]
async fn a_tree_has_all_but_the_package_directory() {
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    std::fs::create_dir_all(root.join("a/.b")).unwrap();
    std::fs::create_dir_all(root.join(".home/x")).unwrap();
    std::fs::write(root.join("a/.b/f"), "f").unwrap();
    std::fs::write(root.join("a-"), "").unwrap();
    symlink("/etc", root.join("a/out")).unwrap();
    let files = VolumeFiles::new();
    let tree = files.tree(root, &path("")).await.unwrap();
    let names: Vec<_> = tree
        .entries
        .iter()
        .map(|e| e.path.to_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "a-", "a/.b", "a/out", "a/.b/f"]);
    assert_eq!(tree.entries[3].target.as_deref(), Some(&b"/etc"[..]));
    assert!(
        files
            .open_in(&tree, Path::new("a/.b/f"))
            .await
            .unwrap()
            .is_some()
    );
    for none in ["a", "a/out", "a/out/passwd", "nope", "a-/x"] {
        assert!(
            files
                .open_in(&tree, Path::new(none))
                .await
                .unwrap()
                .is_none(),
            "{none}"
        );
    }
    let one = files.tree(root, &path("a/.b/f")).await.unwrap();
    assert_eq!(one.entries.len(), 1);
    assert!(files.open_in(&one, Path::new("f")).await.unwrap().is_some());
}
