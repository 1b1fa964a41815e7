//! A workspace as a story uses it: made through the API, deleted when dropped.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::api::{Api, Reply};
use crate::wait;

/// A terminal job's result.
#[derive(Debug)]
#[expect(missing_docs, reason = "the API's words")]
pub struct Job {
    pub status: String,
    pub exit_code: Option<i64>,
    pub stdout: String,
    pub stderr: String,
}

/// See the module.
pub struct Workspace {
    api: Api,
    /// The project id.
    pub project: String,
    /// `cnt_…`.
    pub container: String,
    /// As the API answered it.
    pub info: Value,
}

impl Workspace {
    /// Makes it (or gets it, as the API does).
    pub fn create(api: Api, project: &str, template: &str) -> Result<Self> {
        let body = json!({"project_id": project, "template": template});
        let info = api
            .post("/api/v1/sdk/workspaces", &body)?
            .ok()
            .context("create a workspace")?;
        let container = text(&info, "container_id")?;
        Ok(Self {
            api,
            project: project.to_owned(),
            container,
            info,
        })
    }

    /// The API as its owner sees it.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Runs a shell line, whatever becomes of it.
    pub fn execute(&self, command: &str, timeout_seconds: u32) -> Result<Reply> {
        let body = json!({
            "project_id": self.project, "command": command,
            "working_dir": "/workspace", "timeout_seconds": timeout_seconds,
        });
        self.api.post("/api/v1/sdk/terminal/execute", &body)
    }

    /// Runs a shell line to its end.
    pub fn job(&self, command: &str) -> Result<Job> {
        let answer = self
            .execute(command, 25)?
            .ok()
            .with_context(|| format!("execute {command:?}"))?;
        Job::parse(&answer)
    }

    /// Output of a shell line that must succeed.
    pub fn sh(&self, command: &str) -> Result<String> {
        let job = self.job(command)?;
        ensure!(job.exit_code == Some(0), "{command:?} failed: {job:?}");
        Ok(job.stdout.trim().to_owned())
    }

    /// Starts a background job; its id.
    pub fn background(&self, command: &str) -> Result<String> {
        let body =
            json!({"project_id": self.project, "command": command, "working_dir": "/workspace"});
        let answer = self
            .api
            .post("/api/v1/sdk/terminal/background", &body)?
            .ok()
            .context("start a job")?;
        text(&answer, "job_id")
    }

    /// State of a job.
    pub fn job_state(&self, job: &str) -> Result<Job> {
        let path = format!(
            "/api/v1/sdk/terminal/jobs/{job}?project_id={}",
            self.project
        );
        Job::parse(&self.api.get(&path)?.ok()?)
    }

    /// Writes a text file.
    pub fn write(&self, path: &str, content: &str) -> Result<Value> {
        let body = json!({"path": path, "content": content, "encoding": "utf-8"});
        self.api
            .post(&self.files(""), &body)?
            .ok()
            .with_context(|| format!("write {path}"))
    }

    /// Asks for a file's content, whatever the answer.
    pub fn try_read(&self, path: &str) -> Result<Reply> {
        self.api
            .get(&self.files(&format!("/content?path={}&encoding=utf-8", encoded(path))))
    }

    /// Reads a text file.
    pub fn read(&self, path: &str) -> Result<String> {
        text(
            &self
                .try_read(path)?
                .ok()
                .with_context(|| format!("read {path}"))?,
            "content",
        )
    }

    /// Path of a files call.
    pub fn files(&self, rest: &str) -> String {
        format!("/api/v1/sdk/files/{}{rest}", self.project)
    }

    /// The preview's URL as the API gives it, without a slash at its end.
    pub fn preview_url(&self) -> Result<String> {
        let path = format!("/api/v1/sdk/workspaces/{}/preview-url", self.project);
        let url = text(&self.api.get(&path)?.ok()?, "preview_url")?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// The preview's host, without a port.
    pub fn host(&self) -> Result<String> {
        let url = self.preview_url()?;
        let host = url
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split(['/', ':']).next());
        Ok(host
            .with_context(|| format!("no host in {url}"))?
            .to_owned())
    }

    /// A new container around the same volume.
    pub fn restart(&self) -> Result<()> {
        let path = format!("/api/v1/sdk/containers/{}/restart", self.container);
        self.api
            .call("POST", &path, &[])?
            .ok()
            .context("restart the container")?;
        Ok(())
    }

    /// Puts it on disk, whatever becomes of it.
    pub fn hibernate(&self) -> Result<Reply> {
        self.api.call("POST", &self.at("hibernate"), &[])
    }

    /// The same behind the story's back.
    pub fn begin_hibernate(&self) -> JoinHandle<Result<Reply>> {
        let (api, path) = (self.api.clone(), self.at("hibernate"));
        std::thread::spawn(move || api.call("POST", &path, &[]))
    }

    /// What the API says of its life.
    pub fn lifecycle(&self) -> Result<Value> {
        self.api.get(&self.at("lifecycle"))?.ok()
    }

    fn at(&self, call: &str) -> String {
        format!("/api/v1/sdk/containers/{}/{call}", self.container)
    }

    /// Waits until something listens on `port` inside.
    pub fn wait_for_port(&self, port: u16) -> Result<()> {
        let probe = format!(
            "python3 -c 'import socket,time\nfor i in range(200):\n  try: socket.create_connection((\"127.0.0.1\",{port}),1); break\n  except OSError: time.sleep(0.05)\nelse: raise SystemExit(1)'"
        );
        let job = self.job(&probe)?;
        ensure!(
            job.exit_code == Some(0),
            "nothing listens on port {port}: {job:?}"
        );
        Ok(())
    }

    /// Waits until a file is there, and reads it.
    pub fn wait_for_file(&self, path: &str) -> Result<String> {
        wait::until(path, Duration::from_secs(20), || {
            let reply = self.try_read(path)?;
            if reply.status == 404 {
                return Ok(None);
            }
            let content = text(&reply.ok()?, "content")?;
            Ok((!content.is_empty()).then_some(content))
        })
    }

    /// Deletes it, and says so when that fails.
    pub fn delete(&self) -> Result<()> {
        self.api
            .delete(&format!("/api/v1/sdk/workspaces/{}", self.project))?
            .ok()
            .context("delete a workspace")?;
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // It may be gone already, and so may the platform.
        let _ = self.delete();
    }
}

impl Job {
    fn parse(answer: &Value) -> Result<Self> {
        let field = |name: &str| {
            answer
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Self {
            status: text(answer, "status")?,
            exit_code: answer.get("exit_code").and_then(Value::as_i64),
            stdout: field("stdout"),
            stderr: field("stderr"),
        })
    }
}

/// A text field that must be there.
pub fn text(answer: &Value, field: &str) -> Result<String> {
    let value = answer.get(field).and_then(Value::as_str);
    Ok(value
        .with_context(|| format!("no text {field:?} in {answer}"))?
        .to_owned())
}

/// Percent-encodes everything that is not plain in a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
