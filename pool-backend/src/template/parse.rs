//! From a template's TOML and files to a [`Template`].

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fleet::id::TemplateName;
use serde::Deserialize;

use super::{
    LimitOverrides, MAX_STARTER_BYTES, MAX_STARTER_FILES, StarterFile, Template, TemplateError,
};
use crate::runtime::Rootfs;

/// Starter files lie at most this deep.
const DEEPEST: usize = 8;

/// `template.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    description: String,
    #[serde(default)]
    languages: Vec<String>,
    /// `host`, or an absolute directory.
    rootfs: String,
    #[serde(default)]
    main_ports: Vec<u16>,
    run: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    limits: LimitOverrides,
}

/// A template from its text and files.
///
/// # Errors
/// What is wrong with it.
pub fn template(
    name: TemplateName,
    text: &str,
    files: Vec<StarterFile>,
) -> Result<Template, TemplateError> {
    let wrong = |problem: String| TemplateError {
        template: name.to_string(),
        problem,
    };
    let written: Written = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let rootfs = match written.rootfs.as_str() {
        "host" => Rootfs::Host,
        path if path.starts_with('/') => Rootfs::Directory(PathBuf::from(path)),
        other => {
            return Err(wrong(format!(
                "rootfs must be \"host\" or an absolute directory, not {other:?}"
            )));
        }
    };
    if written.main_ports.contains(&0) {
        return Err(wrong("main_ports: 0 is no port".to_owned()));
    }
    let bad_name = written.environment.keys().find(|name| !is_variable(name));
    if let Some(name) = bad_name {
        return Err(wrong(format!(
            "environment: {name:?} is no variable's name"
        )));
    }
    if written
        .environment
        .values()
        .any(|value| value.contains('\0'))
    {
        return Err(wrong("environment: a value contains NUL".to_owned()));
    }
    check_limits(written.limits).map_err(wrong)?;
    check_files(&files).map_err(wrong)?;
    Ok(Template {
        description: written.description,
        languages: written.languages,
        rootfs,
        main_ports: written.main_ports,
        run: written.run,
        environment: written.environment.into_iter().collect(),
        limits: written.limits,
        files,
        name,
    })
}

fn is_variable(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit())
}

fn check_limits(limits: LimitOverrides) -> Result<(), String> {
    // Below these nothing starts, so they are typing errors.
    let too_small = |name: &str, least: u64| Err(format!("limits.{name} must be at least {least}"));
    match limits {
        LimitOverrides {
            memory_bytes: Some(..0x0200_0000),
            ..
        } => too_small("memory_bytes", 0x0200_0000),
        LimitOverrides {
            cpu_millis: Some(..10),
            ..
        } => too_small("cpu_millis", 10),
        LimitOverrides {
            pids: Some(..16), ..
        } => too_small("pids", 16),
        LimitOverrides {
            open_files: Some(..64),
            ..
        } => too_small("open_files", 64),
        _ => Ok(()),
    }
}

fn check_files(files: &[StarterFile]) -> Result<(), String> {
    if files.len() > MAX_STARTER_FILES {
        return Err(format!(
            "{} starter files; {MAX_STARTER_FILES} are allowed (dependencies belong into the \
             root file system)",
            files.len()
        ));
    }
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bytes > MAX_STARTER_BYTES {
        return Err(format!(
            "starter files of {bytes} bytes; {MAX_STARTER_BYTES} are allowed"
        ));
    }
    let strange = files.iter().find(|file| {
        let mut parts = file.path.components();
        file.path.as_os_str().is_empty() || parts.any(|part| !matches!(part, Component::Normal(_)))
    });
    match strange {
        Some(file) => Err(format!("{:?} does not lie in /workspace", file.path)),
        None => Ok(()),
    }
}

/// Every template of an operator's directory.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn directory(dir: &Path) -> Result<Vec<Template>, TemplateError> {
    let mut templates = Vec::new();
    for path in entries(dir)? {
        if !path.is_dir() {
            continue;
        }
        let text = read(&path.join("template.toml"))?;
        let text = String::from_utf8(text).map_err(|_| wrong_at(&path, "is not UTF-8"))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name: TemplateName = name
            .unwrap_or_default()
            .parse()
            .map_err(|error: fleet::id::InvalidId| wrong_at(&path, error))?;
        let mut files = Vec::new();
        let starters = path.join("files");
        if starters.is_dir() {
            collect(&starters, Path::new(""), &mut files, DEEPEST)?;
        }
        templates.push(template(name, &text, files)?);
    }
    Ok(templates)
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
        return Err(wrong_at(path, "is too large"));
    }
    std::fs::read(path).map_err(|error| wrong_at(path, error))
}

fn wrong_at(path: &Path, problem: impl ToString) -> TemplateError {
    TemplateError {
        template: path.display().to_string(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        template("t".parse().unwrap(), text, Vec::new())
    }

    const LEAST: &str = "description = \"d\"\nrootfs = \"host\"\n";

    #[test]
    fn the_least_is_enough() {
        let template = parse(LEAST).unwrap();
        assert_eq!(template.rootfs, Rootfs::Host);
        assert_eq!(template.limits.over(Limits::default()), Limits::default());
    }

    use crate::config::Limits;

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, expected) in [
            ("colour = 1", "colour"),
            ("[limits]\nmemory = 1", "memory"),
            ("main_ports = [0]", "main_ports"),
            ("main_ports = [70000]", "main_ports"),
            ("[environment]\n\"A B\" = \"x\"", "A B"),
            ("[limits]\nmemory_bytes = 1", "limits.memory_bytes"),
        ] {
            let error = parse(&format!("{LEAST}{extra}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with("template t: "), "{error}");
        }
        let relative = "description = \"d\"\nrootfs = \"./x\"\n";
        assert!(parse(relative).unwrap_err().problem.contains("absolute"));
    }

    #[test]
    fn an_operators_template_is_read_with_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("mine");
        std::fs::create_dir_all(own.join("files/src")).unwrap();
        std::fs::write(own.join("template.toml"), LEAST).unwrap();
        std::fs::write(own.join("files/src/a.py"), "print()").unwrap();
        let templates = directory(dir.path()).unwrap();
        assert_eq!(templates[0].name.as_str(), "mine");
        assert_eq!(templates[0].files[0].path, Path::new("src/a.py"));
        for number in 0..MAX_STARTER_FILES {
            std::fs::write(own.join(format!("files/{number}")), "").unwrap();
        }
        assert!(
            directory(dir.path())
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
        std::fs::write(own.join("template.toml"), LEAST).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", own.join("files/x")).unwrap();
        assert!(directory(dir.path()).is_err());
    }

    #[test]
    fn starter_files_stay_inside() {
        let file = |path: &str| StarterFile {
            path: path.into(),
            content: Vec::new(),
            executable: false,
        };
        for path in ["../x", "/x", "", "a/../b"] {
            assert!(check_files(&[file(path)]).is_err(), "{path}");
        }
        assert!(check_files(&[file("a/b")]).is_ok());
    }
}
