//! What a workspace shows to visitors, and to whom: its previews and its share links.
//!
//! Must never happen here: a secret. A share link's token is made of its id and a key that is
//! elsewhere; see [`crate::share`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::{JobId, LinkId, PreviewId};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Showing {
    /// Oldest first; some that were stopped are kept.
    pub previews: Vec<PreviewRecord>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Share links that were neither revoked nor cleared away.
    pub links: Vec<ShareLink>,
}

impl Showing {
    /// The port that its address shows: the youngest running preview's, if that is known.
    pub fn main_port(&self) -> Option<u16> {
        let youngest = self.active().last()?;
        (!youngest.port_guessed).then_some(youngest.port)
    }

    /// Those whose port is known, the youngest first: the main one is the first of them whose app has
    /// not ended.
    pub fn shown(&self) -> impl Iterator<Item = &PreviewRecord> {
        let active = self.active().rev();
        active.filter(|preview| !preview.port_guessed)
    }

    /// Previews that were not stopped.
    pub fn active(&self) -> impl DoubleEndedIterator<Item = &PreviewRecord> {
        self.previews
            .iter()
            .filter(|preview| preview.stopped_at.is_none())
    }

    /// What a gateway has to know; none: everybody may see it.
    pub fn private(&self) -> Option<Arc<Private>> {
        match self.visibility {
            Visibility::Public => None,
            Visibility::Private => {
                let links = self.links.iter().map(|link| link.id.clone()).collect();
                Some(Arc::new(Private { links }))
            }
        }
    }
}

/// Who may see a workspace's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Whoever knows its address, which cannot be guessed.
    #[default]
    Public,
    /// Whoever came by a share link.
    Private,
}

/// Who may see a private workspace: the cacheable part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Private {
    /// Links that were not revoked. When they expire is in their tokens.
    pub links: Vec<LinkId>,
}

/// A way in for whoever has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLink {
    /// Its name.
    pub id: LinkId,
    /// The one port; none: whatever the workspace's own address shows.
    pub port: Option<u16>,
    /// For people.
    pub label: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// An app that is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewRecord {
    /// Its name.
    pub id: PreviewId,
    /// Where the app listens.
    pub port: u16,
    /// Nobody said so: where something listens is the port.
    #[serde(default)]
    pub port_guessed: bool,
    /// What it is made with, in the API's words.
    pub framework: String,
    /// Found by looking at the files.
    pub auto_detected: bool,
    /// What starts it; none if somebody else does.
    pub command: Option<String>,
    /// For the command.
    pub environment: Vec<(String, String)>,
    /// Where health is asked.
    pub health_path: String,
    /// The job that runs the command, in whatever generation.
    pub job: Option<JobId>,
    /// When it was first asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its command was last started by request.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it was stopped.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub stopped_at: Option<OffsetDateTime>,
}

/// Without the environment: people put secrets there.
impl std::fmt::Debug for PreviewRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreviewRecord")
            .field("id", &self.id)
            .field("port", &self.port)
            .field("framework", &self.framework)
            .field("stopped_at", &self.stopped_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(port: u16, stopped: bool) -> PreviewRecord {
        PreviewRecord {
            id: PreviewId::mint(),
            port,
            port_guessed: false,
            framework: "flask".to_owned(),
            auto_detected: false,
            command: Some("true".to_owned()),
            environment: vec![("TOKEN".to_owned(), "secret".to_owned())],
            health_path: "/".to_owned(),
            job: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            started_at: OffsetDateTime::UNIX_EPOCH,
            stopped_at: stopped.then_some(OffsetDateTime::UNIX_EPOCH),
        }
    }

    #[test]
    fn the_youngest_running_preview_has_the_main_port() {
        let mut showing = Showing::default();
        assert_eq!(showing.main_port(), None);
        showing.previews = vec![preview(1, false), preview(2, false), preview(3, true)];
        assert_eq!(showing.main_port(), Some(2));
    }

    #[test]
    fn no_secret_is_logged() {
        assert!(!format!("{:?}", preview(1, false)).contains("secret"));
    }

    #[test]
    fn older_records_are_public() {
        let showing: Showing = serde_json::from_str("{}").unwrap();
        assert_eq!(showing, Showing::default());
        assert!(showing.private().is_none());
    }
}
