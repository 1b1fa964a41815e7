use std::fs;

use super::browsers::Caller;
use super::system::Store;
use super::*;

/// A data dir whose CA exists, as `up` leaves it.
async fn data_dir(parent: &Path) -> (PathBuf, Anchor) {
    let path = parent.join("data");
    drop(fleet::instance::DataDir::open(&path).unwrap());
    let domain = "fleeks.localhost".parse().unwrap();
    certs::Certificates::open(&path, &domain).await.unwrap();
    let anchor = Anchor::of(&path).unwrap();
    (path, anchor)
}

/// The real program, on directories of our own that hold two CAs already.
async fn store(parent: &Path) -> Store {
    let dir = |name: &str| {
        let path = parent.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (local, links) = (dir("local"), dir("links"));
    // Two, because a bundle of one would be linked to like a certificate.
    for name in ["other", "another"] {
        let (_, ca) = data_dir(&dir(name)).await;
        fs::copy(ca.file, local.join(format!("{name}.crt"))).unwrap();
    }
    let conf = parent.join("conf");
    fs::write(&conf, "# none\n").unwrap();
    let arguments = [
        ("--certsconf", conf),
        ("--certsdir", dir("certs")),
        ("--hooksdir", dir("hooks")),
        ("--localcertsdir", local.clone()),
        ("--etccertsdir", links.clone()),
    ];
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let extra_arguments = arguments
        .into_iter()
        .flat_map(|(flag, path)| [flag.to_owned(), text(path)])
        .collect();
    let store = Store {
        local,
        links,
        extra_arguments,
    };
    let nobody = Anchor {
        name: "fleeks-nobody".into(),
        file: PathBuf::new(),
        pem: None,
    };
    // Builds links and bundle for those.
    fs::write(store.local.join("fleeks-nobody.crt"), "").unwrap();
    assert!(matches!(store.remove(&nobody).await, Outcome::Done(_)));
    store
}

/// Names and contents of a directory, links resolved.
fn content(dir: &Path) -> Vec<(String, Option<String>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read_to_string(entry.path()).ok(),
            )
        })
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn the_system_store_gets_it_once_and_is_left_as_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let store = store(parent.path()).await;
    let (_, mut anchor) = data_dir(parent.path()).await;
    let before = content(&store.links);
    assert!(
        before
            .iter()
            .any(|(name, text)| name == "ca-certificates.crt" && text.is_some())
    );

    let done = |outcome: Outcome, word: &str| match outcome {
        Outcome::Done(text) => assert!(text.contains(word), "{text}"),
        Outcome::Failed(text) => panic!("{text}"),
    };
    done(store.add(&anchor).await, "added");
    let added = content(&store.links);
    // Its link, the hash link, and in the bundle.
    assert_eq!(added.len(), before.len() + 2, "{added:?}");
    assert!(
        added.iter().all(|(_, text)| text.is_some()),
        "no dangling link"
    );
    let bundle = fs::read_to_string(store.links.join("ca-certificates.crt")).unwrap();
    assert!(anchor.is_in(&bundle));
    done(store.add(&anchor).await, "it is in there");
    assert_eq!(content(&store.links), added);

    // A new CA in the same data dir takes the old one's place.
    let other = parent.path().join("renewed");
    let (_, renewed) = data_dir(&other).await;
    anchor.pem = renewed.pem;
    done(store.add(&anchor).await, "added");
    let replaced = content(&store.links);
    assert_eq!(replaced.len(), added.len());
    assert!(
        replaced.iter().all(|(_, text)| text.is_some()),
        "no dangling link"
    );
    assert_ne!(replaced, added);

    done(store.remove(&anchor).await, "removed");
    assert_eq!(content(&store.links), before);
    assert!(store.local.join("other.crt").exists());
    done(store.remove(&anchor).await, "not in there");
}

#[tokio::test]
async fn a_system_without_such_a_store_is_told_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let (_, anchor) = data_dir(parent.path()).await;
    let store = Store {
        local: parent.path().join("missing"),
        links: parent.path().join("missing"),
        extra_arguments: Vec::new(),
    };
    let Outcome::Failed(text) = store.add(&anchor).await else {
        panic!("added to nothing")
    };
    assert!(text.contains("ca.pem"), "{text}");
    assert!(matches!(store.remove(&anchor).await, Outcome::Done(_)));
}

#[tokio::test]
async fn browsers_are_optional_and_their_stores_get_it_once() {
    let parent = tempfile::tempdir().unwrap();
    let (_, anchor) = data_dir(parent.path()).await;
    let caller = Caller {
        name: "ada".to_owned(),
        home: parent.path().to_owned(),
        become_user: None,
    };
    assert_eq!(
        caller.add(&anchor).await,
        [Outcome::Done(
            "browsers of ada: no Chromium or Firefox profile found".to_owned()
        )]
    );
    let database = parent.path().join(".pki/nssdb");
    fs::create_dir_all(&database).unwrap();
    let place = format!("sql:{}", database.display());
    let made = std::process::Command::new("certutil")
        .args(["-N", "-d", &place, "--empty-password"])
        .status();
    if made.is_err() {
        // What a machine without certutil is told.
        fs::write(database.join("cert9.db"), "").unwrap();
        let outcomes = caller.add(&anchor).await;
        assert!(matches!(&outcomes[..], [Outcome::Failed(text)] if text.contains("libnss3-tools")));
        return;
    }
    let list = || {
        let listed = std::process::Command::new("certutil")
            .args(["-L", "-d", &place])
            .output();
        String::from_utf8(listed.unwrap().stdout).unwrap()
    };
    let before = list();
    for word in ["added", "it is in"] {
        let outcomes = caller.add(&anchor).await;
        assert!(
            matches!(&outcomes[..], [Outcome::Done(text)] if text.contains(word)),
            "{outcomes:?}"
        );
        assert!(list().contains(&anchor.name));
    }
    for word in ["removed", "it is not in"] {
        let outcomes = caller.remove(&anchor).await;
        assert!(
            matches!(&outcomes[..], [Outcome::Done(text)] if text.contains(word)),
            "{outcomes:?}"
        );
        assert_eq!(list(), before);
    }
}

#[tokio::test]
async fn ca_prints_a_line_that_works_and_nothing_secret_is_ever_installed() {
    let parent = tempfile::tempdir().unwrap();
    let (path, anchor) = data_dir(parent.path()).await;
    let mut out = Vec::new();
    ca(&path, "https://api.fleeks.localhost:8443/", &mut out).unwrap();
    let ca_file = path.join("ca.pem");
    let expected = format!(
        "{0}\ncurl --cacert {0} https://api.fleeks.localhost:8443/health\n",
        ca_file.display()
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);

    let with_key = path.join("certs/fleeks.localhost/ca.pem");
    fs::copy(with_key, &anchor.file).unwrap();
    assert!(
        Anchor::of(&path)
            .unwrap_err()
            .to_string()
            .contains("holds a key")
    );
    fs::remove_file(&anchor.file).unwrap();
    let refused = trust(&path, &mut Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("fleeks up"), "{refused}");
    let nothing = ca(parent.path(), "https://x", &mut Vec::new()).unwrap_err();
    assert!(nothing.to_string().contains("no data dir"), "{nothing}");
}
