//! What an owner may have: workspaces, running ones, disk. Nothing is counted for owners without a
//! quota.
//!
//! What is written inside a container cannot be stopped here; it counts, and when the disk is used
//! up, writes and new workspaces through the API are refused until something is deleted.
//!
//! Must never happen here: two calls at once that both take the last place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fleet::id::{OwnerId, WorkspaceId};
use fleet::lifecycle::State;
use fleet::record::Quota;
use fleet::timing;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::driver::Handle;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};

const MIB: u64 = 1 << 20;

/// See the module.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<HashMap<OwnerId, Arc<Account>>>);

/// An owner with a quota.
struct Account {
    quota: Quota,
    /// Workspaces that are being made.
    making: Mutex<usize>,
    /// Workspaces that are allowed to start and do not say yet that they do.
    starting: Mutex<HashSet<WorkspaceId>>,
    /// Disk as last measured; its lock also keeps measurements apart.
    disk: tokio::sync::Mutex<Option<(Instant, u64)>>,
}

/// What an owner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Workspaces.
    pub workspaces: usize,
    /// Those that run, or stand still in memory.
    pub running: usize,
    /// Bytes of their volumes; none where nobody counts them.
    pub disk_bytes: Option<u64>,
}

/// A place that is taken until this is dropped.
pub(crate) struct Place {
    account: Arc<Account>,
    of: Option<WorkspaceId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        match &self.of {
            Some(workspace) => {
                self.account.starting.lock().remove(workspace);
            }
            None => *self.account.making.lock() -= 1,
        }
    }
}

impl Quotas {
    /// From now on.
    pub(crate) fn set(&self, owner: &OwnerId, quota: Quota) {
        let mut accounts = self.0.lock();
        if quota == Quota::default() {
            accounts.remove(owner);
            return;
        }
        let account = Account {
            quota,
            making: Mutex::default(),
            starting: Mutex::default(),
            disk: tokio::sync::Mutex::default(),
        };
        accounts.insert(owner.clone(), Arc::new(account));
    }

    pub(crate) fn get(&self, owner: &OwnerId) -> Quota {
        self.of(owner)
            .map_or_else(Quota::default, |account| account.quota)
    }

    fn of(&self, owner: &OwnerId) -> Option<Arc<Account>> {
        self.0.lock().get(owner).cloned()
    }
}

impl Engine {
    /// What the owner has; disk only where it is counted.
    pub(crate) async fn holdings(&self, owner: &OwnerId) -> Holdings {
        let handles = self.table.of_owner(owner);
        let disk_bytes = match self.quotas.of(owner) {
            Some(account) if account.quota.disk_mib.is_some() => {
                Some(self.disk(&account, owner, timing::QUOTA_FRESH).await)
            }
            _ => None,
        };
        Holdings {
            workspaces: handles.len(),
            running: self.running(owner),
            disk_bytes,
        }
    }

    /// Those that run, or stand still in memory.
    pub(crate) fn running(&self, owner: &OwnerId) -> usize {
        let handles = self.table.of_owner(owner);
        handles.iter().filter(|handle| runs(handle)).count()
    }

    /// A place for one more workspace, which will run at once.
    ///
    /// # Errors
    /// `Forbidden`, `NoSpace`.
    pub(crate) async fn place_for_new(&self, owner: &OwnerId) -> Result<Option<Place>, Error> {
        let Some(account) = self.quotas.of(owner) else {
            return Ok(None);
        };
        self.left_to_write(owner, false).await?;
        let mut making = account.making.lock();
        let handles = self.table.of_owner(owner);
        if let Some(most) = account.quota.workspaces
            && handles.len() + *making >= at_most(most)
        {
            return Err(used_up("workspaces", most));
        }
        if let Some(most) = account.quota.running {
            let starting = account.starting.lock();
            let run = handles.iter().filter(|handle| counts(handle, &starting));
            if run.count() + *making >= at_most(most) {
                return Err(used_up("running workspaces", most));
            }
        }
        *making += 1;
        drop(making);
        Ok(Some(Place { account, of: None }))
    }

