//! `fleeks preview`: a workspace's address, printed or shown in a browser; links that open a private
//! one.

use std::io::Write as _;
use std::process::{ExitCode, Stdio};

use hyper::Method;
use serde_json::{Value, json};

use super::Outcome;
use crate::args::PreviewArgs;
use crate::client::encode;
use crate::session::{Failure, Session, workspace_path};
use crate::show::{field, plain, table};

/// Programs that show an address to a person.
const OPENERS: [&str; 3] = ["xdg-open", "open", "sensible-browser"];

/// Runs the command.
pub async fn run(session: &Session, args: &PreviewArgs) -> Outcome {
    if args.private || args.public {
        let visibility = if args.private { "private" } else { "public" };
        let path = workspace_path(&args.name) + "/access";
        let body = json!({ "visibility": visibility });
        session.client.call(Method::PUT, &path, Some(&body)).await?;
    }
    if let Some(link) = &args.revoke {
        revoke(session, &args.name, link).await?;
    } else if args.links {
        links(session, &args.name).await?;
    } else {
        let told = match args.share {
            true => shared(session, args).await?,
            false => plainly(session, args).await?,
        };
        let name = if args.http { "url_http" } else { "url" };
        let url = told[name].as_str().ok_or(Failure::Answer("such address"))?;
        match session.json {
            true => session.document(&told)?,
            false => writeln!(anstream::stdout(), "{}", plain(url))?,
        }
        if args.open {
            show(url)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The address that it has anyhow.
async fn plainly(session: &Session, args: &PreviewArgs) -> Result<Value, Failure> {
    let workspace = session.workspace(&args.name).await?;
    let address = |name| -> Option<String> {
        let url = workspace[name].as_str()?;
        match args.port {
            Some(port) => of_port(url, port),
            None => Some(url.to_owned()),
        }
    };
    Ok(json!({
        "project_id": args.name,
        "port": args.port,
        "url": address("preview_url"),
        "url_http": address("preview_url_http"),
    }))
}

/// One with a token, made now; never told again.
async fn shared(session: &Session, args: &PreviewArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    if let Some(port) = args.port {
        body["port"] = port.into();
    }
    if let Some(seconds) = args.lasts {
        body["expires_in_seconds"] = seconds.into();
    }
    if let Some(label) = &args.label {
        body["label"] = label.as_str().into();
    }
    session.post(&links_path(&args.name), &body).await
}

fn links_path(name: &str) -> String {
    workspace_path(name) + "/share-links"
}

async fn links(session: &Session, name: &str) -> Result<(), Failure> {
    let listed = session.get(&links_path(name)).await?;
    if session.json {
        return session.document(&listed);
    }
    let links = listed["share_links"]
        .as_array()
        .ok_or(Failure::Answer("share_links"))?;
    let row = |link: &Value| {
        vec![
            plain(field(link, "link_id")),
            link["port"]
                .as_u64()
                .map_or_else(|| "main".to_owned(), |port| port.to_string()),
            plain(field(link, "expires_at")),
            plain(field(link, "label")),
        ]
    };
    let rows: Vec<_> = links.iter().map(row).collect();
    table(
        &mut anstream::stdout(),
        &["LINK", "PORT", "EXPIRES", "LABEL"],
        &rows,
    )?;
    Ok(())
}

async fn revoke(session: &Session, name: &str, link: &str) -> Result<(), Failure> {
    let path = format!("{}/{}", links_path(name), encode(link));
    let revoked = session.delete(&path).await?;
    if session.json {
        return session.document(&revoked);
    }
    writeln!(anstream::stdout(), "{} is revoked", plain(link))?;
    Ok(())
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
