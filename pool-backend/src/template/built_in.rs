//! The templates that come with the program: every directory of `templates/`.

use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};

use super::parse::{self, Source};
use super::{StarterFile, Template, TemplateError};

static DIRECTORY: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// All of them.
///
/// # Errors
/// Never, as the test shows.
pub fn templates() -> Result<Vec<Template>, TemplateError> {
    DIRECTORY.dirs().map(template).collect()
}

fn template(directory: &Dir<'_>) -> Result<Template, TemplateError> {
    let place = directory.path().display().to_string();
    let wrong = |problem: String| TemplateError {
        template: place.clone(),
        file: None,
        line: None,
        problem,
    };
    let name = place
        .parse()
        .map_err(|error: fleet::id::InvalidId| wrong(error.to_string()))?;
    let text = directory
        .get_file(directory.path().join("template.toml"))
        .and_then(|file| file.contents_utf8())
        .ok_or_else(|| wrong("no template.toml".to_owned()))?;
    let below = |part: &str| {
        let top = directory.path().join(part);
        let mut files = Vec::new();
        if let Some(part) = directory.get_dir(&top) {
            collect(part, &top, &mut files);
        }
        files
    };
    parse::template(
        name,
        Source {
            place: format!("{place}/template.toml"),
            text,
            files: below("files"),
            lock: below("lock"),
        },
    )
    .map_err(parse::first)
}

fn collect(directory: &Dir<'_>, top: &Path, files: &mut Vec<StarterFile>) {
    for entry in directory.entries() {
        match entry {
            DirEntry::Dir(inner) => collect(inner, top, files),
            DirEntry::File(file) => files.push(StarterFile {
                path: file.path().strip_prefix(top).unwrap_or(file.path()).into(),
                content: file.contents().to_vec(),
                executable: false,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eighteen_are_well_formed() {
        let templates = templates().unwrap();
        let names: Vec<&str> = templates
            .iter()
            .map(|template| template.name.as_str())
            .collect();
        let expected = [
            "default",
            "django",
            "express",
            "fastapi",
            "flask",
            "go",
            "java",
            "nextjs",
            "node",
            "php",
            "python",
            "react",
            "ruby",
            "rust",
            "static",
            "svelte",
            "typescript",
            "vue",
        ];
        assert_eq!(names, expected);
        for template in &templates {
            let name = &template.name;
            assert!(!template.files.is_empty(), "{name} has no files");
            if name.as_str() != "default" {
                assert!(
                    template.run.is_some() && !template.main_ports.is_empty(),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn locks_are_exact_and_name_no_host() {
        for template in templates().unwrap() {
            for file in template.dependencies.iter().flat_map(|all| &all.files) {
                let text = std::str::from_utf8(&file.content).unwrap();
                let place = format!("{}/{}", template.name, file.path.display());
                match file.path.to_str() {
                    Some("package-lock.json") => {
                        let packages = text.matches("\"version\":").count();
                        // All but the workspace's own entry.
                        assert!(
                            text.matches("\"integrity\":").count() >= packages,
                            "{place}"
                        );
                        assert!(!text.contains("\"resolved\":"), "{place} names a host");
                    }
                    Some("requirements.lock") => {
                        assert!(text.lines().all(|line| line.contains("==")), "{place}");
                    }
                    _ => {}
                }
            }
        }
    }
}
