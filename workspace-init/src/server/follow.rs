//! A job's output as it comes, from where the node has it, until the job's shell exits.
//!
//! Must never happen here: output kept for a node that does not read (it is skipped then, and that
//! is said).

use init_protocol::codec::{read_frame, write_frame};
use init_protocol::{FrameKind, Reply};
use tokio::io::AsyncBufReadExt as _;

use super::Fault;
use super::calls::{Exchange, bounded};
use crate::jobs::Job;
use crate::refusal::Refusal;
use crate::timing;

/// Bytes sent at once of one stream.
const CHUNK: usize = 64 * 1024;

/// Answers a `Follow`. `read`: what the node has of standard output and standard error.
pub async fn run(exchange: &mut Exchange<'_>, job: &Job, mut read: [u64; 2]) -> Result<(), Fault> {
    loop {
        let mut grown = std::pin::pin!(job.stdout.grown().notified());
        let mut err_grown = std::pin::pin!(job.stderr.grown().notified());
        // What is printed from here on wakes us.
        grown.as_mut().enable();
        err_grown.as_mut().enable();
        let ended = !job.is_running();
        if send(exchange, job, &mut read).await? {
            tokio::time::sleep(timing::FOLLOW).await;
            continue;
        }
        if ended {
            exchange.reply(&Reply::Exited(job.state())).await?;
            return exchange.end().await;
        }
        tokio::select! {
            () = grown => {}
            () = err_grown => {}
            () = job.wait() => {}
            // Cancel safe, unlike reading a frame.
            here = exchange.connection.fill_buf() => {
                if !here.is_ok_and(|bytes| !bytes.is_empty()) {
                    return Err(Fault::Broken);
                }
                return match bounded(read_frame(exchange.connection, exchange.buffer)).await? {
                    FrameKind::End => exchange.end().await,
                    _ => Err(Refusal::bad("a frame has no place here").into()),
                };
            }
        }
    }
}

/// True: there was something.
async fn send(exchange: &mut Exchange<'_>, job: &Job, read: &mut [u64; 2]) -> Result<bool, Fault> {
    let parts = [
        (job.stdout.since(read[0], CHUNK), FrameKind::Data),
        (job.stderr.since(read[1], CHUNK), FrameKind::DataErr),
    ];
    let (stdout, stderr) = (parts[0].0.skipped, parts[1].0.skipped);
    if stdout + stderr > 0 {
        exchange.reply(&Reply::Skipped { stdout, stderr }).await?;
    }
    let mut some = false;
    for ((part, kind), read) in parts.into_iter().zip(read) {
        *read += part.skipped + part.bytes.len() as u64;
        if !part.bytes.is_empty() {
            some = true;
            bounded(write_frame(exchange.connection, kind, &part.bytes)).await?;
        }
    }
    Ok(some || stdout + stderr > 0)
}
