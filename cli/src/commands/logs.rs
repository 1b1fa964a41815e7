//! `fleeks logs`: what a job printed, and goes on printing.

use std::io::{self, Write as _};
use std::process::ExitCode;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Outcome;
use super::stream::Stream;
use crate::args::LogsArgs;
use crate::client::{Event, encode};
use crate::session::{Failure, Session};
use crate::show::{ago, field, plain, state, table};

/// Runs the command.
pub async fn run(session: &Session, args: &LogsArgs) -> Outcome {
    if args.list {
        return list(session, &args.name).await;
    }
    let job = match &args.job {
        Some(job) => job.clone(),
        None => newest(session, &args.name).await?,
    };
    let mut reader = Reader::new(&args.name, &job);
    if session.json && !args.follow {
        let project = encode(&args.name);
        let path = format!(
            "/api/v1/sdk/terminal/jobs/{}?project_id={project}",
            encode(&job)
        );
        session.document(&session.get(&path).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.follow {
        follow(session, &args.name, &job).await?;
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let part = reader.next(session).await?;
        print(&part)?;
        if part.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Until it ends.
async fn follow(session: &Session, name: &str, job: &str) -> Result<(), Failure> {
    let mut stream = Stream::new(session, follow_path(name, job));
    loop {
        let part = Part::of(&stream.next().await?)?;
        match session.json {
            // One document a line, for scripts that read as it comes.
            true => writeln!(io::stdout(), "{}", part.document())?,
            false => print(&part)?,
        }
        if part.ended {
            return Ok(());
        }
    }
}

/// Where a job's output is told, from its first byte on.
pub(super) fn follow_path(name: &str, job: &str) -> String {
    let (name, job) = (encode(name), encode(job));
    format!("/api/v1/sdk/terminal/jobs/{job}/follow?project_id={name}&encoding=base64")
}

async fn jobs(session: &Session, name: &str) -> Result<Value, Failure> {
    let path = format!("/api/v1/sdk/terminal/jobs?project_id={}", encode(name));
    session.get(&path).await
}

async fn newest(session: &Session, name: &str) -> Result<String, Failure> {
    let listed = jobs(session, name).await?;
    let jobs = listed["jobs"].as_array().ok_or(Failure::Answer("jobs"))?;
    let newest = jobs.last().and_then(|job| job["job_id"].as_str());
    newest.map(str::to_owned).ok_or_else(|| {
        Failure::Other(format!(
            "{} has no jobs; start one: fleeks exec --detach {} -- COMMAND",
            plain(name),
            plain(name),
        ))
    })
}

async fn list(session: &Session, name: &str) -> Outcome {
    let listed = jobs(session, name).await?;
    if session.json {
        session.document(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = listed["jobs"].as_array().ok_or(Failure::Answer("jobs"))?;
    let row = |job: &Value| {
        vec![
            plain(field(job, "job_id")),
            state(field(job, "status")),
            job["exit_code"]
                .as_i64()
                .map_or_else(String::new, |code| code.to_string()),
            ago(field(job, "started_at")),
            plain(field(job, "command")).chars().take(80).collect(),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    let head = ["JOB", "STATE", "CODE", "STARTED", "COMMAND"];
    table(&mut anstream::stdout(), &head, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a job's output from where it was read to.
struct Reader {
    name: String,
    job: String,
    stdout: u64,
    stderr: u64,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Bytes that came and went before they could be read.
    skipped: u64,
    pub(super) ended: bool,
    pub(super) status: String,
    pub(super) exit_code: Option<i64>,
}

impl Reader {
    fn new(name: &str, job: &str) -> Self {
        Self {
            name: name.to_owned(),
            job: job.to_owned(),
            stdout: 0,
            stderr: 0,
        }
    }

    async fn next(&mut self, session: &Session) -> Result<Part, Failure> {
        let path = format!(
            "/api/v1/sdk/terminal/jobs/{}/output?project_id={}&stdout_from={}&stderr_from={}",
            encode(&self.job),
            encode(&self.name),
            self.stdout,
            self.stderr,
        );
        let answer = session.get(&path).await?;
        let mut part = Part {
            status: field(&answer, "status").to_owned(),
            exit_code: answer["exit_code"].as_i64(),
            ..Part::default()
        };
        part.ended = part.status != "running";
        for (name, read_to, bytes) in [
            ("stdout", &mut self.stdout, &mut part.stdout),
            ("stderr", &mut self.stderr, &mut part.stderr),
        ] {
            let stream = &answer["since"][name];
            let encoded = stream["base64"].as_str().ok_or(Failure::Answer("output"))?;
            let decoded = BASE64.decode(encoded.as_bytes());
            *bytes = decoded.map_err(|_| Failure::Answer("output"))?;
            *read_to = stream["next"].as_u64().ok_or(Failure::Answer("output"))?;
            part.skipped += stream["skipped"].as_u64().unwrap_or_default();
        }
        Ok(part)
    }
}

impl Part {
    /// What an event of a followed job says.
    ///
    /// # Errors
    /// The job is gone, or the event cannot be read.
    pub(super) fn of(event: &Event) -> Result<Self, Failure> {
        let data = &event.data;
        let mut part = Self {
            status: "running".to_owned(),
            ..Self::default()
        };
        match event.name.as_str() {
            "output" => {
                let encoded = data["base64"].as_str().ok_or(Failure::Answer("output"))?;
                let decoded = BASE64.decode(encoded.as_bytes());
                let bytes = decoded.map_err(|_| Failure::Answer("output"))?;
                match field(data, "stream") {
                    "stderr" => part.stderr = bytes,
                    _ => part.stdout = bytes,
                }
            }
            "skipped" => {
                let count = |name: &str| data[name].as_u64().unwrap_or_default();
                part.skipped = count("stdout_bytes").saturating_add(count("stderr_bytes"));
            }
            "ended" => {
                part.ended = true;
                part.status = field(data, "status").to_owned();
                part.exit_code = data["exit_code"].as_i64();
            }
            "gone" => return Err(Failure::Other(plain(field(data, "detail")))),
            _ => {}
        }
        Ok(part)
    }

    fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }

    fn document(&self) -> Value {
        json!({
            "stdout": String::from_utf8_lossy(&self.stdout),
            "stderr": String::from_utf8_lossy(&self.stderr),
            "skipped_bytes": self.skipped,
            "status": self.status,
        })
    }
}

/// Its bytes as they are, each to its stream.
pub(super) fn print(part: &Part) -> Result<(), Failure> {
    let mut errors = io::stderr().lock();
    if part.skipped > 0 {
        writeln!(errors, "[… {} bytes came too fast …]", part.skipped)?;
    }
    errors.write_all(&part.stderr)?;
    let mut out = io::stdout().lock();
    out.write_all(&part.stdout)?;
    out.flush()?;
    Ok(())
}
