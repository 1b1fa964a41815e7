//! Identifiers. Each is made by parsing or minting only, so a value of the type is a valid one.
//!
//! Must never happen here: an identifier built from an unchecked string.

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;
use serde::{Deserialize, Serialize};

/// Lower-case base32 without padding and without look-alike letters at risk in a DNS label.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Host labels that are never a slug.
pub const RESERVED_LABELS: &[&str] = &["api", "embed", "console", "www", "admin", "localhost"];

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct InvalidId {
    /// Which identifier was expected, as users know it.
    pub what: &'static str,
    /// What is wrong with the text; safe to show.
    pub problem: &'static str,
}

/// `len` random letters of [`ALPHABET`], 5 bits each, from the system's CSPRNG-seeded generator.
fn mint(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len)
        .map(|_| char::from(ALPHABET[usize::from(rng.random::<u8>() & 31)]))
        .collect()
}

fn is_minted(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

macro_rules! minted_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// A new random one.
            pub fn mint() -> Self {
                Self(format!(concat!($prefix, "{}"), mint($len)).into())
            }

            /// The text as stored, logged and sent.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let problem = concat!("must be `", $prefix, "` and ", $len, " letters of a-z2-7");
                match text.strip_prefix($prefix) {
                    Some(rest) if is_minted(rest, $len) => Ok(Self(text.into())),
                    _ => Err(InvalidId { what: $what, problem }),
                }
            }
        }

        string_traits!($name);
    };
}

macro_rules! string_traits {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

minted_id!(
    /// Internal id of a workspace; its volume's directory name.
    WorkspaceId, "workspace id", "ws_", 16
);
minted_id!(
    /// Logical container id: survives hibernation, wake, restart and moving.
    ContainerId, "container id", "cnt_", 16
);
minted_id!(
    /// The DNS label of a workspace: a capability (50 bits), unique, never reused.
    Slug, "slug", "workspace-", 10
);
minted_id!(
    /// Who has API keys and a namespace of project ids.
    OwnerId, "owner id", "own_", 16
);
minted_id!(
    /// Public name of an API key; says nothing about its secret.
    KeyId, "key id", "key_", 16
);
minted_id!(
    /// A node: a process that runs containers. Kept in its data dir.
    NodeId, "node id", "node_", 10
);
minted_id!(
    /// A shell line that runs or ran in a workspace.
    JobId, "job id", "job_", 16
);
minted_id!(
    /// An interactive terminal in a workspace.
    TerminalId, "terminal id", "tty_", 16
);
minted_id!(
    /// An app that a workspace shows; the API calls it a preview session.
    PreviewId, "session id", "prv_", 16
);
minted_id!(
    /// A share link. Not a secret: its token is.
    LinkId, "link id", "shr_", 16
);
minted_id!(
    /// A file that is being sent in parts.
    UploadId, "upload id", "upl_", 16
);
minted_id!(
    /// The id of a data dir: prefixes every netns, veth, cgroup, nft table and OCI id of ours.
    /// Short, because an interface name has 15 bytes.
    InstanceId, "instance id", "f", 6
);

/// The owner's own name of a workspace: 1–100 of `A-Z a-z 0-9 - _ .`, not starting with `.`,
/// not `project` (which `sessions/project/{id}` of the preview API would shadow).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectId(std::sync::Arc<str>);

impl ProjectId {
    /// The text as the owner chose it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = |problem| {
            Err(InvalidId {
                what: "project_id",
                problem,
            })
        };
        if text.is_empty() || text.len() > 100 {
            return invalid("must have 1 to 100 characters");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return invalid("may contain only letters, digits, '-', '_' and '.'");
        }
        if text.starts_with('.') {
            return invalid("must not start with '.'");
        }
        if text == "project" {
            return invalid("must not be the reserved word 'project'");
        }
        Ok(Self(text.into()))
    }
}

string_traits!(ProjectId);

/// Name of a template: 1–40 of `a-z 0-9 -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(std::sync::Arc<str>);

impl TemplateName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TemplateName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=40).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid {
            return Err(InvalidId {
                what: "template",
                problem: "must have 1 to 40 of a-z, 0-9 and '-'",
            });
        }
        Ok(Self(text.into()))
    }
}

string_traits!(TemplateName);

