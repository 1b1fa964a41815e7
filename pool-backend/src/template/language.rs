//! Languages: how a root is asked for one without running anything in it, how a running one says
//! its version, and how a template or a customer asks for a version.
//!
//! Must never happen here: a language said to be there that is not.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// A language that we know where to find.
#[derive(Debug, PartialEq, Eq)]
pub struct Language {
    /// Its name in templates and in the API.
    pub name: &'static str,
    /// Other names that customers use.
    pub aliases: &'static [&'static str],
    /// Where its program may be, below a root.
    pub programs: &'static [&'static str],
    /// A shell line that prints its version.
    pub version: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static str,
}

/// All of them.
pub const LANGUAGES: [Language; 7] = [
    Language {
        name: "python",
        aliases: &["python3", "py"],
        programs: &["usr/bin/python3", "usr/local/bin/python3"],
        version: "python3 --version",
        packages: "python3 python3-pip python3-venv",
    },
    Language {
        name: "nodejs",
        aliases: &["node"],
        programs: &["usr/bin/node", "usr/local/bin/node", "usr/bin/nodejs"],
        version: "node --version",
        packages: "nodejs npm",
    },
    Language {
        name: "go",
        aliases: &["golang"],
        programs: &["usr/bin/go", "usr/local/bin/go", "usr/local/go/bin/go"],
        version: "go version",
        packages: "golang-go",
    },
    Language {
        name: "rust",
        aliases: &["rustc", "cargo"],
        programs: &[
            "usr/bin/cargo",
            "usr/local/bin/cargo",
            "usr/local/cargo/bin/cargo",
        ],
        version: "rustc --version",
        packages: "rustc cargo",
    },
    Language {
        name: "java",
        aliases: &["jdk", "openjdk"],
        programs: &[
            "usr/bin/javac",
            "usr/local/bin/javac",
            "opt/java/openjdk/bin/javac",
        ],
        version: "javac -version",
        packages: "default-jdk-headless",
    },
    Language {
        name: "php",
        aliases: &[],
        programs: &["usr/bin/php", "usr/local/bin/php"],
        version: "php --version",
        packages: "php-cli",
    },
    Language {
        name: "ruby",
        aliases: &[],
        programs: &["usr/bin/ruby", "usr/local/bin/ruby"],
        version: "ruby --version",
        packages: "ruby",
    },
];

/// What no program of the root speaks: shown to people, never looked for.
const LABELS: [&str; 5] = ["html", "css", "javascript", "typescript", "bash"];

/// The language of that name.
pub fn by_name(name: &str) -> Option<&'static Language> {
    LANGUAGES
        .iter()
        .find(|language| language.name == name || language.aliases.contains(&name))
}

impl Language {
    /// Its program in the root at `root`, if it has one that is executable there: the path with
    /// links resolved inside the root.
    pub fn find(&self, root: &Path) -> Option<Program> {
        self.programs.iter().find_map(|path| program(root, path))
    }
}

/// A program of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Below the root, links resolved where that can be said.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// Links of a root lead to places in it, not to the host's.
fn program(root: &Path, path: &str) -> Option<Program> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), within).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let runs = stat.st_mode & 0o111 != 0 && stat.st_mode & 0o170_000 == 0o100_000;
    runs.then(|| Program {
        path: path.to_owned(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
    })
}

/// A language that a template needs: `python`, `nodejs>=20.19`, or a label like `html`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// As the API calls it.
    pub name: String,
    /// None for a label.
    pub language: Option<&'static Language>,
    /// The version, where it matters.
    pub wanted: Wanted,
}

impl FromStr for Need {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['>', '=', ' ']).unwrap_or(text.len());
        let (name, wanted) = text.split_at(at);
        let wanted: Wanted = wanted.parse()?;
        if LABELS.contains(&name) {
            if wanted != Wanted::Any {
                return Err(format!("{name} has no version"));
            }
            return Ok(Self {
                name: name.to_owned(),
                language: None,
                wanted,
            });
        }
        let language = by_name(name).ok_or_else(|| {
            let known = LANGUAGES.iter().map(|language| language.name);
            let known: Vec<&str> = known.chain(LABELS).collect();
            format!(
                "{name:?} is no language that is known; those are: {}",
                known.join(", ")
            )
        })?;
        Ok(Self {
            name: language.name.to_owned(),
            language: Some(language),
            wanted,
        })
    }
}

