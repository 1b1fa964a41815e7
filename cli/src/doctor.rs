//! `fleeks doctor`: can this machine run `fleeks up`, and if not, what would make it.
//!
//! [`probe`] looks and touches nothing that outlives it; [`verdict`] judges what it saw and is pure;
//! here the two meet and are printed.
//!
//! Must never happen here: a change of the machine. A fix is a line to read, never an act.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

pub mod cgroups;
pub mod probe;
pub mod verdict;

/// What `up` would be given.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where `ops/setup` puts runsc and CRIU: `bin/` of it.
    pub prefix: PathBuf,
    /// Where everything durable goes; it need not exist yet.
    pub data_dir: PathBuf,
    /// Listeners of `up`.
    pub listeners: Vec<SocketAddr>,
}

/// What was found, in the order in which it is printed.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `fleeks up` can work here.
    pub ready: bool,
    /// Runtimes that start containers here, the preferred one first.
    pub runtimes: Vec<&'static str>,
    /// One for each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was seen.
    pub text: String,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// `up` works, and something about it is less than it could be.
    Gap,
    /// `up` cannot work.
    Fatal,
}

/// Looks at the machine. Takes about half a second, at most `timing::DOCTOR_PROBE`.
pub async fn examine(plan: &Plan) -> Report {
    verdict::judge(&probe::look(plan).await)
}

/// Prints the report; success only if `up` can work.
pub async fn run(plan: &Plan, json: bool) -> ExitCode {
    let report = examine(plan).await;
    let mut out = io::stdout().lock();
    let printed = if json {
        print_json(&mut out, &report)
    } else {
        print_lines(&mut out, &report)
    };
    // A reader that hung up has seen enough; the verdict stands.
    if printed.is_ok() && report.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_json(out: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

fn print_lines(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for finding in &report.findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Gap => "gap",
            Level::Fatal => "FAIL",
        };
        writeln!(out, "{level:<5} {:<11} {}", finding.name, finding.text)?;
        if let Some(fix) = &finding.fix {
            writeln!(out, "{:18}fix: {fix}", "")?;
        }
    }
    match report.runtimes.as_slice() {
        [] => writeln!(out, "\nno runtime works: fleeks up cannot start"),
        _ if !report.ready => writeln!(out, "\nfleeks up cannot start: see FAIL"),
        [runtime] => writeln!(out, "\nready, with {runtime}"),
        [preferred, others @ ..] => {
            writeln!(out, "\nready, with {preferred} (and {})", others.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            ready: true,
            runtimes: vec!["runsc", "runc"],
            findings: vec![
                Finding {
                    name: "kernel",
                    level: Level::Ok,
                    text: "6.18".into(),
                    fix: None,
                },
                Finding {
                    name: "pid_max",
                    level: Level::Gap,
                    text: "low".into(),
                    fix: Some("raise it".into()),
                },
            ],
        }
    }

    #[test]
    fn a_line_for_each_finding_and_a_fix_line_for_each_gap() {
        let mut out = Vec::new();
        print_lines(&mut out, &report()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok    kernel      6.18\n\
             gap   pid_max     low\n                  fix: raise it\n\n\
             ready, with runsc (and runc)\n"
        );
    }

    #[test]
    fn json_has_no_fix_where_nothing_is_to_be_fixed() {
        let mut out = Vec::new();
        print_json(&mut out, &report()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["ready"], true);
        assert_eq!(value["findings"][0].get("fix"), None);
        assert_eq!(value["findings"][1]["level"], "gap");
    }
}
