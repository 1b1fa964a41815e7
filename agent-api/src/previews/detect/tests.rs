mod node;
mod requirements;

use proptest::prelude::*;

use super::*;

/// Files with their contents; names without one are there and not looked into.
fn project(files: &[(&str, &str)]) -> Project {
    let mut project = Project::default();
    for (name, content) in files {
        project.names.insert((*name).to_owned());
        if is_read(name) {
            let content = (*content).to_owned();
            project.contents.insert((*name).to_owned(), content);
        }
    }
    project
}

fn manifest(dependencies: &str, scripts: &str) -> String {
    let list = |names: &str| {
        let names = names.split_whitespace();
        let names: Vec<_> = names.map(|name| format!("\"{name}\": \"1\"")).collect();
        names.join(", ")
    };
    let scripts: Vec<_> = scripts
        .split(';')
        .filter_map(|script| script.split_once(':'))
        .map(|(name, line)| format!("\"{name}\": \"{line}\""))
        .collect();
    format!(
        "{{\"dependencies\": {{{}}}, \"scripts\": {{{}}}}}",
        list(dependencies),
        scripts.join(", ")
    )
}

#[test]
fn frameworks_of_node() {
    let table = [
        (
            "react react-dom vite",
            "dev:vite",
            "react_vite",
            5173,
            "npm run dev",
        ),
        (
            "react react-scripts",
            "start:react-scripts start",
            "react_cra",
            3000,
            "npm start",
        ),
        (
            "next react react-dom",
            "dev:next dev",
            "nextjs",
            3000,
            "npm run dev",
        ),
        ("next react", "", "nextjs", 3000, "npx next dev"),
        (
            "next react",
            "dev:next dev -p 4000",
            "nextjs",
            4000,
            "npm run dev",
        ),
        ("nuxt vue", "dev:nuxt dev", "nuxt", 3000, "npm run dev"),
        (
            "vue vite",
            "dev:vite --port=4444",
            "vue_vite",
            4444,
            "npm run dev",
        ),
        ("svelte vite", "dev:vite", "svelte", 5173, "npm run dev"),
        (
            "svelte vite @sveltejs/kit",
            "dev:vite dev",
            "sveltekit",
            5173,
            "npm run dev",
        ),
        (
            "@angular/core @angular/cli",
            "start:ng serve",
            "angular",
            4200,
            "npm start",
        ),
        (
            "@remix-run/dev react vite",
            "dev:remix vite:dev",
            "remix",
            5173,
            "npm run dev",
        ),
        (
            "@remix-run/dev react",
            "dev:remix dev",
            "remix",
            3000,
            "npm run dev",
        ),
        ("astro react", "dev:astro dev", "astro", 4321, "npm run dev"),
        (
            "express",
            "start:PORT=8081 node index.js",
            "express",
            8081,
            "npm start",
        ),
        (
            "fastify",
            "start:node index.js",
            "custom",
            3000,
            "npm start",
        ),
        ("left-pad", "dev:node x.js", "custom", 3000, "npm run dev"),
    ];
    for (dependencies, scripts, framework, port, command) in table {
        let text = manifest(dependencies, scripts);
        let found = detect(&project(&[("package.json", &text), ("node_modules", "")]));
        let what = (found.framework, found.port, found.command.as_deref());
        assert_eq!(what, (framework, port, Some(command)), "{text}");
        assert_eq!(found.files, ["package.json"]);
        assert!(FRAMEWORKS.contains(&found.framework));
    }
}

