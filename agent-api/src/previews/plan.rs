//! What a call to start a preview means, given what the project is. Pure.
//!
//! The SDK sends `framework: custom` and `port: 3000` when its caller said neither; the two together
//! count as unsaid. A command that is already at work is not started a second time: what listens is
//! shown.
//!
//! Must never happen here: a command from a file's content; see `detect`.

use std::collections::BTreeMap;

use pool_backend::workspaces::PreviewWish;

use super::StartPreview;
use super::detect::{FRAMEWORKS, Found, usual_port};
use crate::Problem;
use crate::input::within;

/// What the SDK sends for "no port was said".
const UNSAID_PORT: u16 = 3000;
/// From here on the files are believed before the template is.
const SURE: f64 = 0.5;
/// Where the control port begins to matter: never shown.
const PORT_MAX: u64 = 65_535;
const PATH_MAX: usize = 1000;

/// A call, checked.
#[derive(Debug)]
pub(super) struct Asked {
    framework: String,
    port: u16,
    command: Option<String>,
    environment: BTreeMap<String, String>,
    health_path: String,
    pub(super) auto_detect: bool,
}

/// What is known of the project.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// By its files, if anybody wanted to know.
    pub(super) found: Option<Found>,
    /// That is what its template's own files would give: nothing else was made of it yet.
    pub(super) is_as_made: bool,
    /// What its template says starts its app, and where that listens.
    pub(super) template: Option<(String, Option<u16>)>,
    /// Ports on which something listens already.
    pub(super) listening: Vec<u16>,
}

impl Asked {
    pub(super) fn new(body: StartPreview) -> Result<Self, Problem> {
        let framework = body.framework.unwrap_or_else(|| "custom".to_owned());
        if !FRAMEWORKS.contains(&framework.as_str()) {
            let known = FRAMEWORKS.join(", ");
            return Err(Problem::invalid(format!(
                "framework must be one of {known}"
            )));
        }
        let port = within(
            "port",
            body.port.unwrap_or(UNSAID_PORT.into()),
            1..=PORT_MAX,
        )?;
        let port = u16::try_from(port).unwrap_or(UNSAID_PORT);
        if port == pool_backend::CONTROL_PORT {
            return Err(Problem::invalid(format!(
                "port {port} is not available to apps"
            )));
        }
        let health_path = body.health_check_path.unwrap_or_else(|| "/".to_owned());
        let plain = |byte: u8| byte.is_ascii_graphic();
        if !health_path.starts_with('/')
            || health_path.len() > PATH_MAX
            || !health_path.bytes().all(plain)
        {
            return Err(Problem::invalid(
                "health_check_path must begin with '/' and have no spaces; encode what is not ASCII",
            ));
        }
        let command = body.command.filter(|command| !command.trim().is_empty());
        Ok(Self {
            framework,
            port,
            command,
            environment: body.env_vars.unwrap_or_default(),
            health_path,
            auto_detect: body.auto_detect.unwrap_or(true),
        })
    }

    /// It would start an app of the files' or the template's, unless somebody else's listens.
    pub(super) fn waits_for_others(&self, listening: &[u16]) -> bool {
        let guesses = self.command.is_none() && self.auto_detect;
        guesses && !self.is_at_work(listening)
    }

    fn is_at_work(&self, listening: &[u16]) -> bool {
        let (port, guessed) = self.wanted_port();
        listening.contains(&port) || (guessed && !listening.is_empty())
    }

    /// And whether it is only a guess.
    fn wanted_port(&self) -> (u16, bool) {
        if self.leaves_port_open() {
            return (UNSAID_PORT, true);
        }
        // A framework that was named, with the SDK's own port: where such apps usually are.
        let usual = self.auto_detect && self.framework != "custom" && self.port == UNSAID_PORT;
        let port = if usual {
            usual_port(&self.framework)
        } else {
            self.port
        };
        (port, false)
    }

