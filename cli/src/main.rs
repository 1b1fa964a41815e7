//! The `fleeks` binary: commands and composition only.
//!
//! Must never happen here: a decision that a crate could make; a container, record or connection
//! touched directly.

mod args;
mod client;
mod config;
mod doctor;
mod down;
mod keys;
mod report;
mod trust;
mod up;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::args::{Cli, Command, KeysCommand};
use crate::client::Client;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before anything can build a TLS configuration: one provider for the whole process.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        report::error("a TLS provider was already installed");
        return ExitCode::FAILURE;
    }
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            report::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
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
        Command::Keys(args) => {
            let remote = &args.remote;
            let key = match &remote.key {
                Some(key) => key.clone(),
                None => Client::read_key(&remote.data.or_default())?,
            };
            let client = Client::new(&remote.api, key)?;
            match &args.command {
                KeysCommand::Create { owner } => {
                    keys::create(&client, owner.as_deref(), remote.json, out).await?;
                }
                KeysCommand::List => keys::list(&client, remote.json, out).await?,
                KeysCommand::Revoke { id } => {
                    keys::revoke(&client, id.as_str(), remote.json, out).await?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
