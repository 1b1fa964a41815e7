use super::*;
use serde_json::Value;

#[test]
fn a_configuration_makes_surer() {
    let text = manifest("next react", "dev:next dev");
    let without = detect(&project(&[("package.json", &text)]));
    let with = detect(&project(&[("package.json", &text), ("next.config.js", "")]));
    assert!(with.confidence > without.confidence && with.confidence < 1.0);
    assert_eq!(with.files, ["package.json", "next.config.js"]);
}

#[test]
fn the_package_manager_is_the_project_s_own() {
    let text = manifest("vue vite", "dev:vite");
    let command = |files: &[(&str, &str)]| {
        let mut all = vec![("package.json", text.as_str())];
        all.extend_from_slice(files);
        detect(&project(&all)).command.unwrap()
    };
    assert_eq!(
        command(&[("yarn.lock", "")]),
        "yarn install && yarn run dev"
    );
    assert_eq!(
        command(&[("pnpm-lock.yaml", ""), ("node_modules", "")]),
        "pnpm run dev"
    );
    assert_eq!(
        command(&[("package-lock.json", "")]),
        "npm install && npm run dev"
    );
    assert_eq!(command(&[]), "npm install && npm run dev");
    assert_eq!(command(&[("node_modules", "")]), "npm run dev");
}

#[test]
fn what_is_needed_is_installed_unless_the_template_has_it() {
    let command = |text: &str| detect(&project(&[("package.json", text)])).command;
    let install = |script: &str| Some(format!("npm install && {script}"));
    let none = r#"{"scripts": {"dev": "node --watch x.js"}, "dependencies": {}}"#;
    assert_eq!(command(none).as_deref(), Some("npm run dev"));
    let optional = none.replace("dependencies\": {}", "devDependencies\": {\"x\": \"1\"}");
    assert_eq!(command(&optional), install("npm run dev"));

    let templates = pool_backend::template::Templates::load(None).unwrap();
    let mut starters = 0;
    for template in templates.all() {
        let mut files = template.files.iter();
        let Some(file) = files.find(|file| file.path.as_os_str() == "package.json") else {
            continue;
        };
        starters += 1;
        let text = std::str::from_utf8(&file.content).unwrap();
        let name = &template.name;
        let plain = command(text).unwrap();
        let plain = plain.trim_start_matches("npm install && ").to_owned();
        assert!(
            ["npm run dev", "npm start"].contains(&plain.as_str()),
            "{name}: {plain}"
        );
        let Some(needs) = &template.dependencies else {
            continue;
        };
        let had = needs.files.iter().find(|file| file.path == *"package.json");
        let had: Value = serde_json::from_slice(&had.unwrap().content).unwrap();
        let inside = |text: &str| {
            let mut project = project(&[("package.json", text)]);
            project.installed = Some(had.clone());
            detect(&project).command
        };
        assert_eq!(inside(text).as_ref(), Some(&plain), "{name}");
        // Changed scripts need nothing new; another package or version does.
        let script = text.replace("\"dev\": \"", "\"more\": \"x\", \"dev\": \"");
        assert_eq!(inside(&script).as_ref(), Some(&plain), "{name}");
        let more = text.replacen("ependencies\": {", "ependencies\": {\"x\": \"1\",", 1);
        assert_eq!(inside(&more), install(&plain), "{name}");
        let version = text.replace("\"^", "\"=");
        assert_eq!(inside(&version), install(&plain), "{name}");
    }
    assert!(starters > 5, "{starters}");
}

#[test]
fn a_mark_before_the_manifest_is_no_matter() {
    let text = format!("\u{feff}{}", manifest("vue vite", "dev:vite"));
    let found = detect(&project(&[("package.json", &text)]));
    assert_eq!(found.framework, "vue_vite");
}

#[test]
fn vite_s_configuration_has_a_port() {
    let port = |script: &str, config: &str| {
        let text = manifest("vue vite", script);
        let found = detect(&project(&[
            ("package.json", &text),
            ("vite.config.ts", config),
        ]));
        assert_eq!(found.files, ["package.json", "vite.config.ts"]);
        found.port
    };
    let config = "export default defineConfig({ server: { port: 4000 } })";
    assert_eq!(port("dev:vite", config), 4000);
    assert_eq!(port("dev:vite --port 4444", config), 4444);
    assert_eq!(port("dev:vite", "export default {}"), 5173);
}
