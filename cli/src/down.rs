//! `fleeks down`: ends what runs on a data dir and takes away what it has in the kernel.
//!
//! Must never happen here: a process ended that does not hold this data dir's lock.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use fleet::instance::{DataDir, DataDirError};
use fleet::timing;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::args::DownArgs;
use crate::{config, report};

/// Runs the command.
pub async fn run(args: &DownArgs) -> anyhow::Result<ExitCode> {
    let data_dir = args.data.or_default();
    if !data_dir.join("instance.json").exists() {
        report::line(&format!("{} holds nothing of fleeks", data_dir.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let data = lock(&data_dir).await?;
    let prefix = args.prefix.clone().unwrap_or(config::DEFAULT_PREFIX.into());
    let removed = pool_backend::sweep::sweep(&data, &prefix).await?;
    report::line(&format!(
        "{removed} containers removed; nothing of {} is left in the kernel. Its records and \
         volumes stay.",
        data_dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The data dir's lock; asks the process that has it to end first.
async fn lock(data_dir: &Path) -> anyhow::Result<DataDir> {
    let patience = Instant::now() + timing::DOWN;
    let mut asked = None;
    loop {
        match DataDir::open(data_dir) {
            Ok(data) => return Ok(data),
            Err(DataDirError::InUse { pid: Some(pid), .. }) if Instant::now() < patience => {
                if asked != Some(pid) {
                    let holder = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    let holder = holder.with_context(|| format!("the lock names process {pid}"))?;
                    report::line(&format!("process {pid} is asked to end"));
                    kill_process(holder, Signal::TERM)
                        .with_context(|| format!("process {pid} cannot be asked to end"))?;
                    asked = Some(pid);
                }
                sleep(timing::DRAIN_LOOK).await;
            }
            Err(error) if asked.is_some() => {
                bail!("{error}: it was asked to end and still runs")
            }
            Err(error) => return Err(error.into()),
        }
    }
}
