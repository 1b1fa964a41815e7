//! Which archives the machine's own apt fetches its distribution from.
//!
//! Must never happen here: an address written down, or another vendor's archive taken for the
//! distribution's.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;

/// The code name of its release.
pub(super) fn suite(os_release: &str) -> Option<String> {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let name = name.trim_matches('"');
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    plain.then(|| name.to_owned())
}

/// The texts of apt's sources; true for those in paragraphs.
pub(super) fn configured() -> anyhow::Result<Vec<(bool, String)>> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    let further = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    paths.extend(further.flatten().map(|entry| entry.path()));
    paths.sort_unstable();
    let mut texts = Vec::new();
    for path in paths {
        let paragraphs = path.extension().is_some_and(|end| end == "sources");
        if !paragraphs && path.extension().is_none_or(|end| end != "list") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => texts.push((paragraphs, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(path.display().to_string()),
        }
    }
    Ok(texts)
}

/// The archives of the distribution itself, for this release, one a line.
pub(super) fn of(texts: &[(bool, String)], suite: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (paragraphs, text) in texts {
        if *paragraphs {
            lines.extend(text.split("\n\n").flat_map(in_lines));
        } else {
            let plain = text
                .lines()
                .map(|line| line.split('#').next().unwrap_or(""));
            lines.extend(
                plain
                    .filter(|line| line.starts_with("deb "))
                    .map(str::to_owned),
            );
        }
    }
    lines.retain(|line| is_of_the_distribution(line, suite));
    lines
}

/// One paragraph as lines, one for each address and suite.
fn in_lines(paragraph: &str) -> Vec<String> {
    let field = |name: &str| {
        let lines = paragraph.lines();
        let mut found = lines.filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.next().unwrap_or_default()
    };
    if !field("Types").split(' ').any(|kind| kind == "deb") || field("Enabled") == "no" {
        return Vec::new();
    }
    let options = match field("Signed-By") {
        keyring if keyring.starts_with('/') => format!("[signed-by={keyring}] "),
        _ => String::new(),
    };
    let (components, mut lines) = (field("Components"), Vec::new());
    for address in field("URIs").split_ascii_whitespace() {
        for suite in field("Suites").split_ascii_whitespace() {
            lines.push(format!("deb {options}{address} {suite} {components}"));
        }
    }
    lines
}

/// Its words behind `deb` and the options.
fn words(line: &str) -> Vec<&str> {
    let rest = line.trim_start_matches("deb").trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
        None => rest,
    };
    rest.split_ascii_whitespace().collect()
}

fn is_of_the_distribution(line: &str, suite: &str) -> bool {
    let words = words(line);
    let [address, of, components @ ..] = words.as_slice() else {
        return false;
    };
    let parts = address.split('/');
    let ours = |part: &str| matches!(part, "debian" | "debian-security" | "ubuntu");
    of.split(['-', '/']).next() == Some(suite)
        && components.contains(&"main")
        && !address.starts_with("cdrom:")
        && parts.into_iter().any(ours)
}

pub(super) fn names_suite(line: &str, suite: &str) -> bool {
    words(line).get(1) == Some(&suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAGRAPHS: &str = "\
Types: deb deb-src
# an older one: http://old.example/debian
URIs: http://a.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://a.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://a.example/debian
Suites: trixie
Components: main

Types: deb
URIs: https://other.example/node_20.x
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main";
    const LINES: &str = "\
# deb http://b.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://b.example/debian/ bookworm main # ours
deb-src http://b.example/debian bookworm main
deb cdrom:[Debian]/debian bookworm main
deb https://vendor.example/linux/debian bookworm stable";

    #[test]
    fn the_distributions_own_archives_are_taken_and_no_others() {
        let texts = [(true, PARAGRAPHS.to_owned()), (false, LINES.to_owned())];
        let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ";
        let found = of(&texts, "bookworm");
        let found: Vec<&str> = found.iter().map(|line| line.trim_end()).collect();
        assert_eq!(
            found,
            [
                format!("deb {key}http://a.example/debian bookworm main contrib").as_str(),
                &format!("deb {key}http://a.example/debian bookworm-updates main contrib"),
                "deb http://a.example/debian-security bookworm-security main",
                "deb [arch=amd64 signed-by=/k.gpg] https://b.example/debian/ bookworm main",
            ]
        );
        assert!(names_suite(found[0], "bookworm") && !names_suite(found[1], "bookworm"));
    }

    #[test]
    fn the_release_is_read_from_the_system() {
        let text = "NAME=x\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(suite(text).as_deref(), Some("bookworm"));
        assert_eq!(suite("VERSION_CODENAME=\"../x\"\n"), None);
        assert_eq!(suite("ID=debian\n"), None);
    }
}
