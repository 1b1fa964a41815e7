//! What both runtimes share when they write and read images.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::command::{self, Capture};
use super::oci_program::OciProgram;
use super::{ContainerSpec, ContainerStatus, OciId, RuntimeError, RuntimeKind, SleepTraits};
use crate::oci;

/// In a container's bundle: what CRIU works and logs in.
const WORK: &str = "sleep";
/// How many of its complaints go into an error.
const COMPLAINTS: usize = 4;

/// Finds out what a runtime's sleep is like, by asking the programs for their versions.
pub async fn traits(kind: RuntimeKind, program: &Path, path_variable: &str) -> SleepTraits {
    let mut version = String::new();
    let mut trouble = None;
    let mut ask = vec![program.as_os_str()];
    if kind == RuntimeKind::Runc {
        ask.push("criu".as_ref());
    }
    for program in ask {
        match ask_version(program.as_ref(), path_variable).await {
            Ok(said) if version.is_empty() => version = said,
            Ok(said) => version = format!("{version}, criu {said}"),
            Err(error) => trouble = Some(error.to_string()),
        }
    }
    SleepTraits {
        version,
        keeps_connections: kind == RuntimeKind::Runc,
        idles_at_cost: kind == RuntimeKind::Runsc,
        trouble,
    }
}

async fn ask_version(program: &Path, path_variable: &str) -> Result<String, RuntimeError> {
    let action = "ask for a version";
    let mut command = Command::new(program);
    command.arg("--version").env_clear();
    command.env("PATH", path_variable);
    let output = command::run(command, action, Capture::Both).await?;
    if !output.status.success() {
        return Err(command::failed(action, &output, ""));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.lines().next().unwrap_or_default().split_whitespace();
    Ok(words.last().unwrap_or_default().to_owned())
}

impl OciProgram {
    /// `checkpoint` or `restore`, up to what differs.
    pub(super) fn sleep_command(
        &self,
        id: &OciId,
        verb: &str,
        images: &Path,
    ) -> Result<Command, RuntimeError> {
        let work = self.bundles.path(id).join(WORK);
        // Not yet there, or of an earlier attempt, whose log would be taken for this one's.
        drop(std::fs::remove_dir_all(&work));
        std::fs::create_dir_all(&work).map_err(|source| RuntimeError::Io {
            context: "make a directory for the runtime to work in",
            source,
        })?;
        let mut command = self.command(Some(id));
        command.arg(verb);
        command.arg("--image-path").arg(images);
        command.arg("--work-path").arg(work);
        Ok(command)
    }

    /// Runs a checkpoint command.
    pub(super) async fn checkpoint(
        &self,
        command: Command,
        id: &OciId,
    ) -> Result<(), RuntimeError> {
        let action = "write a checkpoint";
        let output = command::run(command, action, Capture::Both).await?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let log = format!("{} {}", stderr.trim(), self.sleep_log(id));
        Err(command::failed(action, &command::silent(&output), &log))
    }

    /// Runs `verb`, unless the container is already as that would make it.
    pub(super) async fn switch(
        &self,
        verb: &'static str,
        id: &OciId,
        wanted: ContainerStatus,
    ) -> Result<(), RuntimeError> {
        let mut command = self.command(None);
        command.args([verb, id.as_str()]);
        let output = command::run(command, verb, Capture::Both).await?;
        if output.status.success() || self.status(id) == wanted {
            return Ok(());
        }
        Err(command::failed(verb, &output, ""))
    }

    /// What CRIU complained about.
    pub(super) fn sleep_log(&self, id: &OciId) -> String {
        let work = self.bundles.path(id).join(WORK);
        ["dump.log", "restore.log"]
            .iter()
            .filter_map(|name| std::fs::read(work.join(name)).ok())
            .map(|text| complaints(&String::from_utf8_lossy(&text)))
            .collect()
    }

    /// See [`super::Runtime::layout`].
    pub(super) fn layout(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let plan = self.plan(spec, None)?;
        let init = std::fs::metadata(&spec.init).map_err(|source| RuntimeError::Io {
            context: "look at init",
            source,
        })?;
        let mut config = oci::config(spec, &plan);
        // What a generation has of its own, and what processes keep from their start.
        config["linux"]["namespaces"] = serde_json::Value::Null;
        config["linux"]["resources"] = serde_json::Value::Null;
        config["process"] = serde_json::Value::Null;
        config["annotations"] = serde_json::Value::Null;
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            let source = mount["source"].as_str().map(Path::new);
            if source.is_some_and(|source| source.starts_with(&plan.bundle)) {
                mount["source"] = serde_json::Value::Null;
            }
        }
        let mut digest = Sha256::new();
        digest.update(config.to_string());
        digest.update(init.len().to_le_bytes());
        Ok(data_encoding::HEXLOWER.encode(&digest.finalize()))
    }
}

/// The first errors of a log: the later ones follow from them.
fn complaints(log: &str) -> String {
    let lines = log.lines().filter(|line| line.contains("Error ("));
    let lines: Vec<&str> = lines.take(COMPLAINTS).map(str::trim).collect();
    lines.join("; ")
}
