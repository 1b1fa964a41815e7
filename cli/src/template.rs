//! `fleeks template list | check | build`: what workspaces start from. Listing and building go
//! through the API of a running `fleeks up`; checking reads files only.
//!
//! Must never happen here: a template judged by other rules than those of the engine.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use fleet::id::TemplateName;
use fleet::timing;
use hyper::Method;
use pool_backend::template::{self, RootSource, Template};
use serde_json::Value;

use crate::args::RemoteArgs;
use crate::client::{Client, encode};
use crate::session::{Failure, Session};

const TEMPLATES: &str = "/api/v1/templates";

/// Options of `fleeks template`.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TemplateCommand,
}

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Show all templates, and what those that cannot be used here lack
    List {
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Check template files; a directory is one template or holds several
    Check {
        /// Directories with a template.toml, or with such directories
        #[arg(required = true, value_name = "DIR")]
        directories: Vec<PathBuf>,
    },
    /// Install the dependencies of templates now, not with their first workspace
    Build {
        /// Which
        #[arg(required_unless_present = "all", value_name = "TEMPLATE")]
        names: Vec<TemplateName>,
        /// All that have dependencies and can be used here
        #[arg(long, conflicts_with = "names")]
        all: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Does it. Exit code 1 when a template is wrong or could not be built.
///
/// # Errors
/// For people.
pub async fn run(args: &TemplateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        TemplateCommand::List { remote } => list(remote, out).await?,
        TemplateCommand::Check { directories } => return check(directories, out),
        TemplateCommand::Build { names, all, remote } => {
            return build(names, *all, remote, out).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn client(remote: &RemoteArgs) -> Result<Client, Failure> {
    Ok(Session::new(remote)?.client)
}

async fn list(remote: &RemoteArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let listed = client(remote)?.call(Method::GET, TEMPLATES, None).await?;
    if remote.json {
        writeln!(out, "{listed:#}")?;
        return Ok(());
    }
    for template in listed["templates"].as_array().into_iter().flatten() {
        let name = text(template, "name");
        if template["available"] == true {
            writeln!(
                out,
                "{name:12} {:22} {:10} {}",
                languages(template),
                dependencies(template),
                text(template, "description"),
            )?;
        } else {
            let reason = text(template, "unavailable_reason");
            writeln!(out, "{name:12} not here: {reason}")?;
            writeln!(out, "{:12} {}", "", text(template, "fix"))?;
        }
    }
    Ok(())
}

/// With their versions, where they are known.
fn languages(template: &Value) -> String {
    let versions = &template["language_versions"];
    let names = template["languages"].as_array().into_iter().flatten();
    let named = names.filter_map(Value::as_str).map(|name| {
        let version = versions[name].as_str();
        version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
    });
    named.collect::<Vec<_>>().join(", ")
}

fn dependencies(template: &Value) -> &str {
    match text(&template["dependencies"], "status") {
        "none" => "",
        "ready" => "installed",
        "missing" => "on demand",
        other => other,
    }
}

fn check(directories: &[PathBuf], out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for directory in directories {
        for checked in template::check(directory)? {
            match checked {
                Ok(template) => writeln!(out, "ok      {}", summary(&template))?,
                Err(wrong) => {
                    code = ExitCode::FAILURE;
                    writeln!(out, "wrong   {}: {}", wrong.template, wrong.problem)?;
                }
            }
        }
    }
    Ok(code)
}

fn summary(template: &Template) -> String {
    let root = match &template.root {
        RootSource::Any => "host or Debian root".to_owned(),
        RootSource::Host => "host".to_owned(),
        RootSource::Debian => "Debian root".to_owned(),
        RootSource::Directory(path) => path.display().to_string(),
        RootSource::Image(reference) => reference.clone(),
    };
    let installs = template
        .dependencies
        .as_ref()
        .map_or("", |_| ", installs dependencies");
    let files = template.files.len();
    format!("{}: {root}, {files} starter files{installs}", template.name)
}

async fn build(
    names: &[TemplateName],
    all: bool,
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
        match build_one(&client, &name, remote.json, out).await {
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
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let path = format!("{TEMPLATES}/{}", encode(name));
    let begun = format!("{path}/build");
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
                        "has no dependencies"
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
            crate::report::progress(&format!("{name}: {step} ({} s)", dependencies["seconds"]));
        }
        tokio::time::sleep(timing::BUILD_LOOK).await;
        info = client
            .call(Method::GET, &path, None)
            .await
            .context("while it was built")?;
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("?")
}
