//! `fleeks template prune`: disk space back from what was made for templates and nobody uses.
//!
//! Must never happen here: a judgement about what is in use.

use std::io::Write;

use serde_json::Value;

use super::text;
use crate::session::{Failure, Session};
use crate::show;

/// Does it, or says what it would do.
///
/// # Errors
/// The platform's.
pub async fn run(session: &Session, dry_run: bool, out: &mut impl Write) -> Result<(), Failure> {
    let path = format!("/api/v1/prune?dry_run={dry_run}");
    let pruned = session.post(&path, &Value::Null).await?;
    if session.json {
        return session.document(&pruned);
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
