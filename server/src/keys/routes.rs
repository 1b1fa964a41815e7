//! `/api/v1/keys` and `/api/v1/owners`: all of them for keys of the first owner; its own for a key
//! of another owner that has the scope `keys`.
//!
//! Must never happen here: a key that is good for more than the one that made it.

use std::sync::Arc;

use agent_api::{Caller, JsonBody, Problem, Stamp};
use axum::Json;
use axum::extract::{Path, State};
use fleet::id::{KeyId, OwnerId};
use fleet::record::{KeyRecord, OwnerRecord, Quota, Rate, RecordError, Scope};
use http::StatusCode;
use pool_backend::Workspaces;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{KeyError, KeyStore, Terms};
use crate::scope;

/// Ten years.
const EXPIRES_SECONDS_MAX: i64 = 10 * 365 * 24 * 3600;
const RATE_MAX: u32 = 1_000_000;
const NAME_MAX: usize = 100;

#[derive(Clone)]
pub(crate) struct Management {
    pub(crate) keys: Arc<KeyStore>,
    /// Where quotas take effect; none in tests without an engine.
    pub(crate) workspaces: Option<Workspaces>,
}

pub(crate) fn routes(keys: Arc<KeyStore>, workspaces: Option<Workspaces>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(owners))
        .routes(routes!(set_quota))
        .with_state(Management { keys, workspaces })
}

fn admin_only(caller: &Caller) -> Result<(), Problem> {
    if caller.admin {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "owners are managed with a key of the first owner",
    ))
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct Key {
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    owner_id: String,
    owner_name: String,
    created_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Stamp>,
    revoked: bool,
    /// Absent: all that its owner may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'static str>>,
    /// Absent: as its owner's keys are by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
}

impl Key {
    fn new(record: &KeyRecord, owner_name: &str) -> Self {
        let scopes = record.scopes.as_ref();
        Self {
            key_id: record.id.to_string(),
            name: record.name.clone(),
            owner_id: record.owner.to_string(),
            owner_name: owner_name.to_owned(),
            created_at: Stamp(record.created_at),
            expires_at: record.expires_at.map(Stamp),
            revoked: record.revoked,
            scopes: scopes.map(|scopes| scopes.iter().copied().map(scope::word).collect()),
            rate_limit: record.rate.map(|rate| RateLimit {
                requests_per_second: rate.per_second,
                burst: rate.burst,
            }),
        }
    }
}

/// How often a key may be used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
struct RateLimit {
    #[schema(minimum = 1, maximum = 1_000_000)]
    requests_per_second: u32,
    /// At once, after a pause.
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: u32,
}

/// What the new key should be good for.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateKey)]
struct Create {
    /// Whose it is; made if there is none of that name. Absent: the caller's.
    owner_name: Option<String>,
    /// For people.
    name: Option<String>,
    /// Of `read`, `write`, `exec`, `keys`; absent: all that its owner may do.
    scopes: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    /// Absent: it does not end by itself.
    expires_in_seconds: Option<i64>,
}

impl Create {
    fn terms(self) -> Result<Terms, Problem> {
        let name = self.name;
        if name
            .as_ref()
            .is_some_and(|name| name.chars().count() > NAME_MAX || name.contains(char::is_control))
        {
            return Err(Problem::invalid(
                "name must have at most 100 characters, none of them a control character",
            ));
        }
        let scopes = self.scopes.map(|words| {
            let mut scopes = words
                .iter()
                .map(|word| scope::parse(word))
                .collect::<Option<Vec<Scope>>>()?;
            scopes.sort_unstable();
            scopes.dedup();
            (!scopes.is_empty()).then_some(scopes)
        });
        let Some(scopes) = scopes.map_or(Some(None), |scopes| scopes.map(Some)) else {
            return Err(Problem::invalid(
                "scopes must be some of read, write, exec and keys",
            ));
        };
        let rate = self.rate_limit.map(|limit| Rate {
            per_second: limit.requests_per_second,
            burst: limit.burst,
        });
        let fits = |number: u32| (1..=RATE_MAX).contains(&number);
        if rate.is_some_and(|rate| !fits(rate.per_second) || !fits(rate.burst)) {
            return Err(Problem::invalid(
                "requests_per_second and burst must be whole numbers from 1 to 1000000",
            ));
        }
        let expires_at = match self.expires_in_seconds {
            None => None,
            Some(seconds) if (1..=EXPIRES_SECONDS_MAX).contains(&seconds) => {
                Some(OffsetDateTime::now_utc() + Duration::seconds(seconds))
            }
            Some(_) => {
                return Err(Problem::invalid(format!(
                    "expires_in_seconds must be a whole number from 1 to {EXPIRES_SECONDS_MAX}"
                )));
            }
        };
        Ok(Terms {
            name,
            scopes,
            rate,
            expires_at,
        })
    }
}