    fn leaves_port_open(&self) -> bool {
        self.auto_detect && self.framework == "custom" && self.port == UNSAID_PORT
    }
}

/// See the module.
pub(super) fn plan(asked: Asked, facts: Facts) -> PreviewWish {
    let open = asked.leaves_port_open();
    let found = facts.found.filter(|found| found.confidence > 0.0);
    let (mut port, mut port_guessed) = asked.wanted_port();
    let at_work = asked.is_at_work(&facts.listening);
    let sure = found.as_ref().filter(|found| found.confidence >= SURE);
    let auto_detected = asked.framework == "custom" && sure.is_some();
    let framework = match sure {
        Some(found) if auto_detected => found.framework.to_owned(),
        _ => asked.framework,
    };
    let mut command = asked.command;
    if command.is_some() {
        if let (true, Some(found)) = (open, sure) {
            port = found.port;
        }
    } else if asked.auto_detect {
        // The template knows better how its own app is run, unless it is wanted at another port.
        let fits = |listens: &Option<u16>| open || *listens == Some(port);
        let template = facts
            .template
            .filter(|(_, listens)| sure.is_none() || (facts.is_as_made && fits(listens)));
        if at_work {
            // Whoever started it goes on doing so.
        } else if let Some((run, listens)) = template {
            if let (true, Some(listens)) = (open, listens) {
                port = listens;
            }
            command = Some(run);
        } else if let Some(found) = found {
            if open {
                (port, port_guessed) = (found.port, true);
            }
            command = command_at(&found, port);
        }
    }
    PreviewWish {
        port,
        port_guessed,
        framework,
        auto_detected,
        command,
        environment: asked.environment.into_iter().collect(),
        health_path: asked.health_path,
    }
}

