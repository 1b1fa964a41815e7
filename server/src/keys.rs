//! API keys: minted, checked, revoked. A key's secret exists in its holder's hands and, for the
//! first one, in `DATA/api-key`; here there is only its SHA-256.
//!
//! Must never happen here: an acknowledgement before the record is durable; a node that nobody
//! can manage because its last admin key is gone.

mod first;
mod routes;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use agent_api::{Caller, KeyUsage};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use fleet::id::{KeyId, OwnerId};
use fleet::record::{KeyRecord, OwnerRecord, RecordError, RecordStore};
use parking_lot::RwLock;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

pub(crate) use routes::routes;

/// Requests of one key at a time; commands that run long count for as long.
const SLOTS: usize = 128;
/// Longest text that may be a key.
const KEY_MAX: usize = 256;
const KEY_PREFIX: &str = "fleeks_sk_";

/// Why keys could not be read or stored. Safe to show.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// `DATA/api-key`.
    #[error("the key file cannot be used: {0}")]
    KeyFile(String),
    /// Records of keys are there, and none can be read.
    #[error("no key can be read, but {0} damaged records are there; repair or remove them")]
    Damaged(usize),
    /// No such key.
    #[error("no such key")]
    Absent,
    /// The first owner's last valid key.
    #[error("this is the last valid key of the first owner; create another before you revoke it")]
    LastAdmin,
    /// Not a name for an owner.
    #[error("owner_name must have 1 to 100 characters, none of them a control character")]
    BadName,
}

/// All keys and owners of this data dir.
pub struct KeyStore {
    records: RecordStore,
    data_dir: PathBuf,
    index: RwLock<Index>,
    /// Changes come one at a time: they look, write, and only then show.
    writer: Mutex<()>,
}

#[derive(Default)]
struct Index {
    keys: HashMap<[u8; 32], Arc<Entry>>,
    owners: Vec<OwnerRecord>,
}

/// A key as it is checked against.
pub(crate) struct Entry {
    hash: [u8; 32],
    record: KeyRecord,
    owner_name: Arc<str>,
    usage: Arc<KeyUsage>,
    slots: Arc<Semaphore>,
}

/// What a presented key is.
pub(crate) enum Verdict {
    Valid(Arc<Entry>),
    Revoked,
    Unknown,
}

/// A key that was just made: the only time that its secret is seen.
pub(crate) struct Minted {
    pub(crate) secret: String,
    pub(crate) record: KeyRecord,
    pub(crate) owner_name: Arc<str>,
}

impl Entry {
    fn new(hash: [u8; 32], record: KeyRecord, owner_name: Arc<str>) -> Self {
        Self {
            hash,
            record,
            owner_name,
            usage: Arc::default(),
            slots: Arc::new(Semaphore::new(SLOTS)),
        }
    }

    pub(crate) fn usage(&self) -> &KeyUsage {
        &self.usage
    }

    /// `None`: all are taken.
    pub(crate) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    pub(crate) fn caller(&self, keys: &KeyStore) -> Caller {
        Caller {
            owner: self.record.owner.clone(),
            owner_name: Arc::clone(&self.owner_name),
            key: self.record.id.clone(),
            key_created_at: self.record.created_at,
            admin: keys.is_admin(&self.record.owner),
            usage: Arc::clone(&self.usage),
        }
    }
}

