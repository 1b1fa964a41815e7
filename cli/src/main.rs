//! The `fleeks` binary: commands and composition only.
//!
//! Must never happen here: a decision that a crate could make; a container, record or connection
//! touched directly.

mod args;
mod client;
mod commands;
mod config;
mod doctor;
mod down;
mod faults;
mod keys;
mod report;
mod session;
mod show;
mod template;
mod trust;
mod up;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command, KeysCommand, RemoteArgs};
use crate::session::{Failure, Session};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = with_usage_as_in_help(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // Before anything can build a TLS configuration: one provider for the whole process.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        report::error("a TLS provider was already installed");
        return ExitCode::FAILURE;
    }
    let json = wants_json(&cli.command);
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => faults::end(&error, json),
    }
}

/// Each command's usage as it is in its help: clap would show options whose values come from the
/// environment as if they had to be given.
fn with_usage_as_in_help(mut command: clap::Command) -> clap::Command {
    fn fix(command: &mut clap::Command) {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").to_owned();
        *command = std::mem::take(command).override_usage(usage);
        command.get_subcommands_mut().for_each(fix);
    }
    command.build();
    fix(&mut command);
    command
}

/// Whether a script reads what is said.
fn wants_json(command: &Command) -> bool {
    match command {
        Command::Doctor(args) => args.json,
        Command::Template(args) => args.command.wants_json(),
        command => remote_of(command).is_some_and(|remote| remote.json),
    }
}

/// Where a command finds its platform; none for those that need none.
fn remote_of(command: &Command) -> Option<&RemoteArgs> {
    match command {
        Command::Keys(args) => Some(&args.remote),
        Command::Ws(args) => Some(&args.remote),
        Command::Exec(args) => Some(&args.remote),
        Command::Shell(args) => Some(&args.remote),
        Command::Logs(args) => Some(&args.remote),
        Command::Files(args) => Some(&args.remote),
        Command::Preview(args) => Some(&args.remote),
        Command::Hibernate(args) | Command::Wake(args) => Some(&args.remote),
        _ => None,
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Up(args) = command {
        return up::run(&args);
    }
    // Every other command is short and does one thing at a time.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the tokio runtime does not start")?
        .block_on(short(command))
}

async fn short(command: Command) -> anyhow::Result<ExitCode> {
    if let Some(remote) = remote_of(&command) {
        let session = Session::new(remote)?;
        return Ok(with_platform(&session, &command).await?);
    }
    let out = &mut std::io::stdout();
    match command {
        Command::Up(_) => anyhow::bail!("`up` is not a short command"),
        Command::Down(args) => return down::run(&args).await,
        Command::Doctor(args) => {
            let plan = doctor::Plan {
                prefix: args.prefix.unwrap_or(config::DEFAULT_PREFIX.into()),
                data_dir: args.data.or_default(),
                listeners: vec![
                    args.https.unwrap_or(config::DEFAULT_HTTPS),
                    args.http.unwrap_or(config::DEFAULT_HTTP),
                ],
            };
            return Ok(doctor::run(&plan, args.json).await);
        }
        Command::Trust(data) => trust::trust(&data.or_default(), out).await?,
        Command::Untrust(data) => trust::untrust(&data.or_default(), out).await?,
        Command::Ca(args) => trust::ca(&args.data.or_default(), &args.api_url, out)?,
        Command::Template(args) => return template::run(&args, out).await,
        Command::Completions { shell } => {
            // It would panic if the pipe broke.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fleeks", &mut script);
            out.write_all(&script)?;
        }
        _ => anyhow::bail!("the command is not known here"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn with_platform(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Ws(args) => commands::workspaces::run(session, &args.command).await,
        Command::Exec(args) => commands::exec::run(session, args).await,
        Command::Shell(args) => commands::shell::run(session, args).await,
        Command::Logs(args) => commands::logs::run(session, args).await,
        Command::Files(args) => commands::files::run(session, &args.command).await,
        Command::Preview(args) => commands::preview::run(session, args).await,
        Command::Hibernate(args) => commands::sleep::hibernate(session, &args.name).await,
        Command::Wake(args) => commands::sleep::wake(session, &args.name).await,
        Command::Keys(args) => {
            let (client, out) = (&session.client, &mut std::io::stdout());
            match &args.command {
                KeysCommand::Create { owner } => {
                    keys::create(client, owner.as_deref(), session.json, out).await?;
                }
                KeysCommand::List => keys::list(client, session.json, out).await?,
                KeysCommand::Revoke { id } => {
                    keys::revoke(client, id.as_str(), session.json, out).await?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::Usage("this command needs no platform".to_owned())),
    }
}
