//! Events that outlive their connection: when it breaks, they go on over another one where they were.
//!
//! Must never happen here: an event told twice, or attempts without an end.

use fleet::timing;

use crate::client::{ClientError, Event, Events};
use crate::session::{Failure, Session};

/// Attempts in a row to come back after the connection broke.
const ATTEMPTS: u32 = 5;

/// Events of one address.
pub(super) struct Stream<'a> {
    session: &'a Session,
    path: String,
    events: Option<Events>,
    /// Heard last: there it goes on.
    last: Option<String>,
    /// What is told of is known to be there, so that not even the first attempt is the last one.
    begun: bool,
    /// In a row.
    failures: u32,
}

impl<'a> Stream<'a> {
    pub(super) fn new(session: &'a Session, path: String) -> Self {
        Self {
            session,
            path,
            events: None,
            last: None,
            begun: false,
            failures: 0,
        }
    }

    /// Of something that has begun.
    pub(super) fn of_begun(session: &'a Session, path: String) -> Self {
        Self {
            begun: true,
            ..Self::new(session, path)
        }
    }

    /// The next event. Dropped while it waits, it loses none, but makes a new connection if it was
    /// just making one.
    ///
    /// # Errors
    /// It never began, it was refused, or the connection is lost for good.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let broken = match self.attempt().await {
                Ok(event) => {
                    self.failures = 0;
                    if event.id.is_some() {
                        self.last.clone_from(&event.id);
                    }
                    return Ok(event);
                }
                Err(broken) => broken,
            };
            self.events = None;
            self.failures += 1;
            let refused = matches!(broken, ClientError::Refused { .. });
            if refused || !self.begun || self.failures >= ATTEMPTS {
                return Err(broken.into());
            }
            tokio::time::sleep(timing::REMOTE_LOOK * self.failures).await;
        }
    }

    async fn attempt(&mut self) -> Result<Event, ClientError> {
        let events = match &mut self.events {
            Some(events) => events,
            none => {
                let made = self.session.client.events(&self.path, self.last.as_deref());
                let made = made.await?;
                self.begun = true;
                none.insert(made)
            }
        };
        let event = events.next().await?;
        event.ok_or_else(|| ClientError::Broken("the stream ended".to_owned()))
    }
}
