//! Reads the keys at the start, and makes the first one.
//!
//! The order survives a crash at any point: the secret goes to `api-key`, then the owner, then
//! the key's record. A start that finds no key record goes on from what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_api::{Count, Counter, KeyUsage};
use data_encoding::HEXLOWER;
use fleet::durable;
use fleet::id::OwnerId;
use fleet::record::{Damaged, OwnerRecord, Quota, RecordStore};
use time::OffsetDateTime;

use super::book::Book;
use super::{Entry, Index, KEY_MAX, KeyError, Owner, Terms, hash, key_record, mint_secret};

/// Name of the first owner.
const FIRST_OWNER: &str = "default";

pub(super) fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("api-key")
}

pub(super) async fn load(records: &RecordStore, data_dir: &Path) -> Result<Index, KeyError> {
    let (store, file) = (records.clone(), key_file(data_dir));
    let dir = data_dir.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&store, &file, &Book::read(&dir))).await;
    let (mut index, secret) = read.map_err(|error| KeyError::KeyFile(error.to_string()))??;
    if let Some(secret) = secret {
        make_first(records, &mut index, &secret).await?;
    }
    Ok(index)
}

/// The index, and the secret of a first key that is still to be recorded.
fn read(
    records: &RecordStore,
    key_file: &Path,
    book: &Book,
) -> Result<(Index, Option<String>), KeyError> {
    let (mut owners, damaged_owners) = records.load_owners();
    let (keys, damaged_keys) = records.load_keys();
    for Damaged { path, why } in damaged_owners.iter().chain(&damaged_keys) {
        tracing::error!(path = %path.display(), why, "a record of an owner or key is damaged");
    }
    owners.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let owners = owners.into_iter().map(|record| Owner {
        running_ms: Arc::new(book.owner(&record.id)),
        record,
    });
    let mut index = Index {
        owners: owners.collect(),
        ..Index::default()
    };
    for record in keys {
        let hash: Option<[u8; 32]> = HEXLOWER
            .decode(record.sha256.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let admin = index.is_admin(&record.owner);
        let mut owners = index.owners.iter();
        let owner = owners.find(|owner| owner.record.id == record.owner);
        let (Some(hash), Some(owner)) = (hash, owner) else {
            tracing::error!(key = %record.id, "a key has no owner or no hash; it is not used");
            continue;
        };
        let usage = book.key(&record.id);
        let entry = Entry::new(hash, record, owner, admin, usage);
        index.keys.insert(hash, Arc::new(entry));
    }
    if !index.keys.is_empty() {
        return Ok((index, None));
    }
    let damaged = damaged_owners.len() + damaged_keys.len();
    if damaged > 0 {
        // A new owner would see none of the workspaces that are there.
        return Err(KeyError::Damaged(damaged));
    }
    let secret = read_or_write_secret(key_file)?;
    Ok((index, Some(secret)))
}

fn read_or_write_secret(path: &Path) -> Result<String, KeyError> {
    let failed = |error: io::Error| KeyError::KeyFile(error.to_string());
    match fs::read_to_string(path) {
        Ok(text) => {
            let secret = text.trim();
            // What the SDK takes for a key.
            if secret.starts_with("fleeks_") && (32..=KEY_MAX).contains(&secret.len()) {
                return Ok(secret.to_owned());
            }
            let problem = "it must hold `fleeks_` and at least 25 more characters; or remove it";
            Err(KeyError::KeyFile(problem.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = mint_secret();
            durable::write(path, format!("{secret}\n").as_bytes()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn make_first(
    records: &RecordStore,
    index: &mut Index,
    secret: &str,
) -> Result<(), KeyError> {
    if index.owners.is_empty() {
        let owner = OwnerRecord {
            id: OwnerId::mint(),
            name: FIRST_OWNER.to_owned(),
            created_at: OffsetDateTime::now_utc(),
            quota: Quota::default(),
        };
        records.save_owner(&owner).await?;
        index.owners.push(Owner {
            running_ms: Arc::new(Counter::resume(Count::default(), owner.created_at)),
            record: owner,
        });
    }
    let Some(owner) = index.owners.first() else {
        return Ok(());
    };
    let hash = hash(secret);
    let record = key_record(&owner.record.id, &hash, Terms::default());
    records.save_key(&record).await?;
    let entry = Entry::new(hash, record, owner, true, KeyUsage::new());
    index.keys.insert(hash, Arc::new(entry));
    Ok(())
}
