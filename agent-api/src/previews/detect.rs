//! Which framework a project is made with, by looking at its files. Pure: names at the root, and
//! the contents of some of them.
//!
//! Each finder looks for one family and says how sure it is; the surest wins.
//!
//! Must never happen here: I/O, a panic whatever the files say, a command made of what a file says.

mod node;
mod other;
mod python;
mod requires;
mod tokens;
mod vite;

use std::collections::{BTreeMap, BTreeSet};

/// Files whose contents are looked at, if they are there.
pub(super) const READ: &[&str] = &[
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "Pipfile",
    "setup.py",
    "go.mod",
    "Cargo.toml",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "composer.json",
    "Gemfile",
    "app.py",
    "main.py",
    "server.py",
    "wsgi.py",
    "asgi.py",
    "manage.py",
    "server.js",
    "index.js",
    "app.js",
    "main.js",
];

/// Whether the content of a file of this name, at the root, says something.
pub(super) fn is_read(name: &str) -> bool {
    READ.contains(&name) || vite::CONFIGS.contains(&name)
}

/// Directories whose names are looked at, too.
pub(super) const LOOKED_INTO: &[&str] = &["public", "dist", "build", "src", "app", "config"];

/// What is known of a project: names relative to its root, and contents of [`READ`].
#[derive(Debug, Default)]
pub(super) struct Project {
    pub(super) names: BTreeSet<String>,
    pub(super) contents: BTreeMap<String, String>,
    /// The `package.json` that the packages of its workspace's template were installed from.
    pub(super) installed: Option<serde_json::Value>,
}

/// What it is made with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// In the API's words.
    pub(super) framework: &'static str,
    /// 0 to 1.
    pub(super) confidence: f64,
    pub(super) port: u16,
    pub(super) command: Option<String>,
    /// What was looked at to find that.
    pub(super) files: Vec<String>,
}

/// The frameworks that the API has words for.
pub(super) const FRAMEWORKS: &[&str] = &[
    "react_vite",
    "react_cra",
    "nextjs",
    "nuxt",
    "vue_vite",
    "svelte",
    "sveltekit",
    "angular",
    "remix",
    "astro",
    "flask",
    "django",
    "fastapi",
    "express",
    "static",
    "custom",
];

/// Where an app of a framework listens unless it is told otherwise.
pub(super) fn usual_port(framework: &str) -> u16 {
    match framework {
        "react_vite" | "vue_vite" | "svelte" | "sveltekit" => 5173,
        "angular" => 4200,
        "astro" => 4321,
        "flask" => 5000,
        "django" | "fastapi" | "static" => 8000,
        _ => 3000,
    }
}

/// See the module.
pub(super) fn detect(project: &Project) -> Found {
    let finders = [
        node::find,
        python::find,
        other::go,
        other::rust,
        other::java,
        other::php,
        other::ruby,
        other::pages,
    ];
    let mut found: Vec<Found> = finders.iter().filter_map(|find| find(project)).collect();
    // Stable: of two that are equally sure, the earlier in the list.
    found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut finds = found.into_iter();
    finds.next().unwrap_or(Found {
        framework: "custom",
        confidence: 0.0,
        port: 3000,
        command: None,
        files: Vec::new(),
    })
}

impl Project {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Without the mark that some editors put before UTF-8.
    fn text(&self, name: &str) -> Option<&str> {
        let text = self.contents.get(name)?;
        Some(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// Those of `names` that are there.
    fn present(&self, names: &[&str]) -> Vec<String> {
        let there = names.iter().filter(|name| self.has(name));
        there.map(|name| (*name).to_owned()).collect()
    }
}

/// Whether `text` has `word` by itself, in any case, not as a part of another name.
fn mentions(text: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let text = text.to_ascii_lowercase();
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..);
        let after = after.and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests;
