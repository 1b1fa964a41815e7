//! From a template's TOML and files to a [`Template`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fleet::id::TemplateName;
use serde::Deserialize;
use toml::Spanned;

use super::language::Need;
use super::{
    Dependencies, LimitOverrides, MAX_STARTER_BYTES, MAX_STARTER_FILES, RootSource, StarterFile,
    Template, TemplateError,
};

/// Starter files lie at most this deep.
const DEEPEST: usize = 8;
const FILE: &str = "template.toml";

/// What a template is made from.
pub struct Source<'a> {
    /// The text's file, for complaints.
    pub place: String,
    /// `template.toml`.
    pub text: &'a str,
    /// Starter files.
    pub files: Vec<StarterFile>,
    /// For the installation of dependencies only.
    pub lock: Vec<StarterFile>,
}

/// `template.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    description: String,
    #[serde(default)]
    languages: Vec<Spanned<String>>,
    /// `any`, `host`, `debian`, or an absolute directory.
    rootfs: Option<Spanned<String>>,
    image: Option<Spanned<String>>,
    #[serde(default)]
    main_ports: Vec<Spanned<u16>>,
    run: Option<String>,
    build: Option<String>,
    #[serde(default)]
    hot_reload: bool,
    dependencies: Option<Spanned<WrittenDependencies>>,
    environment: Option<Spanned<BTreeMap<String, String>>>,
    limits: Option<Spanned<LimitOverrides>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDependencies {
    install: Vec<String>,
    /// Starter files that the installation reads as well.
    #[serde(default)]
    from: Vec<Spanned<String>>,
}

/// A template from its text and files.
///
/// # Errors
/// What is wrong with it, with the line.
pub fn template(name: TemplateName, source: Source<'_>) -> Result<Template, TemplateError> {
    let Source {
        place,
        text,
        files,
        lock,
    } = source;
    let wrong = |problem: String| TemplateError {
        template: name.to_string(),
        problem: format!("{place}: {problem}"),
    };
    let at = |span: Range<usize>, problem: String| TemplateError {
        template: name.to_string(),
        problem: format!("{place}:{}: {problem}", line(text, span.start)),
    };
    let written: Written = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => at(span, error.message().to_owned()),
        None => wrong(error.to_string()),
    })?;
    let root = root(&written).map_err(|(span, problem)| at(span, problem))?;
    let languages = written.languages.iter().map(|need| {
        let parsed = need.get_ref().parse();
        parsed.map_err(|problem| at(need.span(), format!("languages: {problem}")))
    });
    let languages: Vec<Need> = languages.collect::<Result<_, _>>()?;
    if let Some(port) = written.main_ports.iter().find(|port| *port.get_ref() == 0) {
        return Err(at(port.span(), "main_ports: 0 is no port".to_owned()));
    }
    if let Some(environment) = &written.environment {
        check_environment(environment.get_ref()).map_err(|p| at(environment.span(), p))?;
    }
    if let Some(limits) = &written.limits {
        check_limits(*limits.get_ref()).map_err(|p| at(limits.span(), p))?;
    }
    check_files(&files).map_err(wrong)?;
    let dependencies = match &written.dependencies {
        None if lock.is_empty() => None,
        None => {
            let problem = "there are files in lock/, but no [dependencies] that install them";
            return Err(wrong(problem.to_owned()));
        }
        Some(said) => {
            Some(dependencies(said, &files, lock).map_err(|(span, problem)| at(span, problem))?)
        }
    };
    Ok(Template {
        description: written.description,
        languages,
        root,
        main_ports: written
            .main_ports
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        run: written.run,
        build: written.build,
        hot_reload: written.hot_reload,
        dependencies,
        environment: written
            .environment
            .map(|environment| environment.into_inner().into_iter().collect())
            .unwrap_or_default(),
        limits: written.limits.map(Spanned::into_inner).unwrap_or_default(),
        files,
        name,
    })
}

type Complaint = (Range<usize>, String);

/// Counted from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn root(written: &Written) -> Result<RootSource, Complaint> {
    match (&written.rootfs, &written.image) {
        (None, None) => Ok(RootSource::Any),
        (Some(_), Some(image)) => Err((image.span(), "name rootfs or image, not both".to_owned())),
        (None, Some(image)) => match image.get_ref().as_str() {
            plain if !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(RootSource::Image(plain.to_owned()))
            }
            other => Err((image.span(), format!("image: {other:?} is no reference"))),
        },
        (Some(rootfs), None) => match rootfs.get_ref().as_str() {
            "any" => Ok(RootSource::Any),
            "host" => Ok(RootSource::Host),
            "debian" => Ok(RootSource::Debian),
            path if path.starts_with('/') => Ok(RootSource::Directory(PathBuf::from(path))),
            other => Err((
                rootfs.span(),
                format!(
                    "rootfs must be \"any\", \"host\", \"debian\" or an absolute directory, \
                     not {other:?}"
                ),
            )),
        },
    }
}

