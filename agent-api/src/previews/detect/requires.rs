//! What a project in Python requires: the names in its manifests, nothing else that they say.
//!
//! Must never happen here: a description, a comment or a keyword taken for a requirement.

use std::collections::BTreeSet;

use super::Project;
use super::tokens::{Token, entries, tokens};

/// Where requirements are written down.
pub(super) const MANIFESTS: &[&str] =
    &["requirements.txt", "pyproject.toml", "Pipfile", "setup.py"];

/// Names as `pip` compares them: small letters, hyphens.
pub(super) fn required(project: &Project) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(text) = project.text("requirements.txt") {
        names.extend(text.lines().filter_map(listed));
    }
    if let Some(text) = project.text("pyproject.toml") {
        for (path, value) in entries(text) {
            match path[..] {
                ["project", "dependencies"]
                | ["project", "optional-dependencies", ..]
                | ["dependency-groups", _]
                | ["tool", "uv", "dev-dependencies"]
                | ["tool", "pdm", "dev-dependencies", _] => {
                    names.extend(items(&value).filter_map(requirement));
                }
                [
                    "tool",
                    "poetry",
                    "dependencies" | "dev-dependencies",
                    name,
                    ..,
                ]
                | ["tool", "poetry", "group", _, "dependencies", name, ..] => {
                    names.extend(requirement(name));
                }
                _ => {}
            }
        }
    }
    if let Some(text) = project.text("Pipfile") {
        for (path, _) in entries(text) {
            if let ["packages" | "dev-packages", name, ..] = path[..] {
                names.extend(requirement(name));
            }
        }
    }
    if let Some(text) = project.text("setup.py") {
        names.extend(set_up(text));
    }
    names
}

/// A line of `requirements.txt`. A `#` within a word is a part of an address.
fn listed(line: &str) -> Option<String> {
    let comment = line.char_indices().find(|(at, letter)| {
        let before = line.get(..*at).and_then(|text| text.chars().next_back());
        *letter == '#' && before.is_none_or(char::is_whitespace)
    });
    let (line, _) = line.split_at(comment.map_or(line.len(), |(at, _)| at));
    requirement(line)
}

/// The name in `name[extra]>=1; python_version < "4"`, or behind `#egg=` of an address.
fn requirement(text: &str) -> Option<String> {
    let text = text.split_once("#egg=").map_or(text, |(_, name)| name);
    let text = text.trim();
    let part = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let end = text.find(|letter| !part(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    // A sentence, a path and an address go on otherwise. `--hash` and `\` are of a line.
    let version = ['[', '(', '<', '>', '=', '!', '~', ';', '@', '&', '\\'];
    let is_one = rest.is_empty() || rest.starts_with(version) || rest.starts_with("--");
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let plain = || name.to_ascii_lowercase().replace(['_', '.'], "-");
    (is_one && begins_well).then(plain)
}

/// The strings of lists; not those that are keys or values.
fn items<'a>(value: &'a [Token<'a>]) -> impl Iterator<Item = &'a str> {
    let mut before = Token::Line;
    value.iter().filter_map(move |token| {
        let opened = matches!(before, Token::Mark('[' | ','));
        if *token != Token::Line {
            before = *token;
        }
        match token {
            Token::Text(text) if opened => Some(*text),
            _ => None,
        }
    })
}

/// `install_requires=[…]` and lists of other names that `setup.py` may give it.
fn set_up(text: &str) -> Vec<String> {
    let others = [
        "keywords",
        "classifiers",
        "packages",
        "py_modules",
        "platforms",
    ];
    let tokens = tokens(text);
    let mut names = Vec::new();
    let mut list = "";
    let mut before = [Token::Line; 2];
    for token in tokens.iter().filter(|token| **token != Token::Line) {
        match (before, token) {
            ([Token::Word(name), Token::Mark('=')], _) => list = name,
            ([_, Token::Mark('[' | ',')], Token::Text(text)) if !others.contains(&list) => {
                names.extend(requirement(text));
            }
            _ => {}
        }
        before = [before[1], *token];
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str, text: &str) -> Vec<String> {
        let mut project = Project::default();
        project.contents.insert(file.to_owned(), text.to_owned());
        required(&project).into_iter().collect()
    }

    #[test]
    fn lines_of_pip() {
        let text = "# no django here\nFast_API[all]>=0.1 ; python_version < '4' # not flask\n\
             uvicorn\n-r flask.txt\n--index-url https://x/django\n./flask\n\
             git+https://x/y.git#egg=Gradio\nstreamlit==1 \\\n    --hash=sha256:00\na sentence\n";
        let expected = ["fast-api", "gradio", "streamlit", "uvicorn"];
        assert_eq!(names("requirements.txt", text), expected);
    }

    #[test]
    fn tables_of_pyproject() {
        let text = r#"
            [build-system]
            requires = ["django"]
            [project]
            name = "flask"
            description = "A flask and django free service"
            keywords = ["django"]
            dependencies = [
                "a[x]>=1", # "django",
                "b; python_version < '4'",
            ]
            [project.optional-dependencies]
            web = ["c"]
            [dependency-groups]
            dev = ["d", {include-group = "flask"}]
            [tool.poetry.dependencies]
            e = "^1"
            f = { version = "1", extras = ["django"] }
            [tool.poetry.dependencies.g]
            version = "1"
            [tool.poetry.group.dev.dependencies]
            h = "*"
        "#;
        let expected = ["a", "b", "c", "d", "e", "f", "g", "h"];
        assert_eq!(names("pyproject.toml", text), expected);
    }

    #[test]
    fn other_manifests() {
        let text = "[packages]\na = \"*\"\n# django = 1\n[dev-packages]\nb = \"*\"\n[requires]\npython_version = \"3\"";
        assert_eq!(names("Pipfile", text), ["a", "b"]);
        let text = "needs = ['a>=1']\nsetup(name='django', description='flask',\n  keywords=['flask', 'x'], # ['flask']\n  classifiers=['Framework :: Django'],\n  install_requires=['b', 'c'], extras_require={'z': ['d']})";
        assert_eq!(names("setup.py", text), ["a", "b", "c", "d"]);
    }
}