/// Rises with every start and wake of a workspace: the fencing token. 0 before the first start.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::{Debug, Display};

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;

    /// What holds of each minted kind.
    fn is_a_kind<T>(mint: fn() -> T, prefix: &str, letters: usize)
    where
        T: FromStr<Err = InvalidId> + Display + Debug + Eq + Serialize + DeserializeOwned,
    {
        let id = mint();
        let text = id.to_string();
        assert!(text.starts_with(prefix) && text.len() == prefix.len() + letters);
        assert_eq!(text.parse::<T>().as_ref(), Ok(&id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), id);
        for malformed in [
            String::new(),
            prefix.to_owned(),
            text[..text.len() - 1].to_owned(),
            format!("{text}a"),
            format!(" {text}"),
            format!("{text}\n"),
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("{prefix}{}", "1".repeat(letters)),
            format!("{prefix}{}", "/".repeat(letters)),
            format!("{prefix}{}", "\u{e9}".repeat(letters)),
            format!("{prefix}{}", "\0".repeat(letters)),
        ] {
            assert!(malformed.parse::<T>().is_err(), "{malformed:?}");
            let json = serde_json::to_string(&malformed).unwrap();
            assert!(serde_json::from_str::<T>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn each_kind_parses_what_it_minted_and_nothing_else() {
        is_a_kind(WorkspaceId::mint, "ws_", 16);
        is_a_kind(ContainerId::mint, "cnt_", 16);
        is_a_kind(Slug::mint, "workspace-", 10);
        is_a_kind(OwnerId::mint, "own_", 16);
        is_a_kind(KeyId::mint, "key_", 16);
        is_a_kind(NodeId::mint, "node_", 10);
        is_a_kind(JobId::mint, "job_", 16);
        is_a_kind(InstanceId::mint, "f", 6);
    }

    #[test]
    fn minted_ids_use_the_whole_alphabet_and_differ() {
        let ids: HashSet<_> = (0..1_000).map(|_| WorkspaceId::mint()).collect();
        assert_eq!(ids.len(), 1_000);
        let letters: HashSet<_> = ids.iter().flat_map(|id| id.as_str()[3..].bytes()).collect();
        assert_eq!(letters, ALPHABET.iter().copied().collect());
    }

    #[test]
    fn a_slug_is_a_dns_label_and_never_reserved() {
        let slug = Slug::mint();
        assert!(slug.as_str().len() + "65535--".len() <= 63);
        assert!(
            RESERVED_LABELS
                .iter()
                .all(|label| label.parse::<Slug>().is_err())
        );
    }

    #[test]
    fn hostile_project_ids_are_refused() {
        for hostile in [
            "",
            ".",
            "..",
            "...",
            ".hidden",
            "../x",
            "a/b",
            "a\\b",
            "a b",
            " a",
            "a ",
            "a\n",
            "a\0b",
            "project",
            "\u{e9}t\u{e9}",
            "\u{ff0e}\u{ff0e}",
            "\u{202e}x",
            "a%2fb",
            "a?b",
            "a#b",
            "a:b",
            "a@b",
            "a*",
            "~",
            "a\tb",
            "\u{feff}a",
        ] {
            assert!(hostile.parse::<ProjectId>().is_err(), "{hostile:?}");
        }
        assert!("a".repeat(200).parse::<ProjectId>().is_err());
        assert!("a".repeat(101).parse::<ProjectId>().is_err());
        let fine = [
            "a",
            "demo",
            "My-App_2.0",
            "Project",
            "projects",
            "a..b",
            "-",
            "_",
            "0",
        ];
        for fine in fine {
            assert_eq!(fine.parse::<ProjectId>().unwrap().as_str(), fine);
        }
        assert!("a".repeat(100).parse::<ProjectId>().is_ok());
    }

    proptest! {
        #[test]
        fn a_project_id_is_exactly_what_its_rule_says(text in "\\PC{0,110}|[A-Za-z0-9_.-]{0,110}") {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let valid = (1..=100).contains(&text.len())
                && text.chars().all(allowed)
                && !text.starts_with('.')
                && text != "project";
            match text.parse::<ProjectId>() {
                Ok(id) => prop_assert!(valid && id.to_string() == text),
                Err(_) => prop_assert!(!valid),
            }
        }

        #[test]
        fn a_template_name_is_exactly_what_its_rule_says(text in "\\PC{0,45}|[a-z0-9-]{0,45}") {
            let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
            let valid = (1..=40).contains(&text.len()) && text.chars().all(allowed);
            prop_assert_eq!(text.parse::<TemplateName>().is_ok(), valid);
        }

        #[test]
        fn any_text_either_is_the_id_or_is_refused(text in "(ws_)?[a-z0-9A-Z_]{14,18}") {
            if let Ok(id) = text.parse::<WorkspaceId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
