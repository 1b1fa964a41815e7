//! `fleeks ws create | list | info | rm`.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::Outcome;
use crate::args::WsCommand;
use crate::client::{ClientError, encode};
use crate::faults::Faults;
use crate::session::{Failure, Session, workspace_path};
use crate::show::{ago, bold, bytes, duration, faint, field, plain, state, table};

const WORKSPACES: &str = "/api/v1/sdk/workspaces";
/// What one call lists at most.
const PAGE: usize = 1000;

/// Runs the command.
pub async fn run(session: &Session, command: &WsCommand) -> Outcome {
    let out = &mut anstream::stdout();
    match command {
        WsCommand::Create { name, template } => create(session, name, template, out).await?,
        WsCommand::List { status } => list(session, status.as_deref(), out).await?,
        WsCommand::Info { name } => info(session, name, out).await?,
        WsCommand::Rm { names, force } => return remove(session, names, *force, out).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(
    session: &Session,
    name: &str,
    template: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let body = json!({ "project_id": name, "template": template });
    let making = session.post(WORKSPACES, &body);
    let made = session.patiently(&format!("making {name}"), making).await?;
    if session.json {
        return session.document(&made);
    }
    let is = field(&made, "template");
    if is != template && template != "default" {
        let note = format!("it was there already, made from {is}");
        writeln!(out, "{}", faint(&note))?;
    }
    writeln!(
        out,
        "{}  {}  {}",
        bold(field(&made, "project_id")),
        state(field(&made, "status")),
        plain(field(&made, "preview_url")),
    )?;
    Ok(())
}

async fn list(
    session: &Session,
    status: Option<&str>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut all = Vec::new();
    let filter = status.map_or_else(String::new, |s| format!("&status_filter={}", encode(s)));
    for page in 1.. {
        let path = format!("{WORKSPACES}?page={page}&page_size={PAGE}{filter}");
        let mut answer = session.get(&path).await?;
        let Some(found) = answer["workspaces"].as_array_mut() else {
            return Err(Failure::Answer("workspaces"));
        };
        let last = found.len() < PAGE;
        all.append(found);
        if last {
            break;
        }
    }
    if session.json {
        return session.document(&json!({ "workspaces": all }));
    }
    if all.is_empty() {
        match status {
            Some(status) => writeln!(out, "no workspace is {}", plain(status))?,
            None => writeln!(
                out,
                "no workspaces; make one: fleeks ws create NAME --template python"
            )?,
        }
        return Ok(());
    }
    let row = |one: &Value| {
        let life = match field(one, "lifecycle_state") {
            "" => field(one, "status"),
            life => life,
        };
        vec![
            plain(field(one, "project_id")),
            state(life),
            plain(field(one, "template")),
            ago(field(one, "last_activity_at")),
            plain(field(one, "preview_url")),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table(out, &["NAME", "STATE", "TEMPLATE", "USED", "URL"], &rows)?;
    Ok(())
}

async fn info(session: &Session, name: &str, out: &mut impl Write) -> Result<(), Failure> {
    let workspace = session.workspace(name).await?;
    let id = field(&workspace, "container_id");
    let container = |end: &str| format!("/api/v1/sdk/containers/{}/{end}", encode(id));
    let life = session.get(&container("lifecycle")).await?;
    let stats = match field(&life, "lifecycle_state") {
        "running" | "frozen" => session.get(&container("stats")).await?,
        _ => Value::Null,
    };
    if session.json {
        let all = json!({ "workspace": workspace, "lifecycle": life, "stats": stats });
        return session.document(&all);
    }
    let now = field(&life, "lifecycle_state");
    writeln!(out, "{}  {}{}", bold(name), state(now), came_back(&life))?;
    let mut line = |label: &str, text: String| -> Result<(), Failure> {
        match text.is_empty() {
            true => Ok(()),
            false => Ok(writeln!(out, "  {}{text}", faint(&format!("{label:14}")))?),
        }
    };
    line("URL", plain(field(&workspace, "preview_url")))?;
    line("without TLS", plain(field(&workspace, "preview_url_http")))?;
    let template = format!("{}, container {id}", field(&workspace, "template"));
    line("template", plain(&template))?;
    line("created", ago(field(&workspace, "created_at")))?;
    line("last used", ago(field(&life, "last_activity_at")))?;
    let up = life["uptime_seconds"].as_u64().unwrap_or_default();
    let up = if up > 0 {
        format!("{}, ", duration(up))
    } else {
        String::new()
    };
    line("up", format!("{up}generation {}", life["generation"]))?;
    line("uses", usage(&workspace, &stats))?;
    line("snapshot", snapshot(&life))?;
    line("when idle", when_idle(&life))?;
    line("kept awake", kept_awake(&life))?;
    line("problem", plain(field(&life, "problem")))?;
    Ok(())
}

/// From what it was woken.
fn came_back(life: &Value) -> &'static str {
    // Of one that sleeps again it was true once.
    if !matches!(field(life, "lifecycle_state"), "running" | "frozen") {
        return "";
    }
    match life["woken"].as_str() {
        Some("memory") => " (woken, with its processes as they were)",
        Some("volume") => " (woken from its files: the snapshot was of no use)",
        _ => "",
    }
}

fn usage(workspace: &Value, stats: &Value) -> String {
    let Some(memory) = stats["memory_mb"].as_f64() else {
        return String::new();
    };
    format!(
        "{} of {}, {} % of a CPU, {} processes",
        bytes(memory * 1024.0 * 1024.0),
        plain(field(&workspace["resource_limits"], "memory")),
        stats["cpu_percent"],
        stats["process_count"],
    )
}

fn snapshot(life: &Value) -> String {
    let snapshot = &life["snapshot"];
    let Some(size) = snapshot["size_bytes"].as_f64() else {
        return String::new();
    };
    let made = ago(field(snapshot, "created_at"));
    let of = &snapshot["generation"];
    format!("{}, of generation {of}, written {made}", bytes(size))
}

fn when_idle(life: &Value) -> String {
    let action = match field(life, "idle_action") {
        "hibernate" => "it is hibernated",
        "shutdown" => "it is stopped",
        _ => "nothing happens",
    };
    let after = life["idle_timeout_minutes"].as_u64().unwrap_or_default() * 60;
    let mut text = match life["time_remaining_seconds"].as_u64() {
        Some(left) => format!("{action} in {} (after {})", duration(left), duration(after)),
        None => format!("{action} after {}", duration(after)),
    };
    if let Some(hours) = life["max_duration_hours"].as_u64() {
        text.push_str(&format!("; it runs for {hours} h at most"));
    }
    if life["auto_wake"] == false {
        text.push_str("; only `fleeks wake` wakes it");
    }
    text
}

fn kept_awake(life: &Value) -> String {
    let reasons = life["kept_awake_by"].as_array().into_iter().flatten();
    let reasons: Vec<String> = reasons.filter_map(Value::as_str).map(plain).collect();
    reasons.join("; ")
}

/// One that cannot be deleted keeps none of the others from it.
async fn remove(session: &Session, names: &[String], force: bool, out: &mut impl Write) -> Outcome {
    let mut removed = Vec::new();
    let mut faults = Faults::new(session.json);
    for name in names {
        let path = workspace_path(name);
        let removing = session.delete(&path);
        let gone = session
            .patiently(&format!("deleting {name}"), removing)
            .await;
        match gone {
            Ok(_) => {
                removed.push(name);
                if !session.json {
                    writeln!(out, "{} is deleted", plain(name))?;
                }
            }
            Err(Failure::Client(ClientError::Refused { status: 404, .. })) if force => {}
            Err(failure) => faults.note("project_id", name, &failure),
        }
    }
    if session.json {
        session.document(&json!({ "deleted": removed, "failed": faults.documents }))?;
    }
    Ok(faults.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_it_reads_well() {
        let life = json!({
            "idle_action": "hibernate", "idle_timeout_minutes": 30, "time_remaining_seconds": 90,
            "max_duration_hours": 2, "auto_wake": false,
        });
        assert_eq!(
            when_idle(&life),
            "it is hibernated in 1 min 30 s (after 30 min); it runs for 2 h at most; only `fleeks \
             wake` wakes it"
        );
        let life = json!({ "idle_action": "keep_alive", "idle_timeout_minutes": 5 });
        assert_eq!(when_idle(&life), "nothing happens after 5 min");
    }

    #[test]
    fn one_that_sleeps_is_not_woken() {
        let life = |state: &str| json!({ "lifecycle_state": state, "woken": "memory" });
        assert!(came_back(&life("running")).contains("woken"));
        assert_eq!(came_back(&life("hibernated")), "");
    }
}
