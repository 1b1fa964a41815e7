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
    // What comes meanwhile is left to the next call: a busy job's output never ends.
    let mut reader = Reader::new(&args.name, &job);
    let until = reader.printed(session).await?;
    while reader.is_before(until) {
        print(&reader.next(session, until).await?)?;
    }
    Ok(ExitCode::SUCCESS)
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
        Failure::Absent(format!(
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

/// Places in a job's two streams.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    stdout: u64,
    stderr: u64,
}

/// Reads a job's output from where it was read to.
struct Reader {
    name: String,
    job: String,
    read_to: Places,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Bytes that came and went before they could be read.
    pub(super) skipped: u64,
    pub(super) ended: bool,
    pub(super) status: String,
    pub(super) exit_code: Option<i64>,
}

impl Reader {
    fn new(name: &str, job: &str) -> Self {
        Self {
            name: name.to_owned(),
            job: job.to_owned(),
            read_to: Places::default(),
        }
    }

    fn is_before(&self, until: Places) -> bool {
        self.read_to.stdout < until.stdout || self.read_to.stderr < until.stderr
    }

    /// Where its output ends now.
    async fn printed(&self, session: &Session) -> Result<Places, Failure> {
        // Nobody prints as much: what comes behind it is nothing, and begins at the end.
        let behind = Places {
            stdout: u64::MAX,
            stderr: u64::MAX,
        };
        let since = self.since(session, behind).await?;
        Ok(Places {
            stdout: next(&since["stdout"])?,
            stderr: next(&since["stderr"])?,
        })
    }

    /// The next part of what came before `until`.
    async fn next(&mut self, session: &Session, until: Places) -> Result<Part, Failure> {
        let since = self.since(session, self.read_to).await?;
        let mut part = Part::default();
        for (name, read_to, until, bytes) in [
            (
                "stdout",
                &mut self.read_to.stdout,
                until.stdout,
                &mut part.stdout,
            ),
            (
                "stderr",
                &mut self.read_to.stderr,
                until.stderr,
                &mut part.stderr,
            ),
        ] {
            let (came, skipped) = up_to(&since[name], *read_to, until)?;
            *bytes = came;
            part.skipped += skipped;
            // One that stands still has no more, and is not waited for.
            let next = next(&since[name])?;
            *read_to = if next > *read_to { next } else { u64::MAX };
        }
        Ok(part)
    }

    async fn since(&self, session: &Session, from: Places) -> Result<Value, Failure> {
        let path = format!(
            "/api/v1/sdk/terminal/jobs/{}/output?project_id={}&stdout_from={}&stderr_from={}",
            encode(&self.job),
            encode(&self.name),
            from.stdout,
            from.stderr,
        );
        Ok(session.get(&path).await?["since"].take())
    }
}

/// Where the part ends.
fn next(stream: &Value) -> Result<u64, Failure> {
    stream["next"].as_u64().ok_or(Failure::Answer("output"))
}

/// What of a part, asked for from `from` on, came before `until`; and how much of that is lost.
fn up_to(stream: &Value, from: u64, until: u64) -> Result<(Vec<u8>, u64), Failure> {
    let encoded = stream["base64"].as_str().ok_or(Failure::Answer("output"))?;
    let decoded = BASE64.decode(encoded.as_bytes());
    let mut bytes = decoded.map_err(|_| Failure::Answer("output"))?;
    let begin = next(stream)?.saturating_sub(bytes.len() as u64);
    let wanted = until.saturating_sub(begin);
    bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    Ok((bytes, begin.min(until).saturating_sub(from)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_the_output_ended() {
        let part = |bytes: &str, next: u64| json!({ "base64": BASE64.encode(bytes.as_bytes()), "next": next });
        let read = |stream: &Value, from, until| {
            let (bytes, skipped) = up_to(stream, from, until).unwrap();
            (String::from_utf8(bytes).unwrap(), skipped)
        };
        assert_eq!(read(&part("abc", 3), 0, 3), ("abc".to_owned(), 0));
        assert_eq!(read(&part("abcdef", 6), 0, 3), ("abc".to_owned(), 0));
        // The middle is lost.
        assert_eq!(read(&part("xyz", 103), 3, 102), ("xy".to_owned(), 97));
        // All of it went while it was read.
        assert_eq!(read(&part("xyz", 203), 3, 100), (String::new(), 97));
        assert_eq!(read(&part("", 3), 3, 3), (String::new(), 0));
        assert!(up_to(&json!({ "base64": "!", "next": 1 }), 0, 1).is_err());
    }
}
