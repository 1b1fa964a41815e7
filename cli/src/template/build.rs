//! `fleeks template build NAME…`: begins it through the API and watches.
//!
//! Must never happen here: an end that was not seen.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use fleet::id::TemplateName;
use fleet::timing;
use serde_json::{Value, json};

use super::{TEMPLATES, text};
use crate::client::encode;
use crate::faults::Faults;
use crate::session::{Failure, Session};

/// Builds them one after the other, and says how it goes. One that fails keeps none of the others
/// from it.
///
/// # Errors
/// Which are there is not known, or nobody reads what is said.
pub async fn run(
    session: &Session,
    names: &[TemplateName],
    all: bool,
    pull: bool,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let names: Vec<String> = if all {
        buildable(session).await?
    } else {
        names.iter().map(ToString::to_string).collect()
    };
    let mut faults = Faults::new(session.json);
    let mut built = Vec::new();
    for name in names {
        match build_one(session, &name, pull).await {
            Ok(info) => {
                if !session.json {
                    let what = match text(&info["dependencies"], "status") {
                        "none" => "needs nothing",
                        _ => "is ready",
                    };
                    writeln!(out, "{name} {what}")?;
                }
                built.push(info);
            }
            Err(failure) => faults.note("name", &name, &failure),
        }
    }
    if session.json {
        session.document(&json!({ "templates": built, "failed": faults.documents }))?;
    }
    Ok(faults.code())
}

async fn buildable(session: &Session) -> Result<Vec<String>, Failure> {
    let listed = session.get(TEMPLATES).await?;
    let templates = listed["templates"].as_array().cloned().unwrap_or_default();
    let able = |template: &&Value| {
        template["available"] == true && text(&template["dependencies"], "status") != "none"
    };
    let names = templates
        .iter()
        .filter(able)
        .map(|one| text(one, "name").to_owned());
    Ok(names.collect())
}

/// Says each new step, and at a terminal how long it takes. What there is at the end.
async fn build_one(session: &Session, name: &str, pull: bool) -> Result<Value, Failure> {
    let path = format!("{TEMPLATES}/{}", encode(name));
    let query = if pull { "?pull=true" } else { "" };
    let begun = format!("{path}/build{query}");
    let mut info = session.post(&begun, &Value::Null).await?;
    let mut told = String::new();
    loop {
        let dependencies = &info["dependencies"];
        match text(dependencies, "status") {
            "installing" => {}
            "failed" => return Err(Failure::Other(text(dependencies, "problem").to_owned())),
            _ => return Ok(info),
        }
        let step = text(dependencies, "step");
        if !session.json && (step != told || io::stderr().is_terminal()) {
            told = step.to_owned();
            let how_far = how_far(dependencies);
            crate::report::progress(&format!(
                "{name}: {step} ({how_far}{} s)",
                dependencies["seconds"]
            ));
        }
        tokio::time::sleep(timing::BUILD_LOOK).await;
        info = session.get(&path).await?;
    }
}

/// `12 of 45 MiB, `, where that is known.
fn how_far(dependencies: &Value) -> String {
    let mebibytes = |name: &str| dependencies[name].as_u64().map(|bytes| bytes >> 20);
    match (mebibytes("bytes_done"), mebibytes("bytes_total")) {
        (Some(done), Some(total)) => format!("{done} of {total} MiB, "),
        _ => String::new(),
    }
}