/// A version: its leading numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// The first version in what a program printed: `go version go1.19.8 linux/amd64` is 1.19.8.
    pub fn in_text(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
            .and_then(|word| word.trim_end_matches('.').parse().ok())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no version");
        let numbers: Result<Vec<u64>, _> = text.trim().split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() <= 4 => Ok(Self(numbers)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// A wish for a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever there is.
    Any,
    /// `3.11`, `3.11.x`, `==3.11`: these numbers, and any further ones.
    Exactly(Version),
    /// `>=20.19`: this one or a newer one.
    AtLeast(Version),
}

impl Wanted {
    /// Whether `version` will do.
    pub fn accepts(&self, version: &Version) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => version.0.starts_with(&wanted.0),
            Self::AtLeast(least) => version >= least,
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if matches!(text, "" | "*" | "latest" | "any") {
            return Ok(Self::Any);
        }
        if let Some(least) = text.strip_prefix(">=") {
            return Ok(Self::AtLeast(least.parse()?));
        }
        let exact = text.trim_start_matches('=').trim_start_matches('v');
        let exact = exact.trim_end_matches(".x").trim_end_matches(".*");
        Ok(Self::Exactly(exact.parse()?))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::Exactly(version) => write!(f, "{version}"),
            Self::AtLeast(version) => write!(f, "{version} or newer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (printed, expected) in [
            ("Python 3.11.2", "3.11.2"),
            ("v20.20.2", "20.20.2"),
            ("go version go1.19.8 linux/amd64", "1.19.8"),
            ("rustc 1.63.0 (built from a source tarball)", "1.63.0"),
            ("javac 17.0.15", "17.0.15"),
            ("PHP 8.2.29 (cli) (built: Jul  3 2025)", "8.2.29"),
            ("ruby 3.1.2p20 (2022-04-12 revision 4491bb740a)", "3.1.2"),
        ] {
            assert_eq!(
                Version::in_text(printed),
                Some(version(expected)),
                "{printed}"
            );
        }
        assert_eq!(Version::in_text("sh: 1: go: not found"), None);
    }

    #[test]
    fn wishes() {
        let accepts =
            |wish: &str, there: &str| wish.parse::<Wanted>().unwrap().accepts(&version(there));
        assert!(accepts("3.11", "3.11.2") && accepts("3", "3.11.2") && accepts("3.11.x", "3.11.2"));
        assert!(!accepts("3.1", "3.11.2") && !accepts("3.12", "3.11.2"));
        assert!(accepts(">=20.19", "20.20.2") && accepts(">=20.19", "22.0.0"));
        assert!(!accepts(">=20.19", "20.9.0") && !accepts(">=20.19", "18.20"));
        assert!(accepts("", "1.0") && accepts("latest", "1.0") && accepts("v20", "20.1"));
        for bad in ["~3", "three", "3..1", "-1", ">3", "1.2.3.4.5"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn needs() {
        let need: Need = "node>=20.19".parse().unwrap();
        assert_eq!(need.name, "nodejs");
        assert!("html".parse::<Need>().unwrap().language.is_none());
        assert!("html>=5".parse::<Need>().is_err());
        assert!("cobol".parse::<Need>().unwrap_err().contains("python"));
    }

    #[test]
    fn a_program_is_looked_for_inside_the_root_only() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let go = by_name("go").unwrap();
        assert_eq!(go.find(directory.path()), None);
        // On the host there is such a file; in this root there is none.
        symlink("/usr/bin/env", bin.join("go")).unwrap();
        assert_eq!(go.find(directory.path()), None);
        std::fs::write(bin.join("env"), "#!/bin/sh\n").unwrap();
        assert_eq!(go.find(directory.path()), None, "nobody may run it");
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join("env"), runs).unwrap();
        assert_eq!(go.find(directory.path()).unwrap().path, "usr/bin/go");
    }
}
