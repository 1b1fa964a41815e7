//! `fleeks template list | check | build | prune`: what workspaces start from. Listing, building and
//! pruning go through the API of a running `fleeks up`; checking reads files only, and the Debian root is made
//! in the data dir, running or not.
//!
//! Must never happen here: a template judged by other rules than those of the engine.

mod build;
mod check;
mod debian;
mod prune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use fleet::id::TemplateName;
use serde_json::Value;

use crate::args::RemoteArgs;
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
        /// For scripts: one JSON document on standard output
        #[arg(long)]
        json: bool,
    },
    /// Take away layers, images and roots that no template and no container uses any more
    Prune {
        /// Only say what would go
        #[arg(long, short = 'n')]
        dry_run: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Install what templates need now, not with their first workspace: images, dependencies
    #[command(after_help = BUILD_EXAMPLES)]
    Build {
        /// Which
        #[arg(required_unless_present_any = ["all", "root"], value_name = "TEMPLATE")]
        names: Vec<TemplateName>,
        /// All that need something and can be used here
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Ask the registry again where an image's name leads to
        #[arg(long)]
        pull: bool,
        /// Make a root file system in the data dir, for templates that do not use the machine's
        #[arg(long, value_name = "ROOT", conflicts_with_all = ["names", "all", "pull"])]
        root: Option<RootArg>,
        /// What the root has; repeatable [default: all languages, compilers, git, curl]
        #[arg(long, value_name = "LANGUAGE", value_delimiter = ',', requires = "root", value_parser = debian::language)]
        language: Vec<&'static pool_backend::template::language::Language>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// `--root`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RootArg {
    /// This machine's release of Debian, from its own mirror, by mmdebstrap
    Debian,
}

const BUILD_EXAMPLES: &str = "\
Examples:
  fleeks template build react flask          their dependencies
  fleeks template build web --pull           the image of `web`, as its tag stands now
  fleeks template build --root debian        a Debian root with every language
  fleeks template build --root debian --language python,nodejs";

impl TemplateCommand {
    /// Whether a script reads what is said.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Check { json, .. } => *json,
            Self::List { remote } | Self::Prune { remote, .. } | Self::Build { remote, .. } => {
                remote.json
            }
        }
    }
}

/// Does it. Exit code 1 when a template is wrong.
///
/// # Errors
/// For people; a [`Failure`] of what speaks with a platform.
pub async fn run(args: &TemplateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        TemplateCommand::List { remote } => list(&Session::new(remote)?, out).await?,
        TemplateCommand::Check { directories, json } => {
            return check::run(directories, *json, out);
        }
        TemplateCommand::Prune { dry_run, remote } => {
            prune::run(&Session::new(remote)?, *dry_run, out).await?;
        }
        TemplateCommand::Build {
            root: Some(RootArg::Debian),
            language,
            remote,
            ..
        } => return debian::run(&remote.data.or_default(), language, remote.json, out).await,
        TemplateCommand::Build {
            names,
            all,
            pull,
            remote,
            ..
        } => {
            let session = Session::new(remote)?;
            return Ok(build::run(&session, names, *all, *pull, out).await?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(session: &Session, out: &mut impl Write) -> Result<(), Failure> {
    let listed = session.get(TEMPLATES).await?;
    if session.json {
        return session.document(&listed);
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

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("?")
}
