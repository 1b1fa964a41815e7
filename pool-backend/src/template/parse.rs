//! From a template's TOML and files to a [`Template`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use fleet::id::TemplateName;
use serde::Deserialize;
use toml::Spanned;

use super::language::Need;
use super::{
    Dependencies, LimitOverrides, MAX_STARTER_BYTES, MAX_STARTER_FILES, RootSource, StarterFile,
    Template, TemplateError,
};
use crate::image::Reference;

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
    main_ports: Vec<Spanned<i64>>,
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
/// Everything that is wrong with it, with the lines; of what keeps the rest from being read, the first.
pub fn template(name: TemplateName, source: Source<'_>) -> Result<Template, Vec<TemplateError>> {
    let Source {
        place,
        text,
        files,
        lock,
    } = source;
    let wrong = |line: Option<usize>, problem: String| TemplateError {
        template: name.to_string(),
        file: Some(place.clone()),
        line,
        problem,
    };
    let at = |(span, problem): Complaint| wrong(Some(line(text, span.start)), problem);
    let unread = |error: toml::de::Error| {
        let span = error.span().unwrap_or_default();
        vec![at((span, error.message().trim().to_owned()))]
    };
    let written: Written = toml::from_str(text).map_err(unread)?;
    let mut problems = Vec::new();
    let root = root(&written).map_err(|why| problems.push(at(why)));
    let mut languages: Vec<Need> = Vec::new();
    for need in &written.languages {
        match need.get_ref().parse() {
            Ok(need) => languages.push(need),
            Err(problem) => problems.push(at((need.span(), format!("languages: {problem}")))),
        }
    }
    let mut main_ports = Vec::new();
    for port in &written.main_ports {
        match u16::try_from(*port.get_ref()) {
            Ok(number) if number > 0 => main_ports.push(number),
            _ => problems.push(at((
                port.span(),
                format!("main_ports: {} is no port", port.get_ref()),
            ))),
        }
    }
    if let Some(environment) = &written.environment
        && let Err(problem) = check_environment(environment.get_ref())
    {
        problems.push(at((environment.span(), problem)));
    }
    if let Some(limits) = &written.limits
        && let Err(problem) = check_limits(*limits.get_ref())
    {
        problems.push(at((limits.span(), problem)));
    }
    if let Err(problem) = check_files(&files) {
        problems.push(wrong(None, problem));
    }
    let dependencies = match &written.dependencies {
        None if lock.is_empty() => None,
        None => {
            let problem = "there are files in lock/, but no [dependencies] that install them";
            problems.push(wrong(None, problem.to_owned()));
            None
        }
        Some(said) => dependencies(said, &files, lock)
            .map_err(|why| problems.push(at(why)))
            .ok(),
    };
    let (Ok(root), true) = (root, problems.is_empty()) else {
        return Err(problems);
    };
    Ok(Template {
        description: written.description,
        languages,
        root,
        main_ports,
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
        (None, Some(image)) => image_reference(image.get_ref())
            .map(RootSource::Image)
            .map_err(|problem| (image.span(), format!("image: {problem}"))),
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

fn image_reference(text: &str) -> Result<Reference, String> {
    let parsed = text.parse::<Reference>();
    let reference = parsed.map_err(|error| {
        format!(
            "{text:?} is no reference ({error}); write registry/name:tag, or \
             registry/name@sha256:… to have the very same bytes for ever"
        )
    })?;
    match reference.digest() {
        Some(digest) if !digest.starts_with("sha256:") => {
            Err(format!("{digest:?} is no SHA-256 digest"))
        }
        _ => Ok(reference),
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

pub(crate) fn is_variable(name: &str) -> bool {
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

/// Of at least one.
pub fn first(mut problems: Vec<TemplateError>) -> TemplateError {
    problems.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn parse(text: &str) -> Result<Template, Vec<TemplateError>> {
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
            ("image = \"a@sha512:00\"", 2, "a@sha512"),
            ("languages = [\"python\",\n \"cobol\"]", 3, "cobol"),
            ("languages = [\"python>=x\"]", 2, "x"),
            ("[dependencies]\ninstall = []", 2, "install is empty"),
            (
                "[dependencies]\ninstall = ['a']\nfrom = ['b']",
                4,
                "no starter file",
            ),
        ] {
            let errors = parse(&format!("{LEAST}{extra}")).unwrap_err();
            let error = errors[0].to_string();
            assert!(error.contains(expected), "{error}");
            let place = format!("template t: template.toml:{line}: ");
            assert!(error.starts_with(&place), "{error} at {place}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let said =
            "main_ports = [0, 80, 70000]\nlanguages = ['cobol']\nrootfs = 'x'\n[limits]\npids = 1";
        let errors = parse(&format!("{LEAST}{said}")).unwrap_err();
        let lines: Vec<_> = errors.iter().filter_map(|error| error.line).collect();
        assert_eq!(lines, [4, 3, 2, 2, 5]);
    }

    #[test]
    fn images_are_named_as_everywhere() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for image in [
            "debian",
            "registry.example:5000/a/b:tag",
            &format!("a:1@{digest}"),
        ] {
            let template = parse(&format!("{LEAST}image = '{image}'")).unwrap();
            assert!(matches!(template.root, RootSource::Image(_)));
            assert_eq!(
                crate::template::directory::doubts(&template).is_empty(),
                image.contains('@'),
                "{image}"
            );
        }
    }

    #[test]
    fn the_files_of_an_installation() {
        let said = format!("{LEAST}[dependencies]\ninstall = ['x']\nfrom = ['package.json']");
        let dependencies = parse(&said).unwrap().dependencies.unwrap();
        assert_eq!(dependencies.files[0].path, Path::new("package.json"));
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
