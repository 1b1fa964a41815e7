//! What each call does.

use std::future::Future;
use std::time::Duration;

use init_protocol::codec::{CodecError, read_frame, write_frame, write_json};
use init_protocol::{Call, FrameKind, MAX_FRAME, Reason, Reply, Run};
use tokio::io::AsyncReadExt as _;

use super::{Connection, Fault, Server, follow};
use crate::files::{Draft, Recent};
use crate::jobs::Job;
use crate::refusal::Refusal;
use crate::{forward, jobs, ports, processes, timing, watch};

/// Entries of one reply of a list: with the longest commands, all escaped, still one frame.
const BATCH: usize = MAX_FRAME / (8 * init_protocol::COMMAND_SHOWN);

/// One call and its answer.
pub struct Exchange<'a> {
    pub server: &'a Server,
    pub connection: &'a mut Connection,
    pub buffer: &'a mut Vec<u8>,
}

impl Exchange<'_> {
    pub async fn answer(mut self, call: Call) -> Result<(), Fault> {
        let Server {
            jobs,
            files,
            terminals,
            ..
        } = self.server;
        match call {
            Call::Ping => {
                let version = init_protocol::VERSION;
                self.reply(&Reply::Pong { version }).await
            }
            Call::Run(run) => self.run(run).await,
            Call::Job { job } => {
                let state = jobs.get(&job)?.state();
                self.reply(&Reply::Job(state)).await
            }
            Call::Jobs => {
                let states = jobs.states();
                self.list(&states, |jobs| Reply::Jobs { jobs }).await
            }
            Call::Stop { job, grace_ms } => {
                let grace = Duration::from_millis(grace_ms);
                let state = jobs.stop(&job, grace).await?;
                self.reply(&Reply::Job(state)).await
            }
            Call::Output { job } => {
                let job = jobs.get(&job)?;
                self.output(&job).await
            }
            Call::Follow {
                job,
                stdout,
                stderr,
            } => {
                let job = jobs.get(&job)?;
                follow::run(&mut self, &job, [stdout, stderr]).await
            }
            Call::Watch => {
                let server = self.server;
                watch::run(&mut self, &server.config.workspace, &server.writes).await
            }
            Call::Write(_) | Call::Mkdir { .. } | Call::Link { .. } => {
                let write_id = self.change(call, None).await?;
                self.reply(&Reply::Written { write_id }).await
            }
            Call::Batch => self.batch().await,
            Call::Remove { path } => {
                files.remove(&path).await?;
                self.reply(&Reply::Done).await
            }
            Call::Ports => {
                let ports = ports::listening();
                self.reply(&Reply::Ports { ports }).await?;
                self.end().await
            }
            Call::Connections => {
                let failed = |error| Refusal::failed("no table of connections", &error);
                let count = ports::connections().map_err(failed)?;
                self.reply(&Reply::Connections { count }).await
            }
            Call::Processes => {
                let processes = processes::list();
                let reply = |processes| Reply::Processes { processes };
                self.list(&processes, reply).await
            }
            Call::OpenTerminal(call) => {
                let terminal = terminals.open(&call)?;
                self.reply(&Reply::Terminal(terminal.state())).await
            }
            Call::Terminal { terminal } => {
                let state = terminals.get(&terminal)?.state();
                self.reply(&Reply::Terminal(state)).await
            }
            Call::Terminals => {
                let states = terminals.states();
                let reply = |terminals| Reply::Terminals { terminals };
                self.list(&states, reply).await
            }
            Call::CloseTerminal { terminal, grace_ms } => {
                let grace = Duration::from_millis(grace_ms);
                let state = terminals.close(&terminal, grace).await?;
                self.reply(&Reply::Terminal(state)).await
            }
            Call::Attach {
                terminal,
                viewer,
                offset,
            } => {
                jobs::check_id(&viewer)?;
                let (attachment, taken) = terminals.get(&terminal)?.attach(viewer, offset)?;
                self.reply(&Reply::Attached {
                    terminal: attachment.terminal.state(),
                    offset: attachment.at(),
                    taken,
                })
                .await?;
                self.attach(&attachment).await
            }
            Call::Resize(_) => Err(Refusal::bad("a window's size is told within Attach").into()),
            Call::Forward { port } => {
                let app = forward::connect(port).await?;
                self.reply(&Reply::Connected).await?;
                forward::carry(self.connection, app).await;
                Ok(())
            }
        }
    }

    async fn run(&mut self, run: Run) -> Result<(), Fault> {
        let job = self.server.jobs.run(&run)?;
        let (wait, output) = (run.wait, run.output);
        drop(run);
        let id = job.id.clone();
        self.reply(&Reply::Started { job: id }).await?;
        if !wait {
            return Ok(());
        }
        tokio::select! {
            () = job.wait() => {}
            // The node says nothing meanwhile; what it may do is leave.
            _ = self.connection.read_u8() => return Err(Fault::Broken),
        }
        self.reply(&Reply::Exited(job.state())).await?;
        if output {
            self.output(&job).await?;
        }
        Ok(())
    }

    async fn output(&mut self, job: &Job) -> Result<(), Fault> {
        let slot = self.server.outputs.acquire().await;
        let (stdout, stderr) = (job.stdout.kept(), job.stderr.kept());
        let metas = Reply::Output {
            stdout: stdout.meta,
            stderr: stderr.meta,
        };
        self.reply(&metas).await?;
        for (kind, kept) in [(FrameKind::Data, stdout), (FrameKind::DataErr, stderr)] {
            for part in kept.parts {
                for chunk in part.chunks(MAX_FRAME) {
                    bounded(write_frame(self.connection, kind, chunk)).await?;
                }
            }
        }
        drop(slot);
        self.end().await
    }

    /// One change of a file, whatever its call brings along.
    async fn change(&mut self, call: Call, recent: Option<&mut Recent>) -> Result<u64, Fault> {
        let files = &self.server.files;
        match (call, recent) {
            (Call::Write(write), Some(recent)) if write.parents => {
                let draft = files.begin_near(&write, recent)?;
                self.write(draft).await
            }
            (Call::Write(write), _) => {
                let draft = files.begin(&write)?;
                self.write(draft).await
            }
            (
                Call::Mkdir {
                    path,
                    parents,
                    mode,
                },
                _,
            ) => Ok(files.mkdir(&path, parents, mode)?),
            (Call::Link { path, target }, _) => Ok(files.link(&path, &target)?),
            _ => Err(Refusal::bad("not a change of a file").into()),
        }
    }

    async fn write(&mut self, mut draft: Draft) -> Result<u64, Fault> {
        loop {
            match bounded(read_frame(self.connection, self.buffer)).await? {
                FrameKind::Data => draft.write(self.buffer)?,
                FrameKind::End => break,
                other => return Err(CodecError::Unexpected(other).into()),
            }
        }
        Ok(self.server.files.commit(draft)?)
    }

    async fn batch(&mut self) -> Result<(), Fault> {
        let mut done = 0;
        let mut recent = Recent::default();
        loop {
            match bounded(read_frame(self.connection, self.buffer)).await? {
                FrameKind::Call => {}
                FrameKind::End => break,
                other => return Err(CodecError::Unexpected(other).into()),
            }
            let call = serde_json::from_slice(self.buffer).map_err(CodecError::Malformed)?;
            match self.change(call, Some(&mut recent)).await {
                Ok(_) => done += 1,
                Err(Fault::Refused(Refusal { kind, message })) => {
                    let message = message.into_owned();
                    let refused = Some(Reason { kind, message });
                    return self.reply(&Reply::Batch { done, refused }).await;
                }
                Err(fault) => return Err(fault),
            }
            // Others' calls go on meanwhile.
            tokio::task::consume_budget().await;
        }
        let refused = None;
        self.reply(&Reply::Batch { done, refused }).await
    }

    async fn list<T: Clone>(
        &mut self,
        entries: &[T],
        reply: impl Fn(Vec<T>) -> Reply,
    ) -> Result<(), Fault> {
        for batch in entries.chunks(BATCH) {
            self.reply(&reply(batch.to_vec())).await?;
        }
        self.end().await
    }

    pub async fn reply(&mut self, reply: &Reply) -> Result<(), Fault> {
        let write = write_json(self.connection, FrameKind::Reply, reply, self.buffer);
        bounded(write).await
    }

    pub async fn end(&mut self) -> Result<(), Fault> {
        bounded(write_frame(self.connection, FrameKind::End, &[])).await
    }
}

/// A frame's time: a node that is silent for longer is gone.
pub async fn bounded<T>(frame: impl Future<Output = Result<T, CodecError>>) -> Result<T, Fault> {
    match tokio::time::timeout(timing::BODY_SILENCE, frame).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Fault::Broken),
    }
}
