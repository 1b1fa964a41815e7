//! The made-up `/etc`: accounts of nobody real, the host's certificates, and what programs under
//! the host's `/usr` want to read.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{replace_file, replace_link};

/// Copied from the host where everybody may read it: how installed programs are set up, never
/// what the host is called or who uses it.
const COPIED: &[&str] = &[
    "alternatives",
    "bash_completion",
    "ca-certificates",
    "debian_version",
    "emacs",
    "fonts",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "magic",
    "magic.mime",
    "mime.types",
    "perl",
    "protocols",
    "python3",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "vim",
];
/// Likewise, by the start of their names (`python3.11`, `java-17-openjdk`).
const COPIED_PREFIXES: &[&str] = &["java-", "python3."];
/// A copied directory is cut off below this.
const DEEPEST: usize = 6;
/// Larger ones are no configuration.
const LARGEST_FILE: u64 = 8 << 20;

const PASSWD: &str = "root:x:0:0:root:/workspace/.home:/bin/bash\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
                        networks: files\nprotocols: files\nservices: files\n";
const PROFILE: &str = "[ -n \"$BASH\" ] && PS1='\\w\\$ '\n";
const BASHRC: &str = "[ -z \"$PS1\" ] || PS1='\\w\\$ '\n";

/// Makes or refreshes the directory.
///
/// # Errors
/// What the file system said.
pub fn make(etc: &Path, resolvers: &[Ipv4Addr]) -> io::Result<()> {
    std::fs::create_dir_all(etc)?;
    copy_from_host(Path::new("/etc"), etc)?;
    let servers: String = resolvers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    for (name, content) in [
        ("bash.bashrc", BASHRC),
        ("group", GROUP),
        // Bound over by each container's own.
        ("hostname", "workspace\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("machine-id", ""),
        ("nsswitch.conf", NSSWITCH),
        ("passwd", PASSWD),
        ("profile", PROFILE),
        ("resolv.conf", &servers),
        ("shells", "/bin/sh\n/bin/bash\n"),
        ("timezone", "Etc/UTC\n"),
    ] {
        replace_file(&etc.join(name), content.as_bytes())?;
    }
    for (name, target) in [
        ("localtime", "/usr/share/zoneinfo/Etc/UTC"),
        ("mtab", "/proc/self/mounts"),
        ("os-release", "/usr/lib/os-release"),
    ] {
        replace_link(Path::new(target), &etc.join(name))?;
    }
    Ok(())
}

fn copy_from_host(host: &Path, etc: &Path) -> io::Result<()> {
    for name in COPIED {
        let (from, to) = (host.join(name), etc.join(name));
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        copy(&from, &to, DEEPEST)?;
    }
    for entry in std::fs::read_dir(host)?.flatten() {
        let name = entry.file_name();
        let wanted = name.to_str().is_some_and(|name| {
            COPIED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        if wanted {
            copy(&entry.path(), &etc.join(&name), DEEPEST)?;
        }
    }
    Ok(())
}

/// Links into `/usr` stay links; other links become what they lead to, if everybody may read it.
fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(from) else {
        return Ok(());
    };
    if metadata.is_symlink() {
        let target = std::fs::read_link(from)?;
        // `/etc/alternatives` only points on; an absolute link stays meaningful inside.
        let inside = target.starts_with("/usr") || target.starts_with("/etc/alternatives");
        // Hashed names of certificates point to neighbours.
        let neighbour = target.components().count() == 1;
        if inside || neighbour {
            return replace_link(&target, to);
        }
    }
    let Ok(metadata) = std::fs::metadata(from) else {
        return Ok(());
    };
    let for_everybody = metadata.permissions().mode() & 0o004 != 0;
    if !for_everybody {
        return Ok(());
    }
    if metadata.is_file() && metadata.len() <= LARGEST_FILE {
        return replace_file(to, &std::fs::read(from)?);
    }
    if metadata.is_dir() && depth > 0 {
        std::fs::create_dir_all(to)?;
        prune(from, to)?;
        for entry in std::fs::read_dir(from)?.flatten() {
            // Alternatives of manual pages, four of five: nobody's program reads them.
            let manual = entry.path().extension().is_some_and(|end| end == "gz");
            if !(manual && entry.file_type()?.is_symlink()) {
                copy(&entry.path(), &to.join(entry.file_name()), depth - 1)?;
            }
        }
    }
    Ok(())
}

/// Removes what an earlier copy left that the host has no more: a distrusted certificate must not
/// live on inside.
fn prune(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(to)?.flatten() {
        if std::fs::symlink_metadata(from.join(entry.file_name())).is_ok() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_follow_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("a"), "1").unwrap();
        std::fs::write(from.join("b"), "1").unwrap();
        copy(&from, &to, DEEPEST).unwrap();
        std::fs::remove_file(from.join("a")).unwrap();
        std::fs::write(from.join("b"), "2").unwrap();
        copy(&from, &to, DEEPEST).unwrap();
        assert!(!to.join("a").exists());
        assert_eq!(std::fs::read(to.join("b")).unwrap(), b"2");
    }

    #[test]
    fn only_links_to_manual_pages_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("words.gz"), "1").unwrap();
        std::os::unix::fs::symlink("/usr/share/man/man1/mawk.1.gz", from.join("awk.1.gz")).unwrap();
        copy(&from, &to, DEEPEST).unwrap();
        assert!(to.join("words.gz").exists());
        assert!(std::fs::symlink_metadata(to.join("awk.1.gz")).is_err());
    }

    #[test]
    fn secrets_stay_outside() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("secret"), "1").unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(from.join("secret"), mode).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", from.join("link")).unwrap();
        copy(&from, &to, DEEPEST).unwrap();
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
    }
}