/// The command that was found, told to listen at `port`. `PORT` is in its environment anyway.
fn command_at(found: &Found, port: u16) -> Option<String> {
    let command = found.command.as_ref()?;
    if port == found.port {
        return Some(command.clone());
    }
    let usual = found.port.to_string();
    if command.contains(&usual) {
        return Some(command.replace(&usual, &port.to_string()));
    }
    let deaf = [
        "react_vite",
        "vue_vite",
        "svelte",
        "sveltekit",
        "angular",
        "astro",
    ];
    if deaf.contains(&found.framework) {
        let dashes = if command.contains("npx ") { "" } else { " --" };
        return Some(format!("{command}{dashes} --port {port}"));
    }
    Some(command.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Asked {
        Asked::new(serde_json::from_str(body).unwrap()).unwrap()
    }

    /// As the SDK sends it when nothing was said.
    const UNSAID: &str =
        r#"{"framework":"custom","port":3000,"health_check_path":"/","auto_detect":true}"#;

    fn found(framework: &'static str, confidence: f64, port: u16, command: &str) -> Found {
        Found {
            framework,
            confidence,
            port,
            command: Some(command.to_owned()),
            files: Vec::new(),
        }
    }

    fn planned(body: &str, facts: Facts) -> (String, u16, bool, Option<String>) {
        let wish = plan(asked(body), facts);
        (wish.framework, wish.port, wish.port_guessed, wish.command)
    }

    #[test]
    fn who_guesses_waits_for_what_others_started() {
        let waits = |body: &str, listening: &[u16]| asked(body).waits_for_others(listening);
        assert!(waits(UNSAID, &[]) && !waits(UNSAID, &[8000]));
        assert!(waits(r#"{"port":8000}"#, &[3000]) && !waits(r#"{"port":8000}"#, &[8000]));
        assert!(!waits(r#"{"framework":"flask"}"#, &[5000]));
        assert!(!waits(r#"{"port":8000,"command":"./run"}"#, &[]));
        assert!(!waits(r#"{"port":8000,"auto_detect":false}"#, &[]));
    }

    #[test]
    fn what_was_not_said_is_found() {
        let flask = || Some(found("flask", 0.9, 5000, "flask run --port 5000"));
        let facts = Facts {
            found: flask(),
            ..Facts::default()
        };
        let expected = (
            "flask".to_owned(),
            5000,
            true,
            Some("flask run --port 5000".to_owned()),
        );
        assert_eq!(planned(UNSAID, facts), expected);
        let facts = Facts {
            found: flask(),
            ..Facts::default()
        };
        let told = r#"{"framework":"flask","port":8123}"#;
        let expected = (
            "flask".to_owned(),
            8123,
            false,
            Some("flask run --port 8123".to_owned()),
        );
        assert_eq!(planned(told, facts), expected);
    }

    #[test]
    fn what_was_said_counts() {
        let facts = Facts {
            found: Some(found("flask", 0.9, 5000, "flask run")),
            is_as_made: false,
            template: Some(("python main.py".to_owned(), Some(8000))),
            listening: vec![3000],
        };
        let body = r#"{"framework":"custom","port":4000,"command":"./run","auto_detect":false}"#;
        let expected = ("custom".to_owned(), 4000, false, Some("./run".to_owned()));
        assert_eq!(
            planned(
                body,
                Facts {
                    found: None,
                    ..facts
                }
            ),
            expected
        );
    }

    #[test]
    fn the_template_knows_where_the_files_say_little() {
        let facts = Facts {
            found: Some(found("custom", 0.25, 8000, "python app.py")),
            is_as_made: false,
            template: Some(("python main.py".to_owned(), Some(8000))),
            listening: Vec::new(),
        };
        let expected = (
            "custom".to_owned(),
            8000,
            true,
            Some("python main.py".to_owned()),
        );
        assert_eq!(planned(UNSAID, facts), expected);
    }

    #[test]
    fn what_listens_already_is_not_started_again() {
        let facts = Facts {
            found: Some(found("flask", 0.9, 5000, "flask run")),
            is_as_made: false,
            template: None,
            listening: vec![5000],
        };
        assert_eq!(planned(UNSAID, facts).3, None);
        let nothing = planned(UNSAID, Facts::default());
        assert_eq!(nothing, ("custom".to_owned(), 3000, true, None));
    }

    #[test]
    fn a_template_s_own_app_is_run_as_the_template_says() {
        let facts = |is_as_made| Facts {
            found: Some(found("flask", 0.9, 5000, "flask run")),
            is_as_made,
            template: Some(("flask run --debug".to_owned(), Some(5000))),
            listening: Vec::new(),
        };
        let made = planned(UNSAID, facts(true));
        assert_eq!(
            (made.1, made.3.as_deref()),
            (5000, Some("flask run --debug"))
        );
        let changed = planned(UNSAID, facts(false));
        assert_eq!((changed.1, changed.3.as_deref()), (5000, Some("flask run")));
        let elsewhere = r#"{"framework":"flask","port":4000,"auto_detect":true}"#;
        assert_ne!(
            planned(elsewhere, facts(true)).3.as_deref(),
            Some("flask run --debug")
        );
    }

    #[test]
    fn dev_servers_that_do_not_look_at_the_environment_are_told() {
        let vite = found("react_vite", 0.9, 5173, "npm run dev");
        assert_eq!(
            command_at(&vite, 4000).unwrap(),
            "npm run dev -- --port 4000"
        );
        let next = found("nextjs", 0.9, 3000, "npm run dev");
        assert_eq!(command_at(&next, 4000).unwrap(), "npm run dev");
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [
            r#"{"port":0}"#,
            r#"{"port":65536}"#,
            r#"{"port":64999}"#,
            r#"{"framework":"cobol"}"#,
            r#"{"health_check_path":"x"}"#,
            r#"{"health_check_path":"/ HTTP/1.1\r\nX: y"}"#,
        ] {
            let body = serde_json::from_str(body).unwrap();
            assert_eq!(Asked::new(body).unwrap_err().status().as_u16(), 422);
        }
    }
}