    /// Whether a workspace may start now.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn place_to_run(&self, handle: &Handle) -> Result<Option<Place>, Error> {
        let owner = &handle.identity().owner;
        let Some(account) = self.quotas.of(owner) else {
            return Ok(None);
        };
        let Some(most) = account.quota.running else {
            return Ok(None);
        };
        let making = account.making.lock();
        let mut starting = account.starting.lock();
        let others = self.table.of_owner(owner);
        let others = others
            .iter()
            .filter(|other| other.id() != handle.id() && counts(other, &starting));
        // A new one is not in the table yet while it is made.
        let new = usize::from(self.table.by_id(handle.id()).is_none());
        if others.count() + making.saturating_sub(new) >= at_most(most) {
            return Err(used_up("running workspaces", most));
        }
        starting.insert(handle.id().clone());
        drop((making, starting));
        let of = Some(handle.id().clone());
        Ok(Some(Place { account, of }))
    }

    /// Bytes that the owner may still write; none where nobody counts them. `again`: measured now,
    /// so that what was deleted, and what is being written, counts.
    ///
    /// # Errors
    /// `NoSpace` when there are none left.
    pub(crate) async fn left_to_write(
        &self,
        owner: &OwnerId,
        again: bool,
    ) -> Result<Option<u64>, Error> {
        let Some(account) = self.quotas.of(owner) else {
            return Ok(None);
        };
        let Some(most) = account.quota.disk_mib else {
            return Ok(None);
        };
        let limit = most.saturating_mul(MIB);
        let fresh = if again {
            std::time::Duration::ZERO
        } else {
            timing::QUOTA_FRESH
        };
        let mut used = self.disk(&account, owner, fresh).await;
        if used >= limit {
            // What was deleted since must count before anybody is refused.
            used = self.disk(&account, owner, timing::QUOTA_AGAIN).await;
        }
        match limit.saturating_sub(used) {
            0 => Err(disk_used_up(most)),
            left => Ok(Some(left)),
        }
    }

    /// What to tell an owner who has written all that the disk quota allows.
    pub(crate) fn disk_is_used_up(&self, owner: &OwnerId) -> Error {
        disk_used_up(self.quotas.get(owner).disk_mib.unwrap_or_default())
    }

    /// What is known of its disk is not true any more.
    pub(crate) async fn measure_again(&self, owner: &OwnerId) {
        if let Some(account) = self.quotas.of(owner) {
            *account.disk.lock().await = None;
        }
    }

    /// Counts bytes that were just written, until the disk is measured again.
    pub(crate) async fn wrote(&self, owner: &OwnerId, bytes: u64) {
        let Some(account) = self.quotas.of(owner) else {
            return;
        };
        if let Some((_, known)) = &mut *account.disk.lock().await {
            *known = known.saturating_add(bytes);
        }
    }

    /// Bytes of all the owner's volumes, not measured longer ago than `fresh`.
    async fn disk(&self, account: &Account, owner: &OwnerId, fresh: std::time::Duration) -> u64 {
        let mut known = account.disk.lock().await;
        if let Some((at, bytes)) = *known
            && at.elapsed() < fresh
        {
            return bytes;
        }
        let handles = self.table.of_owner(owner);
        let volumes: Vec<_> = handles
            .iter()
            .map(|handle| self.launcher.volume(handle.id()))
            .collect();
        let mut bytes = 0_u64;
        for volume in volumes {
            // One that is being removed counts no more.
            let usage = volume.usage().await.unwrap_or_default();
            bytes = bytes.saturating_add(usage.bytes);
        }
        *known = Some((Instant::now(), bytes));
        bytes
    }
}

fn runs(handle: &Handle) -> bool {
    match handle.status().state {
        State::Starting
        | State::Running
        | State::Freezing
        | State::Frozen
        | State::Hibernating
        | State::Waking => true,
        State::Stopped | State::Hibernated | State::Failed | State::Deleted => false,
    }
}

fn counts(handle: &Handle, starting: &HashSet<WorkspaceId>) -> bool {
    runs(handle) || starting.contains(handle.id())
}

fn disk_used_up(most: u64) -> Error {
    let message = format!("the disk quota of {most} MiB is used up; delete files first");
    Error::new(ErrorKind::NoSpace, message)
}

fn at_most(most: u32) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

fn used_up(what: &str, most: u32) -> Error {
    let message = format!("the quota of {most} {what} is used up; ask for more, or end some");
    Error::new(ErrorKind::Forbidden, message)
}
