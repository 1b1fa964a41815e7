//! `fleeks template prune`: disk space back from what was made for templates and nobody uses.
//!
//! Must never happen here: a judgement about what is in use.

use std::io::Write;

use hyper::Method;
use serde_json::Value;

use super::{client, text};
use crate::args::RemoteArgs;
use crate::show;

/// Does it, or says what it would do.
///
/// # Errors
/// The platform's.
pub async fn run(dry_run: bool, remote: &RemoteArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let path = format!("/api/v1/prune?dry_run={dry_run}");
    let pruned = client(remote)?.call(Method::POST, &path, None).await?;
    if remote.json {
        writeln!(out, "{pruned:#}")?;
        return Ok(());
    }
    let items = pruned["items"].as_array().into_iter().flatten();
    for item in items {
        let (size, kind) = (size(item), show::plain(text(item, "kind")));
        writeln!(
            out,
            "{size:>9}  {kind:5}  {}",
            show::plain(text(item, "name"))
        )?;
    }
    let all = size(&pruned);
    match (pruned["items"].as_array(), dry_run) {
        (Some(none), _) if none.is_empty() => writeln!(out, "all that is there is used")?,
        (_, true) => writeln!(out, "{all:>9}  would be free; without --dry-run it goes")?,
        (_, false) => writeln!(out, "{all:>9}  are given back")?,
    }
    Ok(())
}

fn size(of: &Value) -> String {
    show::bytes(of["bytes"].as_f64().unwrap_or_default())
}