/// Nothing that the maker does not have itself.
fn within_own(caller: &Caller, terms: &mut Terms) -> Result<(), Problem> {
    let own = &caller.key;
    let scopes = match &terms.scopes {
        Some(scopes) => scopes.clone(),
        None => own
            .scopes
            .iter()
            .filter_map(|word| scope::parse(word))
            .collect(),
    };
    let more = scopes.iter().map(|scope| scope::word(*scope));
    if let Some(more) = more.into_iter().find(|word| !own.scopes.contains(word)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("a key without the scope {more} cannot make one that has it"),
        ));
    }
    terms.scopes = Some(scopes);
    terms.rate = match (own.rate, terms.rate) {
        (Some(own), Some(rate)) => Some(Rate {
            per_second: rate.per_second.min(own.per_second),
            burst: rate.burst.min(own.burst),
        }),
        (own, rate) => rate.or(own),
    };
    terms.expires_at = match (own.expires_at, terms.expires_at) {
        (Some(own), Some(at)) => Some(at.min(own)),
        (own, at) => at.or(own),
    };
    Ok(())
}

/// A key that was just made: the only time that its secret is seen.
#[derive(Debug, Serialize, ToSchema)]
struct NewKey {
    #[serde(flatten)]
    shown: Key,
    key: String,
}

/// Make a key
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = Create,
    responses((status = 201, body = NewKey)))]
async fn create(
    State(Management { keys, .. }): State<Management>,
    caller: Caller,
    JsonBody(body): JsonBody<Create>,
) -> Result<(StatusCode, Json<NewKey>), Problem> {
    let owner_name = body.owner_name.clone();
    if !caller.admin
        && owner_name
            .as_deref()
            .is_some_and(|name| name != &*caller.owner_name)
    {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "keys of other owners are made with a key of the first owner",
        ));
    }
    let mut terms = body.terms()?;
    if !caller.admin || caller.key.scopes.len() < 4 {
        within_own(&caller, &mut terms)?;
    }
    // Goes on if the caller hangs up: half a change must not stay.
    let made = tokio::spawn(async move {
        keys.create(&caller.owner, owner_name.as_deref(), terms)
            .await
    });
    let minted = made.await.map_err(|_| Problem::internal())??;
    let shown = Key::new(&minted.record, &minted.owner_name);
    let key = minted.secret;
    Ok((StatusCode::CREATED, Json(NewKey { shown, key })))
}

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
struct Keys {
    keys: Vec<Key>,
}

/// Keys, oldest first, revoked ones too
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", responses((status = 200, body = Keys)))]
async fn list(State(Management { keys, .. }): State<Management>, caller: Caller) -> Json<Keys> {
    let all = keys.list();
    let seen = all
        .iter()
        .filter(|(record, _)| caller.admin || record.owner == caller.owner);
    let keys = seen.map(|(record, name)| Key::new(record, name)).collect();
    Json(Keys { keys })
}

/// What a revocation answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevokedKey)]
struct Revoked {
    key_id: String,
    revoked: bool,
}

/// End a key
#[utoipa::path(delete, path = "/api/v1/keys/{key_id}", tag = "keys",
    params(("key_id" = String, Path)), responses((status = 200, body = Revoked)))]
