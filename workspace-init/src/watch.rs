//! Tells the node what changes in the workspace: inotify on every directory.
//!
//! What is lost is said to be lost. The kernel queues while the node reads slowly, and says when it
//! could not; nothing grows here. The inotify is gone when the call ends: a checkpoint never
//! meets it.
//!
//! Must never happen here: a turn without an end (directories of any size are read in parts), a
//! symlink followed, or memory for more than `init_protocol::MAX_WATCHED` directories.

mod batch;
mod event;
mod tree;
mod writes;

use std::io::ErrorKind;
use std::path::Path;

use init_protocol::codec::read_frame;
use init_protocol::{Change, FrameKind, Lost, RefusalKind, Reply};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::refusal::Refusal;
use crate::server::{Exchange, Fault, bounded};
use crate::timing;
use batch::Batch;
use event::{Event, events};
use tree::Tree;
pub use writes::{Way, Writes};

/// Bytes of events read at once.
const READ: usize = 4096;
/// Entries of directories read at once.
const SCAN: usize = 64;
/// Reads between two turns of other calls.
const TURN: u32 = 8;

/// Answers a `Watch`.
pub async fn run(exchange: &mut Exchange<'_>, root: &Path, writes: &Writes) -> Result<(), Fault> {
    let _heard = writes.hear();
    let mut watch = Watch::open(root, writes)?;
    watch.look_around().await;
    let mut incomplete = watch.tree.is_full();
    let directories = u32::try_from(watch.tree.len()).unwrap_or(u32::MAX);
    exchange
        .reply(&Reply::Watching {
            directories,
            incomplete,
        })
        .await?;
    loop {
        let leaving = tokio::select! {
            biased;
            readable = watch.inotify.readable() => {
                readable.map_err(|_| Fault::Broken)?;
                false
            }
            () = tokio::time::sleep(timing::COALESCE), if watch.batch.is_open() => false,
            // Cancel safe, unlike reading a frame.
            here = exchange.connection.fill_buf() => match here {
                Ok([_, ..]) => true,
                _ => return Err(Fault::Broken),
            },
        };
        if leaving {
            match bounded(read_frame(exchange.connection, exchange.buffer)).await? {
                FrameKind::End => {}
                _ => return Err(Refusal::bad("a frame has no place in a watch").into()),
            }
        } else {
            // What belongs together comes together: a file made and filled, a rename's two ends.
            tokio::time::sleep(timing::COALESCE).await;
        }
        loop {
            let more = watch.read().await?;
            let changes = watch.take();
            let mut lost = watch.lost.take();
            if watch.tree.is_full() && !incomplete {
                incomplete = true;
                lost = lost.or(Some(Lost::Directories));
            }
            tell(exchange, changes, lost).await?;
            if !more {
                break;
            }
        }
        if leaving {
            // Before the node hears that it may let us stand still.
            drop(watch);
            return exchange.end().await;
        }
    }
}

/// In replies that are no longer than a frame may be.
async fn tell(
    exchange: &mut Exchange<'_>,
    changes: Vec<Change>,
    mut lost: Option<Lost>,
) -> Result<(), Fault> {
    let mut rest = changes.into_iter().peekable();
    while rest.peek().is_some() || lost.is_some() {
        let changes = batch::some(&mut rest);
        // What is lost was lost before what is left.
        let lost = lost.take();
        exchange.reply(&Reply::Changes { changes, lost }).await?;
    }
    Ok(())
}

struct Watch<'a> {
    root: &'a Path,
    writes: &'a Writes,
    /// An inotify; it is read as a pipe is.
    inotify: Receiver,
    tree: Tree,
    batch: Batch,
    buffer: Vec<u8>,
    lost: Option<Lost>,
}

impl<'a> Watch<'a> {
    fn open(root: &'a Path, writes: &'a Writes) -> Result<Self, Refusal> {
        use rustix::fs::inotify::{CreateFlags, init};
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inotify = Receiver::from_owned_fd_unchecked(fd);
        let inotify = inotify.map_err(|error| Refusal::failed("no watch", &error))?;
        let mut tree = Tree::new(root);
        if !tree.add_root(&inotify) {
            let message = "the kernel has no room for a watch (fs.inotify.max_user_watches)";
            return Err(Refusal::new(RefusalKind::TooMany, message));
        }
        Ok(Self {
            root,
            writes,
            inotify,
            tree,
            batch: Batch::default(),
            buffer: vec![0; READ],
            lost: None,
        })
    }

    /// Watches all directories that are there. Nobody is told of what is in them.
    async fn look_around(&mut self) {
        while self.scan() {
            tokio::task::yield_now().await;
        }
    }

    fn scan(&mut self) -> bool {
        let (batch, writes) = (&mut self.batch, self.writes);
        self.tree.scan(&self.inotify, SCAN, batch, writes)
    }

    /// Takes in what happened, until nothing is left or the batch is full: then true.
    async fn read(&mut self) -> Result<bool, Fault> {
        let mut turns = 0;
        loop {
            let scanning = self.scan();
            let read = match self.inotify.try_read(&mut self.buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Fault::Broken),
            };
            let mut overflown = false;
            for event in events(&self.buffer[..read]) {
                let (tree, batch) = (&mut self.tree, &mut self.batch);
                overflown |= event == Event::Lost;
                event.apply(&self.inotify, tree, batch, self.writes);
            }
            if overflown {
                self.begin_anew().await?;
            }
            if self.batch.is_full() {
                return Ok(true);
            }
            if read == 0 && !scanning {
                self.batch.caught_up();
                return Ok(false);
            }
            turns += 1;
            if turns % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What the node shall hear now.
    fn take(&mut self) -> Vec<Change> {
        let (changes, gone) = self.batch.take();
        for watch in gone {
            self.tree.drop_below(&self.inotify, watch);
        }
        changes
    }

    /// After a loss nothing is certain, which directories there are included.
    async fn begin_anew(&mut self) -> Result<(), Refusal> {
        let fresh = Watch::open(self.root, self.writes)?;
        (self.inotify, self.tree) = (fresh.inotify, fresh.tree);
        self.batch.settle();
        self.writes.forget();
        self.look_around().await;
        self.lost = Some(Lost::Queue);
        Ok(())
    }
}
