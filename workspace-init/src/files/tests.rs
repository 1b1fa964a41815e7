use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

struct Volume {
    dir: tempfile::TempDir,
    files: Files,
}

impl Volume {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("workspace").join(HOME)).unwrap();
        let files = Files::new(dir.path().join("workspace"), Rc::default());
        Self { dir, files }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("workspace").join(path)
    }

    fn write(&self, path: &str, content: &str) -> Result<u64, RefusalKind> {
        self.write_as(&write(path), content)
    }

    fn write_as(&self, call: &Write, content: &str) -> Result<u64, RefusalKind> {
        let mut draft = self.files.begin(call).map_err(|refusal| refusal.kind)?;
        draft.write(content.as_bytes()).unwrap();
        self.files.commit(draft).map_err(|refusal| refusal.kind)
    }

    fn remove(&self, path: &str) -> Result<(), RefusalKind> {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(self.files.remove(path))
            .map_err(|refusal| refusal.kind)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != HOME)
            .collect();
        names.sort();
        names
    }
}

fn write(path: &str) -> Write {
    Write {
        path: path.to_owned(),
        mode: None,
        parents: true,
        exclusive: false,
    }
}

#[test]
fn a_file_appears_whole_with_its_mode_and_nothing_beside_it() {
    let volume = Volume::new();
    assert_eq!(volume.write("a/b/c.txt", "one"), Ok(1));
    assert_eq!(fs::read_to_string(volume.path("a/b/c.txt")).unwrap(), "one");
    assert_eq!(
        volume.path("a/b/c.txt").metadata().unwrap().mode() & 0o7777,
        0o644
    );

    fs::set_permissions(volume.path("a/b/c.txt"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(volume.write("./a//b/c.txt", "two"), Ok(2));
    assert_eq!(
        volume.path("a/b/c.txt").metadata().unwrap().mode() & 0o7777,
        0o750
    );

    let call = Write {
        mode: Some(0o6600),
        ..write("a/b/c.txt")
    };
    assert_eq!(volume.write_as(&call, "three"), Ok(3));
    assert_eq!(
        volume.path("a/b/c.txt").metadata().unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(fs::read_dir(volume.path("a/b")).unwrap().count(), 1);
}

#[test]
fn a_draft_that_is_dropped_leaves_the_old_file() {
    let volume = Volume::new();
    volume.write("a", "old").unwrap();
    let mut draft = volume.files.begin(&write("a")).unwrap();
    draft.write(b"half of the n").unwrap();
    drop(draft);
    assert_eq!(fs::read_to_string(volume.path("a")).unwrap(), "old");
    assert_eq!(volume.names(), ["a"]);
}

#[test]
fn what_is_not_whole_is_seen_by_nobody() {
    let volume = Volume::new();
    let drafts = volume.path(HOME).join(DRAFTS);
    let begin = |path: &str| {
        let mut draft = volume.files.begin(&write(path)).ok().unwrap();
        draft.write(b"half").unwrap();
        draft
    };
    let draft = begin("new/file");
    assert_eq!(fs::read_dir(volume.path("new")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&drafts).unwrap().count(), 1);
    drop(draft);
    assert_eq!(fs::read_dir(&drafts).unwrap().count(), 0);

    // What a killed init left goes when the next one starts.
    std::mem::forget(begin("new/file"));
    drop(Files::new(volume.path(""), Rc::default()));
    assert_eq!(fs::read_dir(&drafts).unwrap().count(), 0);

    // Whatever user code makes of the place, files are written, and nowhere else.
    let elsewhere = volume.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir(&drafts).unwrap();
    symlink(&elsewhere, &drafts).unwrap();
    let draft = begin("beside");
    assert_eq!(volume.names().len(), 2, "{:?}", volume.names());
    volume.files.commit(draft).ok().unwrap();
    fs::remove_dir_all(volume.path(HOME)).unwrap();
    symlink(&elsewhere, volume.path(HOME)).unwrap();
    assert!(volume.write("beside", "again").is_ok());
    fs::remove_file(volume.path(HOME)).unwrap();
    assert!(volume.write("beside", "and again").is_ok());
    assert_eq!(volume.names(), ["beside", "new"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn exclusive_never_replaces() {
    let volume = Volume::new();
    let call = Write {
        exclusive: true,
        ..write("a")
    };
    assert_eq!(volume.write_as(&call, "first"), Ok(1));
    assert_eq!(volume.write_as(&call, "second"), Err(RefusalKind::Exists));

    let other = Write {
        exclusive: true,
        ..write("b")
    };
    let draft = volume.files.begin(&other).unwrap();
    fs::write(volume.path("b"), "someone was faster").unwrap();
    assert_eq!(
        volume.files.commit(draft).map_err(|refusal| refusal.kind),
        Err(RefusalKind::Exists)
    );
    assert_eq!(
        fs::read_to_string(volume.path("b")).unwrap(),
        "someone was faster"
    );
    assert_eq!(volume.names(), ["a", "b"]);
}

#[test]
fn symlinks_that_stay_inside_are_followed() {
    let volume = Volume::new();
    fs::create_dir_all(volume.path("real/deep")).unwrap();
    symlink("real/deep", volume.path("relative")).unwrap();
    symlink(volume.path("real"), volume.path("absolute")).unwrap();
    symlink("../../relative/../file", volume.path("real/deep/up")).unwrap();
    symlink("new-target", volume.path("dangling")).unwrap();

    volume.write("relative/x", "1").unwrap();
    volume.write("absolute/y", "2").unwrap();
    volume.write("real/deep/up", "3").unwrap();
    volume.write("dangling", "4").unwrap();

    assert_eq!(fs::read_to_string(volume.path("real/deep/x")).unwrap(), "1");
    assert_eq!(fs::read_to_string(volume.path("real/y")).unwrap(), "2");
    assert_eq!(fs::read_to_string(volume.path("real/file")).unwrap(), "3");
    assert_eq!(fs::read_to_string(volume.path("new-target")).unwrap(), "4");
    assert!(volume.path("dangling").is_symlink());
}

#[test]
fn nothing_leaves_the_workspace() {
    let volume = Volume::new();
    let outside = volume.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.path("absolute")).unwrap();
    symlink("../outside", volume.path("relative")).unwrap();
    symlink("/etc/passwd", volume.path("passwd")).unwrap();
    symlink("loop", volume.path("loop")).unwrap();
    fs::create_dir(volume.path("d")).unwrap();
    symlink("d/../../outside", volume.path("sly")).unwrap();
    // Shares a prefix with the workspace's path, but is another directory.
    symlink(volume.dir.path().join("workspace-2"), volume.path("twin")).unwrap();

    for path in [
        "absolute/x",
        "relative/x",
        "passwd",
        "loop",
        "loop/x",
        "sly/x",
        "twin",
        "twin/x",
    ] {
        assert_eq!(volume.write(path, "x"), Err(RefusalKind::Denied), "{path}");
    }
    for path in ["../outside/x", "a/../../outside/x", "/etc/x", "a\0b"] {
        assert_eq!(volume.write(path, "x"), Err(RefusalKind::BadCall), "{path}");
    }
    let mkdir = |path: &str| {
        volume
            .files
            .mkdir(path, true, None)
            .map_err(|refusal| refusal.kind)
    };
    assert_eq!(mkdir("absolute/x"), Err(RefusalKind::Denied));
    assert_eq!(mkdir("../x"), Err(RefusalKind::BadCall));
    assert_eq!(volume.remove("absolute/x"), Err(RefusalKind::Denied));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn only_regular_files_are_replaced() {
    let volume = Volume::new();
    let fifo = volume.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir(volume.path("d")).unwrap();
    assert_eq!(volume.write("fifo", "x"), Err(RefusalKind::Denied));
    assert_eq!(volume.write("d", "x"), Err(RefusalKind::IsDirectory));
    assert_eq!(volume.write("", "x"), Err(RefusalKind::IsDirectory));
    assert_eq!(volume.write("fifo/x", "x"), Err(RefusalKind::NotDirectory));
    let call = Write {
        parents: false,
        ..write("missing/x")
    };
    assert_eq!(volume.write_as(&call, "x"), Err(RefusalKind::NotFound));
    let long = "n".repeat(256);
    assert_eq!(volume.write(&long, "x"), Err(RefusalKind::BadCall));
}

#[test]
fn directories_are_made_once_or_contentedly() {
    let volume = Volume::new();
    let mkdir = |path: &str, parents, mode| {
        volume
            .files
            .mkdir(path, parents, mode)
            .map_err(|refusal| refusal.kind)
    };
    assert_eq!(mkdir("a/b", false, None), Err(RefusalKind::NotFound));
    assert!(mkdir("a/b", true, Some(0o700)).is_ok());
    assert_eq!(volume.path("a/b").metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(volume.path("a").metadata().unwrap().mode() & 0o777, 0o755);
    assert!(mkdir("a/b", true, None).is_ok());
    assert_eq!(mkdir("a/b", false, None), Err(RefusalKind::Exists));
    assert!(mkdir("", true, None).is_ok());
    fs::write(volume.path("f"), "").unwrap();
    assert_eq!(mkdir("f", true, None), Err(RefusalKind::Exists));
    assert_eq!(mkdir("f/x", true, None), Err(RefusalKind::NotDirectory));
}

#[test]
fn trees_go_whole_and_symlinks_do_not_lead_out() {
    let volume = Volume::new();
    let outside = volume.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();

    // Deeper than the levels held open at once, and read-only in between.
    let mut deep = volume.path("tree");
    for _ in 0..150 {
        deep = deep.join("d");
    }
    fs::create_dir_all(&deep).unwrap();
    for number in 0..500 {
        fs::write(volume.path(&format!("tree/d/d/{number}")), "").unwrap();
    }
    symlink(&outside, deep.join("link")).unwrap();
    fs::set_permissions(volume.path("tree/d/d"), fs::Permissions::from_mode(0o500)).unwrap();

    assert_eq!(volume.remove("tree"), Ok(()));
    symlink(&outside, volume.path("link")).unwrap();
    assert_eq!(volume.remove("link"), Ok(()));
    assert_eq!(volume.remove("link"), Err(RefusalKind::NotFound));
    assert_eq!(volume.names(), [""; 0]);
    assert!(outside.join("kept").exists());
}

#[test]
fn the_workspace_itself_stays() {
    let volume = Volume::new();
    for path in ["", ".", "./", "a/.."] {
        assert!(volume.remove(path).is_err(), "{path}");
    }
    assert!(volume.path("").exists());
}

#[test]
fn links_are_made_and_replaced_and_never_followed() {
    let volume = Volume::new();
    volume.write("d/f", "f").unwrap();
    assert!(volume.files.link("d/to", "f").is_ok());
    assert_eq!(fs::read_to_string(volume.path("d/to")).unwrap(), "f");
    assert!(volume.files.link("d/to", "../elsewhere").is_ok());
    assert_eq!(
        fs::read_link(volume.path("d/to")).unwrap(),
        PathBuf::from("../elsewhere")
    );
    // In place of a file; the old target stays.
    assert!(volume.files.link("d/f", "to").is_ok());
    // Into a directory that a link leads out to: denied.
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), volume.path("out")).unwrap();
    for (path, kind) in [
        ("out/x", RefusalKind::Denied),
        ("d", RefusalKind::IsDirectory),
        ("../x", RefusalKind::BadCall),
    ] {
        let refused = volume.files.link(path, "y").unwrap_err();
        assert_eq!(refused.kind, kind, "{path}");
    }
    assert!(volume.files.link("e", "").is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(volume.names(), ["d", "out"]);
}

#[test]
fn many_in_a_row_are_as_good_as_one_by_one() {
    let volume = Volume::new();
    let mut recent = Recent::default();
    let mut near = |path: &str| {
        let draft = volume.files.begin_near(&write(path), &mut recent);
        let mut draft = draft.map_err(|refusal| refusal.kind)?;
        draft.write(b"x").unwrap();
        volume.files.commit(draft).map_err(|refusal| refusal.kind)
    };
    for path in ["a/b/1", "a/b/2", "a/b/1", "3", "a/4"] {
        near(path).unwrap();
        assert_eq!(fs::read(volume.path(path)).unwrap(), b"x");
    }
    for name in ["a/", "a/.", "a/b"] {
        assert_eq!(near(name), Err(RefusalKind::IsDirectory), "{name}");
    }
    // A link in the known directory is followed, or denied, as ever.
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path().join("x"), volume.path("a/out")).unwrap();
    symlink("../3", volume.path("a/in")).unwrap();
    near("a/5").unwrap();
    assert_eq!(near("a/out"), Err(RefusalKind::Denied));
    near("a/5").unwrap();
    fs::write(volume.path("3"), "old").unwrap();
    near("a/in").unwrap();
    assert_eq!(fs::read(volume.path("3")).unwrap(), b"x");
    // Not where the directory was that is not there any more.
    near("a/5").unwrap();
    fs::rename(volume.path("a"), volume.path("moved")).unwrap();
    near("a/6").unwrap();
    fs::remove_dir_all(volume.path("moved")).unwrap();
    near("a/7").unwrap();
    assert!(volume.path("a/7").exists());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