async fn revoke(
    State(Management { keys, .. }): State<Management>,
    caller: Caller,
    Path(key_id): Path<String>,
) -> Result<Json<Revoked>, Problem> {
    let id: KeyId = key_id
        .parse()
        .map_err(|_| Problem::from(KeyError::Absent))?;
    let own = |(record, _): &(KeyRecord, Arc<str>)| record.id == id && record.owner == caller.owner;
    if !caller.admin && !keys.list().iter().any(own) {
        return Err(KeyError::Absent.into());
    }
    let revoked = tokio::spawn(async move { keys.revoke(&id).await });
    revoked.await.map_err(|_| Problem::internal())??;
    Ok(Json(Revoked {
        key_id,
        revoked: true,
    }))
}

/// An owner.
#[derive(Debug, Serialize, ToSchema)]
struct OwnerInfo {
    owner_id: String,
    name: String,
    created_at: Stamp,
    quota: QuotaBody,
}

/// What an owner may have; absent: as much as there is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
struct QuotaBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    workspaces: Option<u32>,
    /// Those that run, or stand still in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    /// All volumes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_mib: Option<u64>,
}

impl From<OwnerRecord> for OwnerInfo {
    fn from(record: OwnerRecord) -> Self {
        Self {
            owner_id: record.id.to_string(),
            name: record.name,
            created_at: Stamp(record.created_at),
            quota: QuotaBody {
                workspaces: record.quota.workspaces,
                running: record.quota.running,
                disk_mib: record.quota.disk_mib,
            },
        }
    }
}

/// Owners.
#[derive(Debug, Serialize, ToSchema)]
struct Owners {
    owners: Vec<OwnerInfo>,
}

/// All owners, oldest first
#[utoipa::path(get, path = "/api/v1/owners", tag = "keys", responses((status = 200, body = Owners)))]
async fn owners(
    State(Management { keys, .. }): State<Management>,
    caller: Caller,
) -> Result<Json<Owners>, Problem> {
    admin_only(&caller)?;
    let owners = keys.owners().into_iter().map(OwnerInfo::from).collect();
    Ok(Json(Owners { owners }))
}

/// Set what an owner may have
///
/// What there is already stays. Beyond it, calls answer 403, and 507 for disk space.
#[utoipa::path(put, path = "/api/v1/owners/{owner_id}/quota", tag = "keys",
    params(("owner_id" = String, Path)), request_body = QuotaBody,
    responses((status = 200, body = OwnerInfo)))]
async fn set_quota(
    State(Management { keys, workspaces }): State<Management>,
    caller: Caller,
    Path(owner_id): Path<String>,
    JsonBody(body): JsonBody<QuotaBody>,
) -> Result<Json<OwnerInfo>, Problem> {
    admin_only(&caller)?;
    let id: OwnerId = owner_id
        .parse()
        .map_err(|_| Problem::from(KeyError::NoOwner))?;
    let quota = Quota {
        workspaces: body.workspaces,
        running: body.running,
        disk_mib: body.disk_mib,
    };
    let set = tokio::spawn(async move { keys.set_quota(&id, quota).await });
    let record = set.await.map_err(|_| Problem::internal())??;
    if let Some(workspaces) = workspaces {
        workspaces.set_quota(&record.id, quota);
    }
    Ok(Json(record.into()))
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let status = match &error {
            KeyError::Absent | KeyError::NoOwner => StatusCode::NOT_FOUND,
            KeyError::LastAdmin => StatusCode::CONFLICT,
            KeyError::BadName => StatusCode::UNPROCESSABLE_ENTITY,
            KeyError::Record(RecordError::NoSpace(_)) => StatusCode::INSUFFICIENT_STORAGE,
            KeyError::Record(_) | KeyError::KeyFile(_) | KeyError::Damaged(_) => {
                tracing::error!(error = ?error, "a key could not be stored");
                return Self::internal();
            }
        };
        Self::new(status, error.to_string())
    }
}
