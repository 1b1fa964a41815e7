//! API keys: minted, checked, revoked. A key's secret exists in its holder's hands and, for the
//! first one, in `DATA/api-key`; here there is only its SHA-256.
//!
//! Must never happen here: an acknowledgement before the record is durable; a node that nobody
//! can manage because its last admin key is gone.

mod book;
mod first;
mod places;
mod routes;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_api::{Caller, Count, Counter, KeyFacts, KeyUsage};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use fleet::id::{KeyId, OwnerId};
use fleet::record::{KeyRecord, OwnerRecord, Quota, Rate, RecordError, RecordStore, Scope};
use fleet::timing;
use parking_lot::RwLock;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};

pub(crate) use routes::routes;

use crate::limit::Bucket;
use crate::scope;
use places::Places;

/// Longest text that may be a key.
const KEY_MAX: usize = 256;
/// What keys of other owners than the first may do when nothing else was said.
const OTHERS_RATE: Rate = Rate {
    per_second: 100,
    burst: 500,
};
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
    /// No such owner.
    #[error("no such owner")]
    NoOwner,
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
    /// The clock of the keys' limits.
    opened: Instant,
}

#[derive(Default)]
struct Index {
    keys: HashMap<[u8; 32], Arc<Entry>>,
    /// Oldest first: the first one manages keys.
    owners: Vec<Owner>,
}

impl Index {
    fn is_admin(&self, owner: &OwnerId) -> bool {
        let first = self.owners.first();
        first.is_some_and(|first| first.record.id == *owner)
    }
}

struct Owner {
    record: OwnerRecord,
    running_ms: Arc<Counter>,
}

/// A key as it is checked against.
pub(crate) struct Entry {
    hash: [u8; 32],
    record: KeyRecord,
    owner_name: Arc<str>,
    /// Its owner is the first.
    admin: bool,
    facts: Arc<KeyFacts>,
    bucket: Option<Bucket>,
    usage: Arc<KeyUsage>,
    running_ms: Arc<Counter>,
    /// What it may have at a time.
    pub(crate) places: Places,
    /// It was revoked.
    revoked: watch::Sender<bool>,
}

/// What a new key is good for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) name: Option<String>,
    pub(crate) scopes: Option<Vec<Scope>>,
    pub(crate) rate: Option<Rate>,
    pub(crate) expires_at: Option<OffsetDateTime>,
}

/// What a presented key is.
pub(crate) enum Verdict {
    Valid(Arc<Entry>),
    Revoked,
    Expired,
    Unknown,
}

/// A key that was just made: the only time that its secret is seen.
pub(crate) struct Minted {
    pub(crate) secret: String,
    pub(crate) record: KeyRecord,
    pub(crate) owner_name: Arc<str>,
}

impl Entry {
    fn new(hash: [u8; 32], record: KeyRecord, owner: &Owner, admin: bool, usage: KeyUsage) -> Self {
        let scopes = match &record.scopes {
            Some(scopes) => scopes.clone(),
            None if admin => vec![Scope::Read, Scope::Write, Scope::Exec, Scope::Keys],
            None => vec![Scope::Read, Scope::Write, Scope::Exec],
        };
        let rate = record.rate.or((!admin).then_some(OTHERS_RATE));
        let facts = KeyFacts {
            id: record.id.clone(),
            name: record.name.clone(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            scopes: scopes.into_iter().map(scope::word).collect(),
            rate,
        };
        Self {
            hash,
            record,
            owner_name: owner.record.name.as_str().into(),
            admin,
            facts: Arc::new(facts),
            bucket: rate.map(Bucket::new),
            usage: Arc::new(usage),
            running_ms: Arc::clone(&owner.running_ms),
            places: Places::default(),
            revoked: watch::Sender::new(false),
        }
    }

    pub(crate) fn usage(&self) -> &KeyUsage {
        &self.usage
    }

    /// Whether it is good for that.
    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.facts.scopes.contains(&scope::word(scope))
    }

    /// Takes one of its requests, `now` since the store was opened.
    ///
    /// # Errors
    /// After which time there will be one.
    pub(crate) fn take(&self, now: Duration) -> Result<(), Duration> {
        self.bucket
            .as_ref()
            .map_or(Ok(()), |bucket| bucket.take(now))
    }

