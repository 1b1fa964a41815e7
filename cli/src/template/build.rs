//! `fleeks template build NAME…`: begins it through the API and watches.
//!
//! Must never happen here: an end that was not seen.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use fleet::id::TemplateName;
use fleet::timing;
use hyper::Method;
use serde_json::Value;

use super::{TEMPLATES, client, text};
use crate::args::RemoteArgs;
use crate::client::{Client, encode};

/// Builds them one after the other, and says how it goes.
///
/// # Errors
/// The platform does not answer.
pub async fn run(
    names: &[TemplateName],
    all: bool,
    pull: bool,
    remote: &RemoteArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let client = client(remote)?;
    let names: Vec<String> = if all {
        buildable(&client).await?
    } else {
        names.iter().map(ToString::to_string).collect()
    };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match build_one(&client, &name, pull, remote.json, out).await {
            Ok(()) => {}
            Err(error) => {
                code = ExitCode::FAILURE;
                crate::report::error(&format!("{error:#}"));
            }
        }
    }
    Ok(code)
}

async fn buildable(client: &Client) -> anyhow::Result<Vec<String>> {
    let listed = client.call(Method::GET, TEMPLATES, None).await?;
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

/// Says each new step, and at a terminal how long it takes.
async fn build_one(
    client: &Client,
    name: &str,
    pull: bool,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let path = format!("{TEMPLATES}/{}", encode(name));
    let query = if pull { "?pull=true" } else { "" };
    let begun = format!("{path}/build{query}");
    let mut info = client.call(Method::POST, &begun, None).await?;
    let mut told = String::new();
    loop {
        let dependencies = &info["dependencies"];
        match text(dependencies, "status") {
            "installing" => {}
            "failed" => bail!("{}", text(dependencies, "problem")),
            status => {
                if as_json {
                    writeln!(out, "{info:#}")?;
                } else {
                    let what = if status == "none" {
                        "needs nothing"
                    } else {
                        "is ready"
                    };
                    writeln!(out, "{name} {what}")?;
                }
                return Ok(());
            }
        }
        let step = text(dependencies, "step");
        if !as_json && (step != told || io::stderr().is_terminal()) {
            told = step.to_owned();
            let how_far = how_far(dependencies);
            crate::report::progress(&format!(
                "{name}: {step} ({how_far}{} s)",
                dependencies["seconds"]
            ));
        }
        tokio::time::sleep(timing::BUILD_LOOK).await;
        info = client
            .call(Method::GET, &path, None)
            .await
            .context("while it was built")?;
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
