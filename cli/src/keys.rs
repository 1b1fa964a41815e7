//! `fleeks keys create | list | revoke`: through the API, with a key of the first owner.

use std::io::Write;

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Client, encode};
use crate::session::Failure;

const KEYS: &str = "/api/v1/keys";

/// Makes a key: of the owner with this name (a new one if need be), or of the caller's owner. Its
/// secret is shown this once.
///
/// # Errors
/// [`Failure`].
pub async fn create(
    client: &Client,
    owner: Option<&str>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let body = owner.map_or_else(|| json!({}), |name| json!({ "owner_name": name }));
    let made = client.call(Method::POST, KEYS, Some(&body)).await?;
    if as_json {
        return print_json(out, &made);
    }
    writeln!(out, "{}", text(&made, "key"))?;
    writeln!(
        out,
        "{} of {}; the line above is shown this once",
        text(&made, "key_id"),
        text(&made, "owner_name"),
    )?;
    Ok(())
}

/// Lists all keys, never their secrets.
///
/// # Errors
/// [`Failure`].
pub async fn list(client: &Client, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let listed = client.call(Method::GET, KEYS, None).await?;
    if as_json {
        return print_json(out, &listed);
    }
    for key in listed["keys"].as_array().into_iter().flatten() {
        let state = if key["revoked"] == true {
            "revoked"
        } else {
            "valid"
        };
        writeln!(
            out,
            "{}  {state:7}  {}  {}",
            text(key, "key_id"),
            text(key, "created_at"),
            text(key, "owner_name"),
        )?;
    }
    Ok(())
}

/// Ends a key.
///
/// # Errors
/// [`Failure`].
pub async fn revoke(
    client: &Client,
    key_id: &str,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = format!("{KEYS}/{}", encode(key_id));
    let revoked = client.call(Method::DELETE, &path, None).await?;
    if as_json {
        return print_json(out, &revoked);
    }
    writeln!(out, "{} is revoked", text(&revoked, "key_id"))?;
    Ok(())
}

fn print_json(out: &mut impl Write, value: &Value) -> Result<(), Failure> {
    writeln!(out, "{value:#}")?;
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("?")
}
