//! Output of a job, printed by a thread of its own: a reader that is slow, or reads no more, does not
//! keep us from hearing signals.
//!
//! Must never happen here: an end that waits for a reader when nobody asked for it.

use tokio::sync::{mpsc, oneshot};

use super::logs::{self, Part};
use crate::session::Failure;

/// Parts that may wait: the platform is read no faster than we are.
const WAITING: usize = 4;

/// See the module. Dropped, it prints what waits, if there is still time.
pub(super) struct Printer {
    parts: mpsc::Sender<Part>,
    printed: oneshot::Receiver<Result<(), Failure>>,
}

impl Printer {
    pub(super) fn start() -> Self {
        let (parts, mut waiting) = mpsc::channel(WAITING);
        let (say, printed) = oneshot::channel();
        std::thread::spawn(move || {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && let Some(part) = waiting.blocking_recv()
            {
                outcome = logs::print(&part);
            }
            // Before `waiting` goes: who finds nobody to give a part to asks why.
            let _ = say.send(outcome);
        });
        Self { parts, printed }
    }

    /// Hands it over.
    ///
    /// # Errors
    /// An earlier part could not be printed.
    pub(super) async fn print(&mut self, part: Part) -> Result<(), Failure> {
        match self.parts.send(part).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failed().await),
        }
    }

    /// Returns when a part could not be printed. Not to be asked again then.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.printed).await {
            Ok(Err(failure)) => failure,
            _ => Failure::Other("printing ended".to_owned()),
        }
    }

    /// Waits until all is printed.
    ///
    /// # Errors
    /// Something could not be printed.
    pub(super) async fn end(self) -> Result<(), Failure> {
        drop(self.parts);
        self.printed.await.unwrap_or(Ok(()))
    }
}
