//! `fleeks files watch`: prints what changes, as the platform tells it.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::client::encode;
use crate::commands::stream::Stream;
use crate::session::{Failure, Session};
use crate::show::{faint, field, plain};

/// Runs the command, until Ctrl-C.
pub async fn run(
    session: &Session,
    name: &str,
    path: &str,
    patterns: &[String],
) -> Result<(), Failure> {
    tokio::select! {
        told = listen(session, name, path, patterns) => told,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn listen(
    session: &Session,
    name: &str,
    path: &str,
    patterns: &[String],
) -> Result<(), Failure> {
    let query = query(path, patterns);
    let path = format!("/api/v1/sdk/files/{}/watch{query}", encode(name));
    let mut stream = Stream::new(session, path);
    loop {
        let event = stream.next().await?;
        match event.name.as_str() {
            "change" | "overflow" => show(session, &event.data)?,
            "ready" if !session.json => {
                writeln!(anstream::stderr(), "{}", faint("watching; Ctrl-C ends"))?;
            }
            "end" => {
                return Err(Failure::Other(
                    "the watch ended: the workspace is gone, or its node shuts down".to_owned(),
                ));
            }
            _ => {}
        }
    }
}

/// What is below `path`; with patterns those of them that are.
fn query(path: &str, patterns: &[String]) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    let literal: String = path
        .chars()
        .flat_map(|letter| match letter {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!' => vec!['\\', letter],
            letter => vec![letter],
        })
        .collect();
    let mut all = Vec::new();
    if patterns.is_empty() && !literal.is_empty() && literal != "." {
        all.push(literal.clone());
        all.push(format!("{literal}/**"));
    }
    for pattern in patterns {
        let (not, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => ("!", rest),
            None => ("", pattern.as_str()),
        };
        all.push(match literal.is_empty() || literal == "." {
            true => format!("{not}{pattern}"),
            false => format!("{not}{literal}/{pattern}"),
        });
    }
    let pairs: Vec<_> = all
        .iter()
        .map(|pattern| format!("pattern={}", encode(pattern)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

fn show(session: &Session, data: &Value) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    if session.json {
        writeln!(out, "{}", line(data))?;
    } else {
        let event = field(data, "event");
        let what = faint(&format!("{event:8}"));
        match data["old_path"].as_str() {
            _ if event == "overflow" => {
                writeln!(out, "{what}  {}", plain(field(data, "detail")))?;
            }
            Some(from) => {
                writeln!(
                    out,
                    "{what}  {} → {}",
                    plain(from),
                    plain(field(data, "path"))
                )?;
            }
            None => writeln!(out, "{what}  {}", plain(field(data, "path")))?,
        }
    }
    io::stdout().flush()?;
    Ok(())
}

/// One document a line.
fn line(data: &Value) -> Value {
    match data {
        Value::Object(_) => data.clone(),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_and_patterns_become_patterns() {
        let owned = |patterns: &[&str]| -> Vec<String> {
            patterns
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect()
        };
        let query = |path, patterns: &[&str]| {
            let query = super::query(path, &owned(patterns));
            query.replace("%2A", "*").replace("%2F", "/")
        };
        assert_eq!(query("/", &[]), "");
        assert_eq!(query("src/", &[]), "?pattern=src&pattern=src/**");
        assert_eq!(query("/", &["*.py"]), "?pattern=*.py");
        assert_eq!(
            query("./src", &["**/*.py", "!x/**"]),
            "?pattern=src/**/*.py&pattern=%21src/x/**"
        );
        assert_eq!(query("a*", &[]), "?pattern=a%5C*&pattern=a%5C*/**");
    }
}
