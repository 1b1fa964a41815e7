//! Go, Rust, Java, PHP, Ruby, and pages that only want to be served.

use super::tokens::{Token, entries, tokens};
use super::{Found, Project, usual_port};

fn custom(confidence: f64, port: u16, command: &str, files: Vec<String>) -> Option<Found> {
    Some(Found {
        framework: "custom",
        confidence,
        port,
        command: Some(command.to_owned()),
        files,
    })
}

pub(super) fn go(project: &Project) -> Option<Found> {
    let files = project.present(&["go.mod", "main.go"]);
    match project.text("go.mod") {
        Some(_) => custom(0.7, 8080, "go run .", files),
        None if project.has("main.go") => custom(0.5, 8080, "go run main.go", files),
        None => None,
    }
}

pub(super) fn rust(project: &Project) -> Option<Found> {
    let manifest = project.text("Cargo.toml")?;
    let files = project.present(&["Cargo.toml", "Rocket.toml"]);
    let entries = entries(manifest);
    // `axum = "1"` in one of the tables of dependencies, or a table of its own there.
    let needs = |name: &str| {
        entries.iter().any(|(path, _)| {
            let pairs = path.windows(2);
            pairs.into_iter().any(|pair| pair == ["dependencies", name])
        })
    };
    if needs("rocket") {
        return custom(0.8, 8000, "cargo run", files);
    }
    let servers = ["axum", "actix-web", "warp", "hyper", "poem", "tide"];
    let serves = servers.iter().any(|name| needs(name));
    custom(if serves { 0.8 } else { 0.5 }, 8080, "cargo run", files)
}

pub(super) fn java(project: &Project) -> Option<Found> {
    if let Some(manifest) = project.text("pom.xml") {
        let files = project.present(&["pom.xml"]);
        return if manifest.contains("spring-boot") {
            custom(0.85, 8080, "mvn spring-boot:run", files)
        } else {
            custom(0.5, 8080, "mvn compile exec:java", files)
        };
    }
    let names = ["build.gradle", "build.gradle.kts"];
    let manifest = names.iter().find_map(|name| project.text(name))?;
    let files = project.present(&names);
    let gradle = if project.has("gradlew") {
        "./gradlew"
    } else {
        "gradle"
    };
    if manifest.contains("spring-boot") || manifest.contains("springframework.boot") {
        custom(0.85, 8080, &format!("{gradle} bootRun"), files)
    } else {
        custom(0.5, 8080, &format!("{gradle} run"), files)
    }
}

pub(super) fn php(project: &Project) -> Option<Found> {
    let manifest = project.text("composer.json");
    let files = project.present(&["composer.json", "artisan", "index.php", "public/index.php"]);
    if project.has("artisan") || manifest.is_some_and(|text| text.contains("laravel/framework")) {
        let command = "php artisan serve --host 0.0.0.0 --port 8000";
        return custom(0.9, 8000, command, files);
    }
    if project.has("public/index.php") {
        return custom(0.7, 8000, "php -S 0.0.0.0:8000 -t public", files);
    }
    if project.has("index.php") {
        return custom(0.7, 8000, "php -S 0.0.0.0:8000", files);
    }
    manifest.and_then(|_| custom(0.4, 8000, "php -S 0.0.0.0:8000", files))
}

pub(super) fn ruby(project: &Project) -> Option<Found> {
    let manifest = project.text("Gemfile");
    let files = project.present(&["Gemfile", "config.ru", "app.rb", "config/application.rb"]);
    let gems = tokens(manifest.unwrap_or_default());
    // `gem "rails"` or `gem("rails")`.
    let needs = |name: &str| {
        let mut calls = gems.split(|token| *token == Token::Word("gem")).skip(1);
        calls.any(|call| match call {
            [Token::Text(gem), ..] | [Token::Mark('('), Token::Text(gem), ..] => *gem == name,
            _ => false,
        })
    };
    if needs("rails") || project.has("config/application.rb") {
        let command = "bundle exec rails server -b 0.0.0.0 -p 3000";
        return custom(0.9, 3000, command, files);
    }
    if needs("sinatra") && project.has("app.rb") {
        return custom(
            0.85,
            4567,
            "bundle exec ruby app.rb -o 0.0.0.0 -p 4567",
            files,
        );
    }
    if project.has("config.ru") {
        let command = "bundle exec rackup --host 0.0.0.0 --port 9292";
        return custom(0.75, 9292, command, files);
    }
    if project.has("app.rb") {
        return custom(0.4, 4567, "ruby app.rb", files);
    }
    manifest.and(None)
}

pub(super) fn pages(project: &Project) -> Option<Found> {
    let places = [
        ("index.html", 0.6, "python3 -m http.server 8000"),
        (
            "public/index.html",
            0.45,
            "python3 -m http.server 8000 -d public",
        ),
        (
            "dist/index.html",
            0.4,
            "python3 -m http.server 8000 -d dist",
        ),
        (
            "build/index.html",
            0.4,
            "python3 -m http.server 8000 -d build",
        ),
    ];
    let place = places.iter().find(|(page, ..)| project.has(page));
    place.map(|(page, confidence, command)| Found {
        framework: "static",
        confidence: *confidence,
        port: usual_port("static"),
        command: Some((*command).to_owned()),
        files: vec![(*page).to_owned()],
    })
}
