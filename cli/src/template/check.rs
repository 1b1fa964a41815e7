//! `fleeks template check`: everything that is wrong with templates, with the lines.
//!
//! Must never happen here: a template judged by other rules than those of the engine.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use pool_backend::template::{self, Checked, RootSource, Template};
use serde_json::{Value, json};

/// Says of each whether it is well formed; exit code 1 if one is not.
///
/// # Errors
/// A directory that cannot be read, or holds no template.
pub fn run(
    directories: &[PathBuf],
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for directory in directories {
        all.extend(template::check(directory)?);
    }
    if as_json {
        let ok = all.iter().all(|checked| checked.outcome.is_ok());
        let templates: Vec<Value> = all.iter().map(document).collect();
        writeln!(out, "{:#}", json!({ "ok": ok, "templates": templates }))?;
    } else {
        for checked in &all {
            tell(checked, out)?;
        }
    }
    match all.iter().all(|checked| checked.outcome.is_ok()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

fn tell(checked: &Checked, out: &mut impl Write) -> std::io::Result<()> {
    match &checked.outcome {
        Ok(template) => writeln!(out, "ok      {}", summary(template))?,
        Err(problems) => {
            for wrong in problems {
                let (place, problem) = (wrong.place(), &wrong.problem);
                writeln!(out, "wrong   {}: {place}{problem}", wrong.template)?;
            }
        }
    }
    for doubt in &checked.doubts {
        writeln!(out, "doubt   {}: {doubt}", checked.name)?;
    }
    Ok(())
}

fn document(checked: &Checked) -> Value {
    let mut document = json!({
        "name": checked.name, "ok": checked.outcome.is_ok(), "doubts": checked.doubts,
    });
    match &checked.outcome {
        Ok(template) => {
            document["root"] = json!(root(template));
            document["files"] = json!(template.files.len());
            document["installs"] = json!(template.dependencies.is_some());
        }
        Err(problems) => {
            let problems = problems.iter().map(
                |wrong| json!({ "file": wrong.file, "line": wrong.line, "problem": wrong.problem }),
            );
            document["problems"] = problems.collect();
        }
    }
    document
}

fn root(template: &Template) -> String {
    match &template.root {
        RootSource::Any => "host or Debian root".to_owned(),
        RootSource::Host => "host".to_owned(),
        RootSource::Debian => "Debian root".to_owned(),
        RootSource::Directory(path) => path.display().to_string(),
        RootSource::Image(reference) => format!("image {reference}"),
    }
}

fn summary(template: &Template) -> String {
    let installs = match template.dependencies {
        Some(_) => ", installs dependencies",
        None => "",
    };
    let files = template.files.len();
    format!(
        "{}: {}, {files} starter files{installs}",
        template.name,
        root(template)
    )
}
