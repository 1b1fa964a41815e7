//! A viewer's connection to a terminal: output one way, input and the window's size the other.
//!
//! Must never happen here: one direction that waits for the other.

use init_protocol::codec::{CodecError, read_frame, write_frame, write_json};
use init_protocol::{Call, FrameKind, Reply};
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::Fault;
use super::calls::{Exchange, bounded};
use crate::terminals::{Attachment, Sight};

impl Exchange<'_> {
    /// Until the viewer leaves, or the program has exited and all was seen.
    pub(super) async fn attach(&mut self, attachment: &Attachment) -> Result<(), Fault> {
        let (mut reading, mut writing) = tokio::io::split(&mut *self.connection);
        let (took, taken) = watch::channel(None);
        let hear = async {
            let mut buffer = Vec::new();
            loop {
                match read_frame(&mut reading, &mut buffer).await? {
                    FrameKind::Data => {
                        let total = attachment.take(&buffer).await;
                        took.send_replace(Some(total));
                    }
                    FrameKind::Call => {
                        let Ok(Call::Resize(size)) = serde_json::from_slice(&buffer) else {
                            return Err(CodecError::Unexpected(FrameKind::Call).into());
                        };
                        attachment.terminal.resize(size);
                    }
                    other => return Err::<(), Fault>(CodecError::Unexpected(other).into()),
                }
            }
        };
        tokio::select! {
            heard = hear => heard,
            said = say(&mut writing, attachment, taken) => said,
        }
    }
}

async fn say<W>(
    writing: &mut W,
    attachment: &Attachment,
    mut taken: watch::Receiver<Option<u64>>,
) -> Result<(), Fault>
where
    W: AsyncWrite + Unpin,
{
    let (mut output, mut buffer) = (Vec::new(), Vec::new());
    loop {
        let reply = tokio::select! {
            biased;
            // Its sender lives as long as we do.
            Ok(()) = taken.changed() => {
                let Some(bytes) = *taken.borrow_and_update() else {
                    continue;
                };
                Reply::Taken { bytes }
            }
            sight = attachment.next(&mut output) => match sight {
                Sight::Output => {
                    bounded(write_frame(writing, FrameKind::Data, &output)).await?;
                    continue;
                }
                Sight::Gap(bytes) => Reply::Gap { bytes },
                Sight::End => break,
            },
        };
        bounded(write_json(writing, FrameKind::Reply, &reply, &mut buffer)).await?;
    }
    let ended = Reply::Terminal(attachment.terminal.state());
    bounded(write_json(writing, FrameKind::Reply, &ended, &mut buffer)).await?;
    bounded(write_frame(writing, FrameKind::End, &[])).await
}
