//! Templates as their users meet them: made, started by their own command, visited, changed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::curl::{Curl, Version};
use crate::workspace::{Workspace, text};
use crate::{World, wait};

/// An installation of dependencies, with everything else that goes on.
const INSTALLED: Duration = Duration::from_secs(400);
/// From the start of an app to its first 200, compilers included.
const ANSWERS: Duration = Duration::from_secs(180);

/// A change that was not noticed is saved again after this.
const SAVED_AGAIN: Duration = Duration::from_secs(10);

/// What a template's starter files do.
pub struct Starter {
    /// The template.
    pub template: &'static str,
    /// Below the preview's URL.
    pub path: &'static str,
    /// Is in the answer.
    pub says: &'static str,
    /// The file that says it; changing it changes the running app's answer.
    pub reloads: Option<&'static str>,
}

const fn starter(
    template: &'static str,
    path: &'static str,
    says: &'static str,
    reloads: Option<&'static str>,
) -> Starter {
    Starter {
        template,
        path,
        says,
        reloads,
    }
}

/// Every template with an app.
pub const STARTERS: [Starter; 17] = [
    starter("python", "/", "Hello from Python", None),
    starter("flask", "/", "Hello from Flask", Some("app.py")),
    starter("fastapi", "/", "Hello from FastAPI", Some("main.py")),
    starter(
        "django",
        "/",
        "Hello from Django",
        Some("site_app/views.py"),
    ),
    starter("node", "/", "Hello from Node.js", None),
    starter("typescript", "/", "Hello from ", Some("src/server.ts")),
    starter("express", "/", "Hello from Express", Some("server.js")),
    // What the browser's module loader asks for: the page itself never changes.
    starter(
        "react",
        "/src/App.js",
        "Hello from React",
        Some("src/App.js"),
    ),
    starter("vue", "/src/App.vue", "Hello from Vue", Some("src/App.vue")),
    starter(
        "svelte",
        "/src/App.svelte",
        "Hello from Svelte",
        Some("src/App.svelte"),
    ),
    starter("nextjs", "/", "Hello from Next.js", Some("app/page.js")),
    starter("static", "/", "It works", Some("index.html")),
    starter("go", "/", "Hello from Go", None),
    starter("rust", "/", "Hello from Rust", None),
    starter("java", "/", "Hello from Java", None),
    starter("php", "/", "Hello from PHP", Some("public/index.php")),
    starter("ruby", "/", "Hello from Ruby", None),
];

/// The starter of that template.
pub fn of(template: &str) -> Result<&'static Starter> {
    let found = STARTERS.iter().find(|starter| starter.template == template);
    found.with_context(|| format!("no starter {template}"))
}

/// What the API says of a template.
pub fn info(world: &World, template: &str) -> Result<Value> {
    world
        .api()?
        .get(&format!("/api/v1/templates/{template}"))?
        .ok()
}

/// Has its dependencies installed, if it has any.
pub fn install(world: &World, template: &str) -> Result<()> {
    let path = format!("/api/v1/templates/{template}");
    let begun = world.api()?.call("POST", &format!("{path}/build"), &[])?;
    begun.ok().with_context(|| format!("build {template}"))?;
    let mut failed = None;
    wait::until_true(&format!("{template} to be built"), INSTALLED, || {
        let info = info(world, template)?;
        let status = text(&info["dependencies"], "status")?;
        failed = (status == "failed").then(|| info["dependencies"].to_string());
        Ok(failed.is_some() || status == "ready" || status == "none")
    })?;
    failed.map_or(Ok(()), |why| Err(anyhow::anyhow!("{template}: {why}")))
}

impl Starter {
    /// Starts the app by the template's own command.
    pub fn run(&self, world: &World, workspace: &Workspace) -> Result<()> {
        let run = text(&info(world, self.template)?, "run")?;
        workspace.background(&run)?;
        Ok(())
    }

    /// Waits until the preview says `says`, through TLS.
    pub fn answers(&self, world: &World, workspace: &Workspace, says: &str) -> Result<()> {
        self.answers_after(world, workspace, says, |_| Ok(()))
    }

    /// The same, with `before` done before each look; it is told for how long it has been waited.
    fn answers_after(
        &self,
        world: &World,
        workspace: &Workspace,
        says: &str,
        mut before: impl FnMut(Duration) -> Result<()>,
    ) -> Result<()> {
        let url = format!("{}{}", workspace.preview_url()?, self.path);
        let (mut last, begun) = (String::new(), Instant::now());
        let answered = wait::until_true(&format!("{says:?} at {url}"), ANSWERS, || {
            before(begun.elapsed())?;
            let answer = Curl::new(world, Version::H2, &url)?.send()?;
            last = format!("{}: {}", answer.status, answer.text());
            Ok(answer.status == 200 && answer.text().contains(says))
        });
        answered.with_context(|| format!("{}: the last answer was {last}", self.template))
    }

    /// Changes what the app says, and waits until the running one says so.
    pub fn reloads(&self, world: &World, workspace: &Workspace) -> Result<()> {
        let Some(file) = self.reloads else {
            return Ok(());
        };
        let old = workspace.read(file)?;
        let new = old.replace(self.says, "Now it says otherwise: ");
        ensure!(new != old, "{file} does not say {:?}", self.says);
        // Saved again from time to time, as a user would: Django takes what it finds when it first
        // looks for what was loaded, and so misses a change between its start and that look.
        let mut saved = 0;
        self.answers_after(world, workspace, "Now it says otherwise", |waited| {
            if waited >= SAVED_AGAIN * saved {
                workspace.write(file, &new)?;
                saved += 1;
            }
            Ok(())
        })
    }
}