#[test]
fn all_other_languages() {
    let flask = "from flask import Flask\napp = Flask(__name__)\n";
    let api = "from fastapi import FastAPI\nservice: FastAPI = FastAPI()\n";
    let plain = "from http.server import HTTPServer\n";
    /// Files, framework, port, command.
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, u16, Option<&'a str>);
    let table: &[Row<'_>] = &[
        (
            &[("requirements.txt", "Flask==3.0\n"), ("app.py", flask)],
            "flask",
            5000,
            Some("flask --app app run --host 0.0.0.0 --port 5000"),
        ),
        (
            &[("main.py", api)],
            "fastapi",
            8000,
            Some("uvicorn main:service --host 0.0.0.0 --port 8000"),
        ),
        (
            &[
                (
                    "pyproject.toml",
                    "[project]\ndependencies = [\"fastapi>=0.1\"]",
                ),
                ("main.py", ""),
            ],
            "fastapi",
            8000,
            Some("uvicorn main:app --host 0.0.0.0 --port 8000"),
        ),
        (
            &[("manage.py", ""), ("requirements.txt", "Django")],
            "django",
            8000,
            Some("python manage.py runserver 0.0.0.0:8000"),
        ),
        (
            &[("Pipfile", "[packages]\ndjango = \"*\"")],
            "django",
            8000,
            None,
        ),
        (
            &[("requirements.txt", "flask-cors-like"), ("main.py", plain)],
            "custom",
            8000,
            Some("python main.py"),
        ),
        (
            &[("requirements.txt", "streamlit"), ("app.py", "")],
            "custom",
            8501,
            Some("streamlit run app.py"),
        ),
        (
            &[("go.mod", "module x\n"), ("main.go", "")],
            "custom",
            8080,
            Some("go run ."),
        ),
        (
            &[("Cargo.toml", "[dependencies]\naxum = \"0.8\"")],
            "custom",
            8080,
            Some("cargo run"),
        ),
        (
            &[("Cargo.toml", "[dependencies]\nrocket = \"0.5\"")],
            "custom",
            8000,
            Some("cargo run"),
        ),
        (
            &[(
                "pom.xml",
                "<artifactId>spring-boot-starter-web</artifactId>",
            )],
            "custom",
            8080,
            Some("mvn spring-boot:run"),
        ),
        (
            &[
                ("build.gradle", "id 'org.springframework.boot'"),
                ("gradlew", ""),
            ],
            "custom",
            8080,
            Some("./gradlew bootRun"),
        ),
        (
            &[
                (
                    "composer.json",
                    "{\"require\":{\"laravel/framework\":\"1\"}}",
                ),
                ("artisan", ""),
            ],
            "custom",
            8000,
            Some("php artisan serve --host 0.0.0.0 --port 8000"),
        ),
        (
            &[("index.php", "")],
            "custom",
            8000,
            Some("php -S 0.0.0.0:8000"),
        ),
        (
            &[("Gemfile", "gem 'rails'")],
            "custom",
            3000,
            Some("bundle exec rails server -b 0.0.0.0 -p 3000"),
        ),
        (
            &[("Gemfile", "gem \"sinatra\""), ("app.rb", "")],
            "custom",
            4567,
            Some("bundle exec ruby app.rb -o 0.0.0.0 -p 4567"),
        ),
        (
            &[("index.html", ""), ("style.css", "")],
            "static",
            8000,
            Some("python3 -m http.server 8000"),
        ),
        (
            &[("public/index.html", "")],
            "static",
            8000,
            Some("python3 -m http.server 8000 -d public"),
        ),
        (
            &[("server.js", "require('express')()")],
            "express",
            3000,
            Some("node server.js"),
        ),
        (&[("README.md", "")], "custom", 3000, None),
        (&[], "custom", 3000, None),
    ];
    for (files, framework, port, command) in table {
        let found = detect(&project(files));
        let what = (found.framework, found.port, found.command.as_deref());
        assert_eq!(what, (*framework, *port, *command), "{files:?}");
        let nothing = found.confidence == 0.0;
        assert_eq!(nothing, found.files.is_empty(), "{files:?}");
    }
}

#[test]
fn the_surest_wins() {
    let api = manifest("express", "start:node server.js");
    let found = detect(&project(&[
        ("package.json", &api),
        ("index.html", ""),
        ("main.py", "print()"),
    ]));
    assert_eq!(found.framework, "express");
}

#[test]
fn names_are_whole_words() {
    assert!(mentions("flask>=2", "flask") && mentions("Flask", "flask"));
    assert!(!mentions("flask-cors", "flask") && !mentions("myflask", "flask"));
}

proptest! {
    /// Whatever files say, the command is made of words of ours and names of Python.
    #[test]
    fn no_content_breaks_it_or_gets_into_a_command(
        at in 0..READ.len() + vite::CONFIGS.len(),
        content in "\\PC{0,200}",
        dependency in "[a-z$`;&|]{1,10}",
    ) {
        let text = format!("{{\"dependencies\":{{\"{dependency}\":\"1\"}},\"scripts\":{{\"dev\":\"{dependency}\"}}}}");
        for content in [content.as_str(), text.as_str(), "$(x) = Flask(\n", "a;b: c = FastAPI("] {
            let mut names = READ.iter().chain(vite::CONFIGS);
            let name = *names.nth(at).unwrap();
            let found = detect(&project(&[(name, content)]));
            prop_assert!((0.0..1.0).contains(&found.confidence));
            let command = found.command.unwrap_or_default();
            prop_assert!(!command.contains(['$', '`', ';', '|', '\n']), "{}", command);
            prop_assert!(found.port != 0);
        }
    }
}
