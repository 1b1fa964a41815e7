use super::*;

fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        let is_link = *kind == tar::EntryType::Symlink;
        if is_link {
            ustar.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_is_packed_can_be_unpacked_and_nothing_leads_out() {
    let here = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(here.path().join("from/a/.b")).unwrap();
    std::fs::write(here.path().join("from/a/.b/f"), "text").unwrap();
    std::os::unix::fs::symlink(".b/f", here.path().join("from/a/link")).unwrap();
    let (out, mut pieces) = mpsc::channel(64);
    pack(&here.path().join("from"), out, &Moved::default()).unwrap();
    let mut packed = Vec::new();
    while let Some(piece) = pieces.blocking_recv() {
        packed.extend_from_slice(&piece.unwrap());
    }
    let moved = Moved::default();
    let plain = flate2::read::GzDecoder::new(&packed[..]);
    unpack(plain, &here.path().join("to"), &moved).unwrap();
    assert_eq!((moved.files(), moved.bytes()), (1, 4));
    let through = std::fs::read_to_string(here.path().join("to/a/link"));
    assert_eq!(through.unwrap(), "text");

    use tar::EntryType::{Regular, Symlink};
    let to = here.path().join("hostile");
    for name in ["../x", "/x", "a/../../x"] {
        let tar = tar_of(&[(name, Regular, "x")]);
        assert!(unpack(&tar[..], &to, &moved).is_err(), "{name}");
    }
    let tar = tar_of(&[("l", Symlink, "../from"), ("l/x", Regular, "x")]);
    unpack(&tar[..], &to, &moved).unwrap();
    assert!(to.join("l").is_dir() && !here.path().join("from/x").exists());
}
