//! Templates of an operator's directory.
//!
//! Must never happen here: a link followed, or more read than starter files may have.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fleet::id::TemplateName;

use super::parse::{self, Source};
use super::{
    Checked, MAX_STARTER_BYTES, MAX_STARTER_FILES, RootSource, StarterFile, Template, TemplateError,
};

/// Starter files lie at most this deep.
const DEEPEST: usize = 8;
const FILE: &str = "template.toml";

/// Every template of an operator's directory.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn all(dir: &Path) -> Result<Vec<Template>, TemplateError> {
    let paths = entries(dir)?;
    paths
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| one(path).map_err(parse::first))
        .collect()
}

/// See [`super::check`].
///
/// # Errors
/// The directory cannot be read, or holds none.
pub fn check(path: &Path) -> Result<Vec<Checked>, TemplateError> {
    if path.join(FILE).exists() {
        return Ok(vec![checked(path)]);
    }
    let paths = entries(path)?;
    let found: Vec<_> = paths
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| checked(path))
        .collect();
    match found.is_empty() {
        true => Err(wrong_at(
            path,
            "there is no template: no NAME/template.toml in it",
        )),
        false => Ok(found),
    }
}

fn checked(path: &Path) -> Checked {
    let outcome = one(path);
    let named = outcome
        .as_ref()
        .ok()
        .map(|template| template.name.to_string());
    Checked {
        name: named.unwrap_or_else(|| path.display().to_string()),
        doubts: outcome.as_ref().map(doubts).unwrap_or_default(),
        outcome,
    }
}

pub(super) fn doubts(template: &Template) -> Vec<String> {
    let mut doubts = Vec::new();
    let is_image = matches!(template.root, RootSource::Image(_));
    if template.run.is_some() && template.main_ports.is_empty() && !is_image {
        doubts
            .push("run without main_ports: the preview shows the first well-known port".to_owned());
    }
    if template.hot_reload && template.run.is_none() {
        doubts.push("hot_reload without run: nothing runs that could follow changes".to_owned());
    }
    if let RootSource::Image(reference) = &template.root
        && reference.digest().is_none()
    {
        doubts.push(format!(
            "image {reference} names no digest: what it is may change with the next pull"
        ));
    }
    if let RootSource::Directory(path) = &template.root
        && !path.is_dir()
    {
        doubts.push(format!("rootfs {} is no directory here", path.display()));
    }
    doubts
}

/// The template of one directory, which names it.
fn one(path: &Path) -> Result<Template, Vec<TemplateError>> {
    let file = path.join(FILE);
    let alone = |error: TemplateError| vec![error];
    let text = String::from_utf8(read(&file).map_err(alone)?)
        .map_err(|_| alone(wrong_at(&file, "is not UTF-8")))?;
    let absolute = path
        .canonicalize()
        .map_err(|error| alone(wrong_at(path, error)))?;
    let name = absolute.file_name().and_then(|name| name.to_str());
    let name: TemplateName = name
        .unwrap_or_default()
        .parse()
        .map_err(|error: fleet::id::InvalidId| alone(wrong_at(path, error)))?;
    let below = |part: &str| {
        let (top, mut files) = (path.join(part), Vec::new());
        if top.is_dir() {
            collect(&top, Path::new(""), &mut files, DEEPEST).map_err(alone)?;
        }
        Ok::<_, Vec<TemplateError>>(files)
    };
    let source = Source {
        place: file.display().to_string(),
        text: &text,
        files: below("files")?,
        lock: below("lock")?,
    };
    parse::template(name, source)
}

fn collect(
    dir: &Path,
    inside: &Path,
    files: &mut Vec<StarterFile>,
    depth: usize,
) -> Result<(), TemplateError> {
    for path in entries(dir)? {
        let metadata = std::fs::symlink_metadata(&path).map_err(|error| wrong_at(&path, error))?;
        let inside = inside.join(path.file_name().unwrap_or_default());
        if metadata.is_dir() && depth > 0 {
            collect(&path, &inside, files, depth - 1)?;
        } else if metadata.is_file() && files.len() <= MAX_STARTER_FILES {
            files.push(StarterFile {
                path: inside,
                content: read(&path)?,
                executable: metadata.permissions().mode() & 0o111 != 0,
            });
        } else if !metadata.is_file() {
            return Err(wrong_at(
                &path,
                "only files and (not too deep) directories can start",
            ));
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, TemplateError> {
    let entries = std::fs::read_dir(dir).map_err(|error| wrong_at(dir, error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, TemplateError> {
    let metadata = std::fs::metadata(path).map_err(|error| wrong_at(path, error))?;
    if metadata.len() > MAX_STARTER_BYTES as u64 {
        let bytes = metadata.len();
        let problem = format!("{bytes} bytes; {MAX_STARTER_BYTES} are allowed");
        return Err(wrong_at(path, problem));
    }
    std::fs::read(path).map_err(|error| wrong_at(path, error))
}

fn wrong_at(path: &Path, problem: impl ToString) -> TemplateError {
    TemplateError {
        template: path.display().to_string(),
        file: None,
        line: None,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_template_is_read_with_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("mine");
        std::fs::create_dir_all(own.join("files/src")).unwrap();
        std::fs::write(own.join("template.toml"), "description = \"d\"\n").unwrap();
        std::fs::write(own.join("files/src/a.py"), "print()").unwrap();
        let templates = all(dir.path()).unwrap();
        assert_eq!(templates[0].name.as_str(), "mine");
        assert_eq!(templates[0].files[0].path, Path::new("src/a.py"));
        for number in 0..MAX_STARTER_FILES {
            std::fs::write(own.join(format!("files/{number}")), "").unwrap();
        }
        assert!(
            all(dir.path())
                .unwrap_err()
                .problem
                .contains("starter files")
        );
    }

    #[test]
    fn a_link_is_no_starter_file() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("mine");
        std::fs::create_dir_all(own.join("files")).unwrap();
        std::fs::write(own.join("template.toml"), "description = \"d\"\n").unwrap();
        std::os::unix::fs::symlink("/etc/shadow", own.join("files/x")).unwrap();
        assert!(all(dir.path()).is_err());
    }
}
