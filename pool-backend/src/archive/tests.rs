use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use proptest::prelude::*;

use super::*;
use crate::init_client::Change;
use crate::volume_files::VolumeFiles;
use crate::workspaces::path::VolumePath;

fn root() -> VolumePath {
    VolumePath::parse("").unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn plan(bytes: &[u8]) -> Result<Plan, Error> {
    Archive::new(file(bytes))?.plan(root(), LIMITS)
}

type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a str)];

fn tar_of(entries: Entries<'_>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        // Not through the library's own checks: names are what attackers make them.
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        let content = match kind {
            tar::EntryType::Symlink | tar::EntryType::Link => {
                ustar.linkname[..text.len()].copy_from_slice(text.as_bytes());
                ""
            }
            _ => text,
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn zip_of(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(*name, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// What init would be told, as far as it came.
async fn changed(archive: Archive, plan: Plan) -> Vec<String> {
    let mut told = Vec::new();
    let mut changes = Box::pin(changes(Arc::new(archive), Arc::new(plan), false));
    while let Some(change) = changes.next().await {
        told.push(match change {
            Ok(Change::Write(write)) => format!("write {} {:o}", write.path, write.mode.unwrap()),
            Ok(Change::Data(bytes)) => format!("data {}", String::from_utf8_lossy(&bytes)),
            Ok(Change::Written) => "written".to_owned(),
            Ok(Change::Mkdir { path, mode }) => format!("mkdir {path} {:o}", mode.unwrap()),
            Ok(Change::Link { path, target }) => format!("link {path} {target}"),
            Err(error) => format!("error {error}"),
        });
    }
    told
}

#[tokio::test]
async fn an_archive_becomes_changes_links_last() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let tar = tar_of(&[
        ("./", Directory, ""),
        ("./d/", Directory, ""),
        ("to", Symlink, "d/a"),
        ("./d/a", Regular, "text"),
        ("empty", Regular, ""),
    ]);
    for bytes in [tar.clone(), gz(&tar)] {
        let archive = Archive::new(file(&bytes)).unwrap();
        let base = VolumePath::parse("/workspace/in").unwrap();
        let plan = archive.plan(base, LIMITS).unwrap();
        let counts = (plan.files, plan.directories, plan.links, plan.bytes);
        assert_eq!(counts, (2, 1, 1, 4));
        let expected = [
            "mkdir in/d 755",
            "write in/d/a 755",
            "data text",
            "written",
            "write in/empty 755",
            "written",
            "link in/to d/a",
        ];
        let order: Vec<_> = plan.order().map(|entry| entry.path.clone()).collect();
        assert_eq!(order, ["in/d", "in/d/a", "in/empty", "in/to"]);
        assert_eq!(changed(archive, plan).await, expected);
    }
    let zip = zip_of(&[("a/b", "text")]);
    let archive = Archive::new(file(&zip)).unwrap();
    let plan = archive.plan(root(), LIMITS).unwrap();
    let told = changed(archive, plan).await;
    assert_eq!(told, ["write a/b 644", "data text", "written"]);
}

#[test]
fn hostile_entries_are_refused_as_a_whole() {
    use tar::EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    let long = format!("{}f", "d/".repeat(45));
    let deep = "d/".repeat(49);
    let table: &[(Entries<'_>, &str)] = &[
        (&[("/etc/passwd", Regular, "x")], "absolute"),
        (&[("../x", Regular, "x")], "'..'"),
        (&[("a/../../x", Regular, "x")], "'..'"),
        (&[("a/..", Directory, "")], "'..'"),
        (&[("dev", Char, "")], "device"),
        (&[("dev", Block, "")], "device"),
        (&[("fifo", Fifo, "")], "FIFO"),
        (&[("hard", Link, "a")], "hard link"),
        (&[("sparse", GNUSparse, "")], "sparse"),
        (&[("out", Symlink, "/etc/passwd")], "leads out"),
        (&[("out", Symlink, "../x")], "leads out"),
        (&[("a/out", Symlink, "../../x")], "leads out"),
        (&[("out", Symlink, "/workspace/../etc")], "leads out"),
        (&[("out", Symlink, "/workspacex")], "leads out"),
        (&[("none", Symlink, "")], "leads nowhere"),
        (&[("", Regular, "x")], "no name"),
        (&[("./", Regular, "x"), ("a", Regular, "")], ""),
        (
            &[("a", Regular, "1"), ("./a", Regular, "2")],
            "more than once",
        ),
        (
            &[("a", Symlink, "b"), ("a/x", Regular, "2")],
            "no directory",
        ),
        (
            &[("a", Regular, "b"), ("a/x", Directory, "")],
            "no directory",
        ),
        (
            &[("a/x", Regular, ""), ("a", Symlink, "b")],
            "more than once",
        ),
        (&[(&long, Regular, ""), (&deep, Directory, "")], ""),
    ];
    for (entries, why) in table {
        let outcome = plan(&tar_of(entries));
        if why.is_empty() {
            outcome.unwrap();
            continue;
        }
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{entries:?}");
        assert!(error.message.contains(why), "{entries:?}: {error}");
    }
    // Those that stay are taken.
    let stay = [
        ("a/l", Symlink, "../b"),
        ("m", Symlink, "/workspace/b"),
        ("n", Symlink, "."),
    ];
    assert_eq!(plan(&tar_of(&stay)).unwrap().links, 3);
    for name in ["/x", "../x", "a/../x", ".."] {
        assert!(plan(&zip_of(&[(name, "")])).is_err(), "{name}");
    }
}

#[test]
fn bombs_and_broken_ones_are_refused() {
    let tar = tar_of(&[("zeros", tar::EntryType::Regular, &"\0".repeat(1 << 20))]);
    let packed = gz(&tar);
    let limits = Limits {
        small: 1 << 16,
        ratio: 50,
        ..LIMITS
    };
    let archive = Archive::new(file(&packed)).unwrap();
    let error = archive.plan(root(), limits).unwrap_err();
    assert!(error.message.contains("50 times"), "{error}");
    let limits = Limits {
        unpacked: 1 << 18,
        ..LIMITS
    };
    let error = archive.plan(root(), limits).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let limits = Limits {
        entries: 2,
        ..LIMITS
    };
    let many = zip_of(&[("a", ""), ("b", ""), ("c", "")]);
    let error = Archive::new(file(&many))
        .unwrap()
        .plan(root(), limits)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let zeros = zip_of(&[("zeros", &"\0".repeat(1 << 20))]);
    let limits = Limits {
        small: 1 << 16,
        ratio: 50,
        ..LIMITS
    };
    assert!(
        Archive::new(file(&zeros))
            .unwrap()
            .plan(root(), limits)
            .is_err()
    );

    for cut in [1, 200, packed.len() / 2, packed.len() - 1] {
        assert!(plan(&packed[..cut]).is_err(), "cut at {cut}");
    }
    for other in [
        &b""[..],
        b"text",
        b"PK\x03\x04",
        b"\x1f\x8b",
        &[7; 1000],
        b"BZh9",
        b"(\xb5/\xfd",
    ] {
        let error = plan(other).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{other:?}");
    }
    // An end of a zip within another's comment.
    let mut two = zip_of(&[("a", "")]);
    let length = two.len();
    two[length - 2..].copy_from_slice(&22_u16.to_le_bytes());
    two.extend_from_slice(&zip_of(&[]));
    assert!(
        plan(&two)
            .unwrap_err()
            .message
            .contains("more than one end")
    );
    // A name as long as the disk.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut endless = header.as_bytes().to_vec();
    endless.resize(1 << 20, b'a');
    assert!(plan(&endless).unwrap_err().message.contains("too much"));
}

#[tokio::test]
async fn what_goes_out_can_come_in_again() {
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    let long = format!("{}/{}", "ä".repeat(90), "n".repeat(120));
    std::fs::create_dir_all(at(&long).parent().unwrap()).unwrap();
    std::fs::create_dir_all(at(".git/empty")).unwrap();
    std::fs::create_dir_all(at(".home")).unwrap();
    std::fs::write(at(".home/hidden"), "x").unwrap();
    let big: Vec<u8> = (0..700_001_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(at("big"), &big).unwrap();
    std::fs::write(at(&long), "long").unwrap();
    std::fs::write(at(".git/config"), "").unwrap();
    std::os::unix::fs::symlink("../big", at(".git/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("out")).unwrap();
    let files = VolumeFiles::new();
    for format in [Format::Tar, Format::TarGz, Format::Zip] {
        let tree = files.tree(volume.path(), &root()).await.unwrap();
        let pieces = outgoing::packed(files.clone(), tree, format);
        let pieces: Vec<_> = pieces.try_collect().await.unwrap();
        let archive = Archive::new(file(&pieces.concat())).unwrap();
        let plan = archive.plan(root(), LIMITS).unwrap();
        assert_eq!(plan.bytes, 700_005, "{format:?}");
        let mut written: BTreeMap<String, u64> = BTreeMap::new();
        let mut links = Vec::new();
        let mut current = String::new();
        let mut changes = Box::pin(changes(Arc::new(archive), Arc::new(plan), false));
        while let Some(change) = changes.next().await {
            match change.unwrap() {
                Change::Write(write) => {
                    current = write.path;
                    written.insert(current.clone(), 0);
                }
                Change::Data(bytes) => *written.get_mut(&current).unwrap() += bytes.len() as u64,
                Change::Link { path, target } => links.push((path, target)),
                _ => {}
            }
        }
        let expected = BTreeMap::from([
            ("big".to_owned(), 700_001),
            (long.clone(), 4),
            (".git/config".to_owned(), 0),
        ]);
        assert_eq!(written, expected, "{format:?}");
        assert_eq!(links, [(".git/link".to_owned(), "../big".to_owned())]);
    }
}

/// Bytes of an archive, some of them changed.
fn mutated(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = seed.len();
    let change = (0..length, any::<u8>());
    (proptest::collection::vec(change, 0..12), 0..length).prop_map(move |(changes, cut)| {
        let mut bytes = seed.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut);
        }
        bytes
    })
}

fn holds(bytes: &[u8]) {
    if let Ok(plan) = plan(bytes) {
        for entry in plan.entries.iter().flatten() {
            let path = VolumePath::parse(&entry.path).unwrap();
            assert!(!path.is_root() && path.as_str() == entry.path, "{entry:?}");
            if let What::Link { target } = &entry.what {
                assert!(!target.starts_with("/etc"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_tar_breaks_in(bytes in mutated(tar_of(&[
        ("a/b", tar::EntryType::Regular, "text"),
        ("l", tar::EntryType::Symlink, "a/b"),
        ("x", tar::EntryType::XHeader, "20 path=abcdefghijk\n"),
        ("c", tar::EntryType::Regular, "more"),
    ]))) {
        holds(&bytes);
        holds(&gz(&bytes));
    }

    #[test]
    fn no_zip_breaks_in(bytes in mutated(zip_of(&[("a/b", "text"), ("c", "more text, much more text")]))) {
        holds(&bytes);
    }

    #[test]
    fn no_bytes_break_in(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        holds(&bytes);
        let mut zip = b"PK\x03\x04".to_vec();
        zip.extend_from_slice(&bytes);
        holds(&zip);
    }

    #[test]
    fn no_name_leads_out(name in "[a./]{1,30}", target in "[a./]{1,30}") {
        holds(&tar_of(&[(&name, tar::EntryType::Regular, ""), ("l", tar::EntryType::Symlink, &target)]));
    }
}
