//! What keys and owners used, written down from time to time in `DATA/usage.json`: a kill loses the
//! counts since the last time, a shutdown none.
//!
//! Must never happen here: a start that fails because of it, or a write on the way of a request.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_api::{Count, Counter, KeyUsage};
use fleet::durable;
use fleet::id::{KeyId, OwnerId};
use fleet::timing;
use pool_backend::Workspaces;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::KeyStore;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Book {
    #[serde(with = "time::serde::rfc3339")]
    written_at: OffsetDateTime,
    keys: BTreeMap<KeyId, KeyPage>,
    owners: BTreeMap<OwnerId, OwnerPage>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyPage {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(default)]
    requests: Count,
    #[serde(default)]
    refused: Count,
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnerPage {
    #[serde(default)]
    running_ms: Count,
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("usage.json")
}

impl Book {
    /// What is there; nothing if it cannot be read. Blocking.
    pub(super) fn read(data_dir: &Path) -> Self {
        let read = durable::read(&file(data_dir));
        let read = read.and_then(|text| Ok(serde_json::from_slice(&text)?));
        read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "usage.json cannot be read; counting begins anew");
            }
            Self {
                written_at: OffsetDateTime::now_utc(),
                keys: BTreeMap::new(),
                owners: BTreeMap::new(),
            }
        })
    }

    pub(super) fn key(&self, id: &KeyId) -> KeyUsage {
        self.keys.get(id).map_or_else(KeyUsage::new, |page| {
            KeyUsage::resume(page.since, page.requests, page.refused, self.written_at)
        })
    }

    pub(super) fn owner(&self, id: &OwnerId) -> Counter {
        let page = self.owners.get(id);
        let count = page.map_or_else(Count::default, |page| page.running_ms);
        Counter::resume(count, self.written_at)
    }
}

impl KeyStore {
    /// Counts how long workspaces run, and writes everything down from time to time, and once more
    /// when `end` comes.
    pub(crate) async fn keep_book(&self, workspaces: &Workspaces, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut looked = Instant::now();
        loop {
            let ended = tokio::time::timeout(timing::USAGE_SAVE, &mut end).await;
            let now = Instant::now();
            self.count_running(workspaces, now - looked);
            looked = now;
            if let Err(error) = self.write_book().await {
                tracing::warn!(%error, "usage.json cannot be written");
            }
            if ended.is_ok() {
                return;
            }
        }
    }

    fn count_running(&self, workspaces: &Workspaces, passed: Duration) {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        for owner in &self.index.read().owners {
            let running = workspaces.running(&owner.record.id) as u64;
            owner.running_ms.add(passed.saturating_mul(running));
        }
    }

    async fn write_book(&self) -> io::Result<()> {
        let book = self.book();
        let path = file(&self.data_dir);
        let written = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&book)?;
            durable::write(&path, &text)
        });
        written.await.map_err(io::Error::other)?
    }

    fn book(&self) -> Book {
        let now = OffsetDateTime::now_utc();
        let index = self.index.read();
        let keys = index.keys.values().map(|entry| {
            let usage = &entry.usage;
            let page = KeyPage {
                since: usage.since(),
                requests: usage.requests.look(now),
                refused: usage.refused.look(now),
            };
            (entry.record.id.clone(), page)
        });
        let owners = index.owners.iter().map(|owner| {
            let running_ms = owner.running_ms.look(now);
            (owner.record.id.clone(), OwnerPage { running_ms })
        });
        Book {
            written_at: now,
            keys: keys.collect(),
            owners: owners.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::record::RecordStore;

    #[tokio::test]
    async fn counts_survive_a_restart_and_damage_does_not_stop_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let open = || async {
            let records = RecordStore::open(dir.path()).unwrap();
            KeyStore::open(records, dir.path().to_owned())
                .await
                .unwrap()
        };
        let requests = |keys: &KeyStore| {
            let index = keys.index.read();
            let entry = index.keys.values().next().unwrap();
            entry.usage.requests.look(OffsetDateTime::now_utc()).total
        };
        let keys = open().await;
        keys.index
            .read()
            .keys
            .values()
            .next()
            .unwrap()
            .usage
            .requests
            .add(7);
        keys.write_book().await.unwrap();
        assert_eq!(requests(&open().await), 7);
        std::fs::write(dir.path().join("usage.json"), "{").unwrap();
        assert_eq!(requests(&open().await), 0);
    }
}