fn dependencies(
    said: &Spanned<WrittenDependencies>,
    files: &[StarterFile],
    lock: Vec<StarterFile>,
) -> Result<Dependencies, Complaint> {
    let written = said.get_ref();
    if written.install.is_empty() {
        return Err((said.span(), "dependencies.install is empty".to_owned()));
    }
    check_plain(&lock).map_err(|problem| (said.span(), format!("lock/: {problem}")))?;
    let mut all = lock;
    for name in &written.from {
        let path = Path::new(name.get_ref());
        let Some(file) = files.iter().find(|file| file.path == path) else {
            let problem = format!("dependencies.from: there is no starter file {path:?}");
            return Err((name.span(), problem));
        };
        if all.iter().any(|there| there.path == path) {
            let problem = format!("dependencies.from: {path:?} is in lock/ too");
            return Err((name.span(), problem));
        }
        all.push(file.clone());
    }
    all.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Dependencies {
        install: written.install.clone(),
        files: all,
    })
}

fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), String> {
    if let Some(name) = environment.keys().find(|name| !is_variable(name)) {
        return Err(format!("environment: {name:?} is no variable's name"));
    }
    if environment.values().any(|value| value.contains('\0')) {
        return Err("environment: a value contains NUL".to_owned());
    }
    Ok(())
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
    check_plain(files)
}

fn check_plain(files: &[StarterFile]) -> Result<(), String> {
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
    let paths = entries(dir)?;
    paths
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| one(path))
        .collect()
}

/// See [`super::check`].
///
/// # Errors
/// The directory cannot be read, or holds none.
pub fn check(path: &Path) -> Result<Vec<Result<Template, TemplateError>>, TemplateError> {
    if path.join(FILE).exists() {
        return Ok(vec![one(path)]);
    }
    let found: Vec<_> = entries(path)?
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| one(path))
        .collect();
    match found.is_empty() {
        true => Err(wrong_at(
            path,
            "there is no template: no NAME/template.toml in it",
        )),
        false => Ok(found),
    }
}

/// The template of one directory, which names it.
fn one(path: &Path) -> Result<Template, TemplateError> {
    let file = path.join(FILE);
    let text = String::from_utf8(read(&file)?).map_err(|_| wrong_at(&file, "is not UTF-8"))?;
    let absolute = path.canonicalize().map_err(|error| wrong_at(path, error))?;
    let name = absolute.file_name().and_then(|name| name.to_str());
    let name: TemplateName = name
        .unwrap_or_default()
        .parse()
        .map_err(|error: fleet::id::InvalidId| wrong_at(path, error))?;
    let below = |part: &str| {
        let (top, mut files) = (path.join(part), Vec::new());
        if top.is_dir() {
            collect(&top, Path::new(""), &mut files, DEEPEST)?;
        }
        Ok(files)
    };
    let source = Source {
        place: file.display().to_string(),
        text: &text,
        files: below("files")?,
        lock: below("lock")?,
    };
    template(name, source)
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
        let source = Source {
            place: "template.toml".to_owned(),
            text,
            files: vec![StarterFile {
                path: "package.json".into(),
                content: b"{}".to_vec(),
                executable: false,
            }],
            lock: Vec::new(),
        };
        template("t".parse().unwrap(), source)
    }

    const LEAST: &str = "description = \"d\"\n";

    #[test]
    fn the_least_is_enough() {
        let template = parse(LEAST).unwrap();
        assert_eq!(template.root, RootSource::Any);
        assert_eq!(template.limits.over(Limits::default()), Limits::default());
    }

    use crate::config::Limits;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (extra, line, expected) in [
            ("colour = 1", 2, "colour"),
            ("hot_reload = 'yes'", 2, "boolean"),
            ("\n[limits]\nmemory = 1", 4, "memory"),
            ("main_ports = [0]", 2, "main_ports"),
            ("main_ports = [\n  70000]", 3, "70000"),
            ("[environment]\n\"A B\" = \"x\"", 2, "A B"),
            ("[limits]\nmemory_bytes = 1", 2, "limits.memory_bytes"),
            ("rootfs = \"./x\"", 2, "absolute"),
            ("rootfs = \"host\"\nimage = \"a:b\"", 3, "not both"),
            ("image = \"a b\"", 2, "reference"),
            ("languages = [\"python\",\n \"cobol\"]", 3, "cobol"),
            ("languages = [\"python>=x\"]", 2, "x"),
            ("[dependencies]\ninstall = []", 2, "install is empty"),
            (
                "[dependencies]\ninstall = ['a']\nfrom = ['b']",
                4,
                "no starter file",
            ),
        ] {
            let error = parse(&format!("{LEAST}{extra}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            let place = format!("template t: template.toml:{line}: ");
            assert!(error.starts_with(&place), "{error} at {place}");
        }
    }

    #[test]
    fn the_files_of_an_installation() {
        let said = format!("{LEAST}[dependencies]\ninstall = ['x']\nfrom = ['package.json']");
        let dependencies = parse(&said).unwrap().dependencies.unwrap();
        assert_eq!(dependencies.files[0].path, Path::new("package.json"));
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
