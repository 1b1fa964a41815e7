//! Projects with a `package.json`, or with a server in JavaScript and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Found, Project, usual_port, vite};

/// A dependency that tells a framework; the first that is there wins.
struct Sign {
    dependency: &'static str,
    /// Must be there as well, unless empty.
    beside: &'static str,
    framework: &'static str,
    confidence: f64,
    port: u16,
    /// The script that a project of this kind has.
    script: &'static str,
    /// What is run when it has no such script.
    otherwise: &'static str,
}

const fn sign(
    dependency: &'static str,
    beside: &'static str,
    framework: &'static str,
    confidence: f64,
    port: u16,
    script: &'static str,
    otherwise: &'static str,
) -> Sign {
    Sign {
        dependency,
        beside,
        framework,
        confidence,
        port,
        script,
        otherwise,
    }
}

// What brings others with it stands before them: Next.js has React, SvelteKit has Vite.
const SIGNS: &[Sign] = &[
    sign("next", "", "nextjs", 0.95, 3000, "dev", "npx next dev"),
    sign("nuxt", "", "nuxt", 0.95, 3000, "dev", "npx nuxt dev"),
    sign("nuxt3", "", "nuxt", 0.95, 3000, "dev", "npx nuxt dev"),
    sign(
        "@sveltejs/kit",
        "",
        "sveltekit",
        0.95,
        5173,
        "dev",
        "npx vite dev",
    ),
    sign(
        "@remix-run/dev",
        "vite",
        "remix",
        0.95,
        5173,
        "dev",
        "npx remix vite:dev",
    ),
    sign(
        "@remix-run/dev",
        "",
        "remix",
        0.95,
        3000,
        "dev",
        "npx remix dev",
    ),
    sign(
        "@remix-run/react",
        "",
        "remix",
        0.9,
        3000,
        "dev",
        "npx remix dev",
    ),
    sign("astro", "", "astro", 0.95, 4321, "dev", "npx astro dev"),
    sign(
        "@angular/core",
        "",
        "angular",
        0.95,
        4200,
        "start",
        "npx ng serve",
    ),
    sign("vue", "vite", "vue_vite", 0.95, 5173, "dev", "npx vite"),
    sign("svelte", "vite", "svelte", 0.95, 5173, "dev", "npx vite"),
    sign("react", "vite", "react_vite", 0.95, 5173, "dev", "npx vite"),
    sign(
        "react-scripts",
        "",
        "react_cra",
        0.95,
        3000,
        "start",
        "npx react-scripts start",
    ),
    sign(
        "@vue/cli-service",
        "",
        "vue_vite",
        0.7,
        8080,
        "serve",
        "npx vue-cli-service serve",
    ),
    sign("svelte", "", "svelte", 0.7, 8080, "dev", "npx rollup -c -w"),
    sign("express", "", "express", 0.85, 3000, "start", ""),
    sign("fastify", "", "custom", 0.7, 3000, "start", ""),
    sign("@nestjs/core", "", "custom", 0.7, 3000, "start", ""),
    sign("koa", "", "custom", 0.7, 3000, "start", ""),
    sign("hono", "", "custom", 0.7, 3000, "start", ""),
    sign("@hapi/hapi", "", "custom", 0.7, 3000, "start", ""),
    sign("vite", "", "custom", 0.6, 5173, "dev", "npx vite"),
];

/// Configuration files of the frameworks, which make us surer.
const CONFIGS: &[(&str, &[&str])] = &[
    (
        "nextjs",
        &["next.config.js", "next.config.mjs", "next.config.ts"],
    ),
    ("nuxt", &["nuxt.config.js", "nuxt.config.ts"]),
    ("sveltekit", &["svelte.config.js", "svelte.config.ts"]),
    ("svelte", &["svelte.config.js", "rollup.config.js"]),
    ("remix", &["remix.config.js"]),
    (
        "astro",
        &["astro.config.mjs", "astro.config.js", "astro.config.ts"],
    ),
    ("angular", &["angular.json"]),
];

/// Servers without a manifest, the likeliest first.
const SERVERS: &[&str] = &["server.js", "app.js", "index.js", "main.js"];

pub(super) fn find(project: &Project) -> Option<Found> {
    let Some(manifest) = project.text("package.json") else {
        return without_manifest(project);
    };
    let manifest: Value = serde_json::from_str(manifest).unwrap_or(Value::Null);
    let dependencies = dependencies(&manifest);
    let has = |name: &str| dependencies.contains(name);
    let sign = SIGNS
        .iter()
        .find(|sign| has(sign.dependency) && (sign.beside.is_empty() || has(sign.beside)));
    let mut found = match sign {
        Some(sign) => with_sign(project, &manifest, sign),
        None => by_scripts(project, &manifest)?,
    };
    let configs = CONFIGS.iter().find(|(of, _)| *of == found.framework);
    let mut configs = project.present(configs.map_or(&[][..], |(_, names)| names));
    if sign.is_some_and(|sign| sign.port == usual_port("react_vite")) {
        configs.extend(project.present(vite::CONFIGS));
    }
    if !configs.is_empty() {
        found.confidence = (found.confidence + 0.04).min(0.99);
    }
    found.files = vec!["package.json".to_owned()];
    found.files.extend(configs);
    Some(found)
}

