//! Layers as registries send them, and as an attacker would.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::*;

/// A layer in the making.
struct Written(Builder<Vec<u8>>);

impl Written {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// With names as they are: the library would refuse those of an attacker.
    fn entry(mut self, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let put =
            |field: &mut [u8], text: &str| field[..text.len()].copy_from_slice(text.as_bytes());
        let old = header.as_old_mut();
        put(&mut old.name, path);
        put(&mut old.linkname, link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, data.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A root beside something that is not to be touched.
struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(stage.root()).unwrap();
        std::fs::write(stage.directory.path().join("outside"), "mine").unwrap();
        stage
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn is_there(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    fn put(&self, compressed: &[u8], plain: &[u8], budget: Budget) -> Result<Budget, ImageError> {
        let layer = self.directory.path().join("layer");
        std::fs::write(&layer, compressed).unwrap();
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(plain));
        let done = Work {
            layer: layer.clone(),
            root: self.root(),
            digest: format!("sha256:{digest}"),
            number: 1,
            budget,
            ended: CancellationToken::new(),
        }
        .run();
        assert!(!layer.exists(), "what was pulled stays");
        let outside = std::fs::read_to_string(self.directory.path().join("outside"));
        assert_eq!(outside.unwrap(), "mine", "the outside was changed");
        let beside = std::fs::read_dir(self.directory.path()).unwrap().count();
        assert_eq!(beside, 2, "something is beside the root");
        done
    }

    fn over(&self, layer: Written) -> Result<Budget, ImageError> {
        let bytes = layer.bytes();
        self.put(&bytes, &bytes, Budget::default())
    }
}

fn refused(layer: Written, why: &str) {
    let error = Stage::new().over(layer).unwrap_err();
    assert!(matches!(error, ImageError::Unfit(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("layer 1: ") && text.contains(why), "{text}");
}

#[test]
fn a_plain_layer() {
    let stage = Stage::new();
    let layer = Written::new()
        .directory("./usr/")
        .entry(EntryType::Regular, "usr/su", "", 0o6755, b"x")
        .entry(EntryType::Regular, "usr/secret", "", 0o000, b"x")
        .entry(EntryType::Directory, "usr/shut", "", 0o000, b"")
        .symlink("bin", "usr")
        .link("usr/same", "usr/su")
        // Through the link, as a container would.
        .file("bin/tool", "tool")
        .file("made/on/the/way", "deep")
        .symlink("absolute", "/etc/shadow");
    stage.over(layer).unwrap();
    assert_eq!(stage.read("usr/tool"), "tool");
    assert_eq!(stage.read("made/on/the/way"), "deep");
    let su = stage.at("usr/su").metadata().unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        (su.uid(), su.mtime()),
        (rustix::process::geteuid().as_raw(), 1_000_000_000)
    );
    assert_eq!(su.ino(), stage.at("usr/same").metadata().unwrap().ino());
    let mode = |path: &str| stage.at(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("usr/secret"), mode("usr/shut")), (0o400, 0o500));
    assert_eq!(
        std::fs::read_link(stage.at("absolute")).unwrap(),
        Path::new("/etc/shadow")
    );
}

#[test]
fn layers_over_layers() {
    let stage = Stage::new();
    let below = Written::new()
        .file("etc/old", "old")
        .file("etc/kept", "below")
        .file("opaque/old/deep", "old")
        .file("opaque/stays", "below")
        .file("was/a/directory", "x")
        .symlink("was-a-link", "etc")
        .file("gone/deep/file", "x")
        .file("half/below", "x");
    stage.over(below).unwrap();
    let above = Written::new()
        .file("etc/.wh.old", "")
        // Not in order: what comes with a layer is never hidden by it.
        .file("opaque/new", "new")
        .file("opaque/old/new", "new")
        .file("opaque/stays", "above")
        .file("opaque/.wh..wh..opq", "")
        .file("was", "a file")
        .directory("was-a-link")
        .file(".wh.gone", "")
        .file("half/above", "new")
        .file(".wh.half", "")
        .file("nowhere/.wh.nothing", "")
        .file(".wh..wh.plnk", "");
    stage.over(above).unwrap();
    assert!(!stage.is_there("etc/old") && !stage.is_there("gone"));
    assert_eq!(stage.read("etc/kept"), "below");
    assert_eq!(stage.read("opaque/stays"), "above");
    assert_eq!(
        stage.read("opaque/old/new") + &stage.read("opaque/new"),
        "newnew"
    );
    assert!(!stage.is_there("opaque/old/deep"));
    assert_eq!(stage.read("was"), "a file");
    assert!(stage.at("was-a-link").symlink_metadata().unwrap().is_dir());
    assert!(stage.is_there("half/above") && !stage.is_there("half/below"));
    assert!(!stage.is_there("nowhere"));
    let names = std::fs::read_dir(stage.root()).unwrap();
    let whiteouts = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.as_encoded_bytes().starts_with(WHITEOUT)
    });
    assert_eq!(whiteouts.count(), 0);
    // All that is below.
    stage
        .over(Written::new().file("only", "x").file(".wh..wh..opq", ""))
        .unwrap();
    assert_eq!(std::fs::read_dir(stage.root()).unwrap().count(), 1);
}

