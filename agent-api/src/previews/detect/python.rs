//! Projects in Python: what they require, and what their files make.

use super::{Found, Project, mentions, usual_port};

/// Where requirements are written down.
const MANIFESTS: &[&str] = &["requirements.txt", "pyproject.toml", "Pipfile", "setup.py"];
/// Where an app usually is, the likeliest first.
const MODULES: &[&str] = &["app.py", "main.py", "server.py", "wsgi.py", "asgi.py"];

pub(super) fn find(project: &Project) -> Option<Found> {
    let required = |name: &str| {
        let manifests = MANIFESTS.iter().filter_map(|file| project.text(file));
        manifests.into_iter().any(|text| mentions(text, name))
    };
    let files = |others: &[&str]| {
        let mut files = project.present(MANIFESTS);
        files.extend(others.iter().map(|name| (*name).to_owned()));
        files
    };
    if project.has("manage.py") || required("django") {
        let manage = project.has("manage.py");
        return Some(Found {
            framework: "django",
            confidence: if manage { 0.95 } else { 0.7 },
            port: usual_port("django"),
            command: manage.then(|| "python manage.py runserver 0.0.0.0:8000".to_owned()),
            files: files(if manage { &["manage.py"] } else { &[] }),
        });
    }
    let made = |word: &str| project.with(MODULES, word);
    if required("fastapi") || made("FastAPI(").is_some() {
        let file = made("FastAPI(");
        let module = module(project, file);
        return Some(Found {
            framework: "fastapi",
            confidence: sure(required("fastapi"), file.is_some()),
            port: usual_port("fastapi"),
            command: module
                .map(|(module, app)| format!("uvicorn {module}:{app} --host 0.0.0.0 --port 8000")),
            files: files(file.as_slice()),
        });
    }
    if required("flask") || made("Flask(").is_some() {
        let file = made("Flask(");
        let module = module(project, file);
        return Some(Found {
            framework: "flask",
            confidence: sure(required("flask"), file.is_some()),
            port: usual_port("flask"),
            command: module
                .map(|(module, _)| format!("flask --app {module} run --host 0.0.0.0 --port 5000")),
            files: files(file.as_slice()),
        });
    }
    for (name, port, command) in [
        ("streamlit", 8501, "streamlit run"),
        ("gradio", 7860, "python"),
    ] {
        if required(name) {
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
    Some(Found {
        framework: "custom",
        confidence: if serves { 0.5 } else { 0.25 },
        port: usual_port("fastapi"),
        command: Some(format!("python {file}")),
        files: files(&[file]),
    })
}

fn sure(required: bool, made: bool) -> f64 {
    match (required, made) {
        (true, true) => 0.95,
        (_, true) => 0.85,
        _ => 0.7,
    }
}

/// The module that has the app, and the app's name there: a name of Python, or none at all.
fn module<'a>(project: &'a Project, file: Option<&'a str>) -> Option<(&'a str, &'a str)> {
    let file = match file {
        Some(file) => file,
        None => MODULES.iter().copied().find(|file| project.has(file))?,
    };
    let text = project.text(file).unwrap_or_default();
    let made = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim_start();
        let makes = ["Flask(", "FastAPI(", "flask.Flask(", "fastapi.FastAPI("]
            .iter()
            .any(|word| value.starts_with(word));
        let name = name.split(':').next().unwrap_or(name).trim_end();
        (makes && is_name(name)).then_some(name)
    });
    Some((file.strip_suffix(".py")?, made.unwrap_or("app")))
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=40).contains(&text.len())
        && text.bytes().all(letter)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