fn with_sign(project: &Project, manifest: &Value, sign: &Sign) -> Found {
    let scripts = [sign.script, "dev", "start", "serve"];
    let script = scripts.iter().find_map(|name| script(manifest, name));
    let command = match script {
        Some((name, _)) => Some(run_script(project, name)),
        None if !sign.otherwise.is_empty() => Some(sign.otherwise.to_owned()),
        None => start_file(project).map(|file| format!("node {file}")),
    };
    let told = script.and_then(|(_, line)| told_port(line));
    // Vite takes its command's word over its configuration's.
    let is_vite = sign.port == usual_port("react_vite");
    let told = told.or_else(|| is_vite.then(|| vite::port(project))?);
    Found {
        framework: sign.framework,
        confidence: sign.confidence,
        port: told.unwrap_or(sign.port),
        command: command.map(|command| installed_first(project, manifest, command)),
        files: Vec::new(),
    }
}

fn by_scripts(project: &Project, manifest: &Value) -> Option<Found> {
    let script = ["dev", "start", "serve"]
        .iter()
        .find_map(|name| script(manifest, name));
    let (command, port) = match script {
        Some((name, line)) => (run_script(project, name), told_port(line)),
        None => (format!("node {}", start_file(project)?), None),
    };
    Some(Found {
        framework: "custom",
        confidence: 0.5,
        port: port.unwrap_or(3000),
        command: Some(installed_first(project, manifest, command)),
        files: Vec::new(),
    })
}

fn without_manifest(project: &Project) -> Option<Found> {
    let file = start_file(project)?;
    let text = project.text(file).unwrap_or_default();
    let express = text.contains("require('express')")
        || text.contains("require(\"express\")")
        || text.contains("from 'express'")
        || text.contains("from \"express\"");
    let serves = express || text.contains("createServer") || text.contains(".listen(");
    Some(Found {
        framework: if express { "express" } else { "custom" },
        confidence: match (express, serves) {
            (true, _) => 0.6,
            (_, true) => 0.5,
            _ => 0.2,
        },
        port: usual_port("express"),
        command: Some(format!("node {file}")),
        files: vec![file.to_owned()],
    })
}

fn start_file(project: &Project) -> Option<&'static str> {
    SERVERS.iter().copied().find(|name| project.has(name))
}

fn dependencies(manifest: &Value) -> BTreeSet<&str> {
    ["dependencies", "devDependencies", "peerDependencies"]
        .iter()
        .filter_map(|kind| manifest.get(kind)?.as_object())
        .flat_map(|names| names.keys().map(String::as_str))
        .collect()
}

fn script<'a>(manifest: &'a Value, name: &'a str) -> Option<(&'a str, &'a str)> {
    let line = manifest.get("scripts")?.get(name)?.as_str()?;
    Some((name, line))
}

/// The name is one of ours, never the manifest's.
fn run_script(project: &Project, name: &str) -> String {
    let manager = manager(project);
    match name {
        "start" => format!("{manager} start"),
        _ => format!("{manager} run {name}"),
    }
}

fn manager(project: &Project) -> &'static str {
    if project.has("pnpm-lock.yaml") {
        "pnpm"
    } else if project.has("yarn.lock") {
        "yarn"
    } else {
        "npm"
    }
}

/// Something is needed, or locked, and is not there: nobody has installed yet.
fn installed_first(project: &Project, manifest: &Value, command: String) -> String {
    let locked = ["package-lock.json", "yarn.lock", "pnpm-lock.yaml"];
    let locked = locked.iter().any(|name| project.has(name));
    let needs = !is_in_template(project, manifest);
    if !project.has("node_modules") && (locked || needs) {
        format!("{} install && {command}", manager(project))
    } else {
        command
    }
}

/// What `npm install` would install, and which versions of it.
fn ranges(manifest: &Value) -> BTreeMap<&str, &Value> {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .filter_map(|kind| manifest.get(kind)?.as_object())
        .flat_map(|ranges| ranges.iter().map(|(name, range)| (name.as_str(), range)))
        .collect()
}

/// The workspace's template has all of it already, in `/node_modules`, which is not in the volume.
fn is_in_template(project: &Project, manifest: &Value) -> bool {
    let had = project.installed.as_ref().map(ranges).unwrap_or_default();
    let needed = ranges(manifest);
    let mut needed = needed.iter();
    needed.all(|(name, range)| had.get(name) == Some(range))
}

/// `--port 4000`, `--port=4000`, `-p 4000` or `PORT=4000` in a script.
fn told_port(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace().peekable();
    while let Some(word) = words.next() {
        let number = match word {
            "--port" | "-p" => words.peek().copied(),
            _ => ["--port=", "-p=", "PORT="]
                .iter()
                .find_map(|prefix| word.strip_prefix(prefix)),
        };
        let number = number.and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|number| *number != 0) {
            return Some(number);
        }
    }
    None
}