#[test]
fn nothing_leads_out() {
    for (path, why) in [
        ("../outside", "upwards"),
        ("a/../../outside", "upwards"),
        ("/outside", "absolute"),
    ] {
        refused(Written::new().file(path, "theirs"), why);
    }
    refused(Written::new().link("x", "../outside"), "upwards");
    refused(Written::new().link("x", "/etc/passwd"), "absolute");
    refused(Written::new().directory("d").link("x", "d"), "no file");
    refused(Written::new().link("x", "missing"), "no file");
    refused(Written::new().file("d/.wh...", ""), "hides nothing");
    refused(Written::new().file("d/.wh.", ""), "hides nothing");
    // Links of the layer's own, in all their uses.
    for target in ["..", "../..", "/", "../outside"] {
        let stage = Stage::new();
        let below = Written::new()
            .symlink("way", target)
            .symlink("outside", "../outside");
        stage.over(below).unwrap();
        for layer in [
            Written::new().file("way/outside", "theirs"),
            Written::new().file("way/.wh.outside", ""),
            Written::new().file("way/.wh..wh..opq", ""),
            Written::new().link("way/outside", "way/outside"),
            Written::new().directory("way/made/deep"),
            Written::new().file("outside", "theirs"),
        ] {
            // In the root or refused, but never beside it: `put` looks.
            drop(stage.over(layer));
        }
    }
}

#[test]
fn only_files_directories_and_links() {
    refused(
        Written::new().entry(EntryType::Char, "dev/null", "", 0o666, b""),
        "device",
    );
    refused(
        Written::new().entry(EntryType::Block, "dev/sda", "", 0o666, b""),
        "device",
    );
    refused(
        Written::new().entry(EntryType::Fifo, "pipe", "", 0o666, b""),
        "pipe",
    );
    refused(
        Written::new().entry(EntryType::new(b'9'), "x", "", 0o666, b""),
        "kind",
    );
}

#[test]
fn what_is_too_much() {
    let few = |bytes, entries| Budget { bytes, entries };
    let layer = || Written::new().file("a", "12345").file("b", "12345").bytes();
    let (stage, bytes) = (Stage::new(), layer());
    let left = stage.put(&bytes, &bytes, few(100, 3)).unwrap();
    assert_eq!((left.bytes, left.entries), (90, 1));
    assert!(
        stage
            .put(&bytes, &bytes, few(9, 3))
            .unwrap_err()
            .to_string()
            .contains("bytes")
    );
    assert!(
        stage
            .put(&bytes, &bytes, few(100, 1))
            .unwrap_err()
            .to_string()
            .contains("files")
    );
    let deep = "d/".repeat(46);
    let mut layer = Written::new().directory(&deep);
    for _ in 0..6 {
        // Deeper and deeper by way of a link.
        layer = layer
            .symlink("l", &deep)
            .directory(&format!("l/{}", "d/".repeat(40)));
    }
    stage.over(layer).unwrap();
    // A long name that goes on for ever, in what decompresses well.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut endless = header.as_bytes().to_vec();
    endless.resize(64 << 20, b'a');
    let packed = zstd::encode_all(endless.as_slice(), 1).unwrap();
    let error = stage.put(&packed, &endless, Budget::default()).unwrap_err();
    assert!(error.to_string().contains("without end"), "{error}");
}

#[test]
fn compressed_ones_and_others() {
    let plain = Written::new().file("a", "text").bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for compressed in [&gzip, &zstd] {
        let stage = Stage::new();
        stage.put(compressed, &plain, Budget::default()).unwrap();
        assert_eq!(stage.read("a"), "text");
    }
    let stage = Stage::new();
    let tampered = stage.put(&plain, b"other", Budget::default()).unwrap_err();
    assert!(
        matches!(tampered, ImageError::Tampered { .. }),
        "{tampered}"
    );
    for broken in [
        &gzip[..gzip.len() / 2],
        &zstd[..zstd.len() / 2],
        b"no archive at all",
    ] {
        assert!(stage.put(broken, &plain, Budget::default()).is_err());
    }
}
