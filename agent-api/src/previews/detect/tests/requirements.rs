use super::*;

#[test]
fn comments_and_descriptions_require_nothing() {
    let api = "app = FastAPI()\n";
    let uvicorn = Some("uvicorn main:app --host 0.0.0.0 --port 8000");
    for (file, text) in [
        ("requirements.txt", "# no django here\nfastapi\nuvicorn\n"),
        ("requirements.txt", "fastapi  # instead of django\n"),
        ("requirements.txt", "django\nfastapi\n"),
        (
            "pyproject.toml",
            "[project]\ndescription = \"A flask and django free service\"\n",
        ),
    ] {
        let found = detect(&project(&[(file, text), ("main.py", api)]));
        let what = (found.framework, found.command.as_deref());
        assert_eq!(what, ("fastapi", uvicorn), "{text}");
    }
    let cargo = "[package]\ndescription = \"like rocket\"\n[dependencies.axum]\nversion = \"1\"\n";
    assert_eq!(detect(&project(&[("Cargo.toml", cargo)])).port, 8080);
    let gems = "# gem 'rails'\ngem('sinatra')\n";
    let found = detect(&project(&[("Gemfile", gems), ("app.rb", "")]));
    assert_eq!(found.port, 4567);
}

#[test]
fn code_decides_between_frameworks_of_python() {
    let both = ("requirements.txt", "flask\nfastapi\n");
    let what = |files: &[(&str, &str)]| {
        let found = detect(&project(files));
        (found.framework, found.command.unwrap_or_default())
    };
    let flask = "flask --app app run --host 0.0.0.0 --port 5000".to_owned();
    let made = ("app.py", "# not FastAPI()\napp = Flask(__name__)\n");
    assert_eq!(what(&[both, made]), ("flask", flask.clone()));
    let packaged = "uvicorn app.main:app --host 0.0.0.0 --port 8000".to_owned();
    let layout = ("app/main.py", "");
    for manifest in [
        both,
        ("pyproject.toml", "[project]\ndependencies = ['fastapi']"),
    ] {
        assert_eq!(what(&[manifest, layout]), ("fastapi", packaged.clone()));
        let launcher = ("main.py", "uvicorn.run(\"app.main:app\")");
        assert_eq!(
            what(&[manifest, layout, launcher]),
            ("fastapi", packaged.clone())
        );
    }
    let script = (
        "manage.py",
        "from flask_script import Manager # no django\n",
    );
    let found = what(&[("requirements.txt", "flask\nflask-script"), script, made]);
    assert_eq!(found, ("flask", flask));
    let manage = "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"x\")\n";
    let found = detect(&project(&[
        ("manage.py", manage),
        ("app.py", "x = Flask()"),
    ]));
    assert_eq!((found.framework, found.confidence), ("django", 0.95));
    assert_eq!(detect(&project(&[script])).framework, "custom");
    assert_eq!(detect(&project(&[layout])).command, None);
}
