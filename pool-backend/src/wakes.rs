//! The last wakes of this node, for operators to look at: newest last, in memory only.
//!
//! Must never happen here: growth, or a wait of the wake that is noted.

use std::collections::VecDeque;
use std::time::Duration;

use fleet::directory::WakeCause;
use fleet::id::{OwnerId, ProjectId, WorkspaceId};
use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::metrics::{Outcome, cause_name};

/// So many are remembered.
pub const WAKES_KEPT: usize = 200;

/// A workspace was needed while it did not run.
#[derive(Debug, Clone)]
pub struct Wake {
    /// When it ended.
    pub at: OffsetDateTime,
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub project: ProjectId,
    /// Whose.
    pub owner: OwnerId,
    /// Who needed it: `visit`, `api`, `file_write`, `create` or `explicit`.
    pub cause: &'static str,
    /// `memory`, `volume`, `thaw`, `start` or `failed`.
    pub outcome: &'static str,
    /// From the driver's beginning to its end.
    pub took: Duration,
    /// Why it failed; safe to show.
    pub problem: Option<String>,
}

/// How a wake ended, and when it began.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    pub(crate) problem: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RecentWakes(Mutex<VecDeque<Wake>>);

impl RecentWakes {
    pub(crate) fn note(
        &self,
        (workspace, owner, project): (&WorkspaceId, &OwnerId, &ProjectId),
        cause: Option<WakeCause>,
        ended: Ended,
    ) {
        let wake = Wake {
            at: OffsetDateTime::now_utc(),
            workspace: workspace.clone(),
            project: project.clone(),
            owner: owner.clone(),
            cause: cause_name(cause),
            outcome: ended.outcome.name(),
            took: ended.took,
            problem: ended.problem,
        };
        let mut kept = self.0.lock();
        if kept.len() == WAKES_KEPT {
            kept.pop_front();
        }
        kept.push_back(wake);
    }

    /// Newest first, at most `most`.
    pub(crate) fn newest(&self, most: usize) -> Vec<Wake> {
        self.0.lock().iter().rev().take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let recent = RecentWakes::default();
        let (workspace, owner) = (WorkspaceId::mint(), OwnerId::mint());
        let project: ProjectId = "demo".parse().unwrap();
        for millis in 0..WAKES_KEPT as u64 + 5 {
            let ended = Ended {
                outcome: Outcome::Thawed,
                took: Duration::from_millis(millis),
                problem: None,
            };
            recent.note((&workspace, &owner, &project), Some(WakeCause::Api), ended);
        }
        let newest = recent.newest(1000);
        assert_eq!(newest.len(), WAKES_KEPT);
        assert_eq!(newest[0].took, Duration::from_millis(WAKES_KEPT as u64 + 4));
        assert_eq!((newest[0].cause, newest[0].outcome), ("api", "thaw"));
        assert_eq!(recent.newest(2).len(), 2);
    }
}