    /// Returns when it is no good any more: revoked, or expired. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut revoked = self.revoked.subscribe();
        let expired = async {
            loop {
                let Some(end) = self.record.expires_at else {
                    return std::future::pending().await;
                };
                let left = Duration::try_from(end - OffsetDateTime::now_utc());
                match left {
                    Ok(left) if !left.is_zero() => {
                        // The clock may be set meanwhile.
                        tokio::time::sleep(left.min(timing::EXPIRY_LOOK)).await;
                    }
                    _ => return,
                }
            }
        };
        tokio::select! {
            _ = revoked.wait_for(|revoked| *revoked) => {}
            () = expired => {}
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller {
            owner: self.record.owner.clone(),
            owner_name: Arc::clone(&self.owner_name),
            key: Arc::clone(&self.facts),
            admin: self.admin,
            usage: Arc::clone(&self.usage),
            running_ms: Arc::clone(&self.running_ms),
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
            opened: Instant::now(),
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
                if let Some(end) = entry.record.expires_at
                    && end <= OffsetDateTime::now_utc()
                {
                    return Verdict::Expired;
                }
                Verdict::Valid(Arc::clone(entry))
            }
            _ => Verdict::Unknown,
        }
    }

    /// Whether a key that was valid still is.
    pub(crate) fn is_good(&self, entry: &Entry) -> bool {
        let index = self.index.read();
        let now = index.keys.get(&entry.hash);
        now.is_some_and(|now| {
            let expired = |end| end <= OffsetDateTime::now_utc();
            !now.record.revoked && !now.record.expires_at.is_some_and(expired)
        })
    }

    /// Time on the clock of the keys' limits.
    pub(crate) fn clock(&self) -> Duration {
        self.opened.elapsed()
    }

    fn is_admin(&self, owner: &OwnerId) -> bool {
        self.index.read().is_admin(owner)
    }

    /// A new key of the owner with this name (made if there is none), or of `owner`.
    pub(crate) async fn create(
        &self,
        owner: &OwnerId,
        owner_name: Option<&str>,
        terms: Terms,
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
        let record = key_record(&owner.id, &hash, terms);
        self.records.save_key(&record).await?;
        self.show(hash, record.clone(), KeyUsage::new());
        Ok(Minted {
            secret,
            record,
            owner_name: owner.name.into(),
        })
    }

    /// Puts a recorded key into the index.
    fn show(&self, hash: [u8; 32], record: KeyRecord, usage: KeyUsage) {
        let mut index = self.index.write();
        let admin = index.is_admin(&record.owner);
        let mut owners = index.owners.iter();
        let Some(owner) = owners.find(|owner| owner.record.id == record.owner) else {
            return;
        };
        let entry = Entry::new(hash, record, owner, admin, usage);
        index.keys.insert(hash, Arc::new(entry));
    }

    fn owner(&self, matches: impl Fn(&OwnerRecord) -> bool) -> Option<OwnerRecord> {
        let index = self.index.read();
        let mut owners = index.owners.iter().map(|owner| &owner.record);
        owners.find(|owner| matches(owner)).cloned()
    }

    async fn create_owner(&self, name: &str) -> Result<OwnerRecord, KeyError> {
        let length = name.chars().count();
        if !(1..=100).contains(&length) || name.contains(char::is_control) || name.trim() != name {
            return Err(KeyError::BadName);
        }
        let record = OwnerRecord {
            id: OwnerId::mint(),
            name: name.to_owned(),
            created_at: OffsetDateTime::now_utc(),
            quota: Quota::default(),
        };
        self.records.save_owner(&record).await?;
        self.index.write().owners.push(Owner {
            record: record.clone(),
            running_ms: Arc::new(Counter::resume(Count::default(), record.created_at)),
        });
        Ok(record)
    }

    /// Every owner, oldest first.
    pub(crate) fn owners(&self) -> Vec<OwnerRecord> {
        let index = self.index.read();
        let owners = index.owners.iter();
        owners.map(|owner| owner.record.clone()).collect()
    }

    /// What an owner may have from now on.
    pub(crate) async fn set_quota(
        &self,
        id: &OwnerId,
        quota: Quota,
    ) -> Result<OwnerRecord, KeyError> {
        let _writer = self.writer.lock().await;
        let record = self.owner(|known| known.id == *id);
        let mut record = record.ok_or(KeyError::NoOwner)?;
        record.quota = quota;
        self.records.save_owner(&record).await?;
        let mut index = self.index.write();
        for owner in &mut index.owners {
            if owner.record.id == *id {
                owner.record = record.clone();
            }
        }
        Ok(record)
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
        self.show(entry.hash, record, KeyUsage::new());
        // What it had begun ends.
        entry.revoked.send_replace(true);
        Ok(())
    }

    fn is_last_admin(&self, record: &KeyRecord) -> bool {
        let admin = self.is_admin(&record.owner);
        let index = self.index.read();
        let others = index.keys.values().any(|entry| {
            let other = &entry.record;
            let manages = entry.allows(Scope::Keys) && other.expires_at.is_none();
            other.owner == record.owner && other.id != record.id && !other.revoked && manages
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

fn key_record(owner: &OwnerId, hash: &[u8; 32], terms: Terms) -> KeyRecord {
    KeyRecord {
        id: KeyId::mint(),
        owner: owner.clone(),
        sha256: HEXLOWER.encode(hash),
        created_at: OffsetDateTime::now_utc(),
        revoked: false,
        name: terms.name,
        scopes: terms.scopes,
        rate: terms.rate,
        expires_at: terms.expires_at,
    }
}

#[cfg(test)]
mod tests;
