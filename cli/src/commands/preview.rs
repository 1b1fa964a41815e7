//! `fleeks preview`: a workspace's address, printed or shown in a browser.

use std::io::Write as _;
use std::process::{ExitCode, Stdio};

use serde_json::json;

use super::Outcome;
use crate::args::PreviewArgs;
use crate::session::{Failure, Session};
use crate::show::{field, plain};

/// Programs that show an address to a person.
const OPENERS: [&str; 3] = ["xdg-open", "open", "sensible-browser"];

/// Runs the command.
pub async fn run(session: &Session, args: &PreviewArgs) -> Outcome {
    let workspace = session.workspace(&args.name).await?;
    let name = if args.http {
        "preview_url_http"
    } else {
        "preview_url"
    };
    let url = field(&workspace, name);
    let url = match args.port {
        Some(port) => of_port(url, port).ok_or(Failure::Answer("preview_url"))?,
        None => url.to_owned(),
    };
    if url.is_empty() {
        return Err(Failure::Answer("address without TLS"));
    }
    if session.json {
        session.document(&json!({ "project_id": args.name, "url": url, "port": args.port }))?;
    } else {
        writeln!(anstream::stdout(), "{}", plain(&url))?;
    }
    if args.open {
        show(&url)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `https://3000--workspace-….domain/`.
fn of_port(url: &str, port: u16) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    Some(format!("{scheme}://{port}--{rest}"))
}

fn show(url: &str) -> Result<(), Failure> {
    for opener in OPENERS {
        let mut command = std::process::Command::new(opener);
        command
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if command.spawn().is_ok() {
            return Ok(());
        }
    }
    let names = OPENERS.join(", ");
    Err(Failure::Other(format!(
        "no browser here ({names}); the address is above"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_addresses_of_their_own() {
        let url = of_port("https://workspace-abc.fleeks.localhost:8443/", 3000);
        assert_eq!(
            url.as_deref(),
            Some("https://3000--workspace-abc.fleeks.localhost:8443/")
        );
        assert_eq!(of_port("nonsense", 1), None);
    }
}
