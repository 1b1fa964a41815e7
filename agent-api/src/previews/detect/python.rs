//! Projects in Python: what their files make, and else what they require.

use super::requires::{MANIFESTS, required};
use super::{Found, Project, mentions, usual_port};

/// Where an app usually is, the likeliest first.
const MODULES: &[&str] = &["app.py", "main.py", "server.py", "wsgi.py", "asgi.py"];
/// Where FastAPI's own documentation puts it in larger projects. Only its name is known.
const PACKAGED: &str = "app/main.py";

pub(super) fn find(project: &Project) -> Option<Found> {
    let required = required(project);
    let requires = |name: &str| required.contains(name);
    let files = |others: &[&str]| {
        let mut files = project.present(MANIFESTS);
        files.extend(others.iter().map(|name| (*name).to_owned()));
        files
    };
    let (api, flask) = (made(project, "FastAPI("), made(project, "Flask("));
    let undecided = api.is_none() && flask.is_none();
    let required_django = requires("django") && undecided;
    // Other programs are called `manage.py` as well.
    let is_there = project.has("manage.py");
    let manage = is_there && (required_django || project.text("manage.py").is_some_and(is_djangos));
    if manage || required_django {
        return Some(Found {
            framework: "django",
            confidence: if manage { 0.95 } else { 0.7 },
            port: usual_port("django"),
            command: manage.then(|| "python manage.py runserver 0.0.0.0:8000".to_owned()),
            files: files(if manage { &["manage.py"] } else { &[] }),
        });
    }
    // What the code makes counts for more than what is only required.
    let only_flask_required = requires("flask") && !requires("fastapi");
    let is_api = match (api, flask) {
        (Some(_), Some(_)) => !only_flask_required,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => requires("fastapi"),
    };
    if is_api {
        let module = module(project, api);
        return Some(Found {
            framework: "fastapi",
            confidence: sure(requires("fastapi"), api.is_some()),
            port: usual_port("fastapi"),
            files: files(module.as_ref().map(|module| module.file).as_slice()),
            command: module.map(|Module { name, app, .. }| {
                format!("uvicorn {name}:{app} --host 0.0.0.0 --port 8000")
            }),
        });
    }
    if flask.is_some() || requires("flask") {
        let module = module(project, flask);
        return Some(Found {
            framework: "flask",
            confidence: sure(requires("flask"), flask.is_some()),
            port: usual_port("flask"),
            files: files(module.as_ref().map(|module| module.file).as_slice()),
            command: module.map(|Module { name, .. }| {
                format!("flask --app {name} run --host 0.0.0.0 --port 5000")
            }),
        });
    }
    for (name, port, command) in [
        ("streamlit", 8501, "streamlit run"),
        ("gradio", 7860, "python"),
    ] {
        if requires(name) {
            let file = MODULES.iter().find(|file| project.has(file));
            return Some(Found {
                framework: "custom",
                confidence: 0.75,
                port,
                command: file.map(|file| format!("{command} {file}")),
                files: files(&[]),
            });
        }
    }
    plain(project).map(|(file, confidence)| Found {
        framework: "custom",
        confidence,
        port: usual_port("fastapi"),
        command: Some(format!("python {file}")),
        files: files(&[file]),
    })
}

/// A file that is run as it is.
fn plain(project: &Project) -> Option<(&'static str, f64)> {
    let file = MODULES.iter().copied().find(|file| project.has(file))?;
    let text = project.text(file).unwrap_or_default();
    let serves = [
        "http.server",
        "socketserver",
        "aiohttp",
        "HTTPServer",
        "bottle",
        "tornado",
    ];
    let serves = serves.iter().any(|word| text.contains(word));
    Some((file, if serves { 0.5 } else { 0.25 }))
}

fn sure(required: bool, made: bool) -> f64 {
    match (required, made) {
        (true, true) => 0.95,
        (_, true) => 0.85,
        _ => 0.7,
    }
}

/// The lines of a file without their comments. A `#` in a string cuts one short, which does no harm.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split_once('#').map_or(line, |(code, _)| code))
}

fn is_djangos(text: &str) -> bool {
    code(text).any(|line| line.contains("DJANGO_SETTINGS_MODULE") || mentions(line, "django"))
}

/// The module that calls `class`, itself and not one whose name ends so.
fn made(project: &Project, class: &str) -> Option<&'static str> {
    let calls = |line: &str| {
        line.match_indices(class).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
        })
    };
    let mut modules = MODULES.iter().copied();
    modules.find(|file| project.text(file).is_some_and(|text| code(text).any(calls)))
}

/// Where the app is.
struct Module<'a> {
    file: &'static str,
    name: String,
    /// A name of Python.
    app: &'a str,
}

/// The module that has the app: where it is made, or else where it is likely to be.
fn module<'a>(project: &'a Project, made: Option<&'static str>) -> Option<Module<'a>> {
    let packaged = || Some(PACKAGED).filter(|file| project.has(file));
    let likely = || MODULES.iter().copied().find(|file| project.has(file));
    let file = made.or_else(packaged).or_else(likely)?;
    let text = project.text(file).unwrap_or_default();
    let app = code(text).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim_start();
        let makes = ["Flask(", "FastAPI(", "flask.Flask(", "fastapi.FastAPI("]
            .iter()
            .any(|word| value.starts_with(word));
        let name = name.split(':').next().unwrap_or(name).trim_end();
        (makes && is_name(name)).then_some(name)
    });
    Some(Module {
        file,
        name: file.strip_suffix(".py")?.replace('/', "."),
        app: app.unwrap_or("app"),
    })
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=40).contains(&text.len())
        && text.bytes().all(letter)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