impl KeyStore {
    /// Reads all keys; on the first start makes the owner `default` and its key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn open(records: RecordStore, data_dir: PathBuf) -> Result<Self, KeyError> {
        let index = first::load(&records, &data_dir).await?;
        Ok(Self {
            records,
            data_dir,
            index: RwLock::new(index),
            writer: Mutex::new(()),
        })
    }

    /// Where the first key's secret is.
    pub fn key_file(&self) -> PathBuf {
        first::key_file(&self.data_dir)
    }

    pub(crate) fn check(&self, secret: &str) -> Verdict {
        if secret.len() > KEY_MAX {
            return Verdict::Unknown;
        }
        let hash = hash(secret);
        let index = self.index.read();
        match index.keys.get(&hash) {
            Some(entry) if bool::from(entry.hash.ct_eq(&hash)) => {
                if entry.record.revoked {
                    tracing::info!(key = %entry.record.id, "a revoked key was used");
                    return Verdict::Revoked;
                }
                Verdict::Valid(Arc::clone(entry))
            }
            _ => Verdict::Unknown,
        }
    }

    /// The first owner manages keys.
    fn is_admin(&self, owner: &OwnerId) -> bool {
        let index = self.index.read();
        index.owners.first().is_some_and(|first| first.id == *owner)
    }

    /// A new key of the owner with this name (made if there is none), or of `owner`.
    pub(crate) async fn create(
        &self,
        owner: &OwnerId,
        owner_name: Option<&str>,
    ) -> Result<Minted, KeyError> {
        let _writer = self.writer.lock().await;
        let owner = match owner_name {
            None => self
                .owner(|known| known.id == *owner)
                .ok_or(KeyError::Absent)?,
            Some(name) => match self.owner(|known| known.name == name) {
                Some(known) => known,
                None => self.create_owner(name).await?,
            },
        };
        let secret = mint_secret();
        let hash = hash(&secret);
        let record = key_record(&owner.id, &hash);
        self.records.save_key(&record).await?;
        let owner_name: Arc<str> = owner.name.into();
        let entry = Entry::new(hash, record.clone(), Arc::clone(&owner_name));
        self.index.write().keys.insert(hash, Arc::new(entry));
        Ok(Minted {
            secret,
            record,
            owner_name,
        })
    }

    fn owner(&self, matches: impl Fn(&OwnerRecord) -> bool) -> Option<OwnerRecord> {
        let index = self.index.read();
        index.owners.iter().find(|owner| matches(owner)).cloned()
    }

    async fn create_owner(&self, name: &str) -> Result<OwnerRecord, KeyError> {
        let length = name.chars().count();
        if !(1..=100).contains(&length) || name.contains(char::is_control) || name.trim() != name {
            return Err(KeyError::BadName);
        }
        let owner = OwnerRecord {
            id: OwnerId::mint(),
            name: name.to_owned(),
            created_at: OffsetDateTime::now_utc(),
        };
        self.records.save_owner(&owner).await?;
        self.index.write().owners.push(owner.clone());
        Ok(owner)
    }

    /// Every key, oldest first.
    pub(crate) fn list(&self) -> Vec<(KeyRecord, Arc<str>)> {
        let index = self.index.read();
        let entries = index.keys.values();
        let mut all: Vec<_> = entries
            .map(|entry| (entry.record.clone(), Arc::clone(&entry.owner_name)))
            .collect();
        all.sort_by(|(a, _), (b, _)| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// Ends a key. It is refused from the moment that this returns; again is fine.
    pub(crate) async fn revoke(&self, id: &KeyId) -> Result<(), KeyError> {
        let _writer = self.writer.lock().await;
        let entry = {
            let index = self.index.read();
            let found = index.keys.values().find(|entry| entry.record.id == *id);
            Arc::clone(found.ok_or(KeyError::Absent)?)
        };
        if entry.record.revoked {
            return Ok(());
        }
        if self.is_last_admin(&entry.record) {
            return Err(KeyError::LastAdmin);
        }
        let mut record = entry.record.clone();
        record.revoked = true;
        self.records.save_key(&record).await?;
        let revoked = Entry::new(entry.hash, record, Arc::clone(&entry.owner_name));
        self.index
            .write()
            .keys
            .insert(entry.hash, Arc::new(revoked));
        Ok(())
    }

    fn is_last_admin(&self, record: &KeyRecord) -> bool {
        let admin = self.is_admin(&record.owner);
        let index = self.index.read();
        let others = index.keys.values().any(|entry| {
            let other = &entry.record;
            other.owner == record.owner && other.id != record.id && !other.revoked
        });
        admin && !others
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 256 random bits as 52 letters.
fn mint_secret() -> String {
    let bits: [u8; 32] = rand::rng().random();
    let letters = BASE32_NOPAD.encode(&bits).to_ascii_lowercase();
    format!("{KEY_PREFIX}{letters}")
}

fn key_record(owner: &OwnerId, hash: &[u8; 32]) -> KeyRecord {
    KeyRecord {
        id: KeyId::mint(),
        owner: owner.clone(),
        sha256: HEXLOWER.encode(hash),
        created_at: OffsetDateTime::now_utc(),
        revoked: false,
    }
}

#[cfg(test)]
mod tests;
