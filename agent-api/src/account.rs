//! What a key may know of itself and of what its owner uses: `auth/key-info` and `usage/stats`,
//! with the SDK's other names.
//!
//! Must never happen here: another owner's numbers.

use axum::Json;
use axum::extract::State;
use fleet::lifecycle::ApiStatus;
use pool_backend::Holdings;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Count;
use crate::stamp::Stamp;
use crate::{ApiState, Caller};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(key_info))
        .routes(routes!(me))
        .routes(routes!(usage))
        .routes(routes!(billing))
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct KeyInfo {
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    owner_id: String,
    owner_name: String,
    created_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Stamp>,
    is_active: bool,
    /// May manage all keys and owners.
    admin: bool,
    /// `read`, `write`, `exec`, `keys`.
    scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
}

/// How often a key may be used.
#[derive(Debug, Serialize, ToSchema)]
struct RateLimit {
    requests_per_second: u32,
    burst: u32,
}

fn info(caller: &Caller) -> Json<KeyInfo> {
    let key = &caller.key;
    Json(KeyInfo {
        key_id: key.id.to_string(),
        name: key.name.clone(),
        owner_id: caller.owner.to_string(),
        owner_name: caller.owner_name.to_string(),
        created_at: Stamp(key.created_at),
        expires_at: key.expires_at.map(Stamp),
        is_active: true,
        admin: caller.admin,
        scopes: key.scopes.clone(),
        rate_limit: key.rate.map(|rate| RateLimit {
            requests_per_second: rate.per_second,
            burst: rate.burst,
        }),
    })
}

/// The key in use
#[utoipa::path(get, path = "/api/v1/sdk/auth/key-info", tag = "account",
    responses((status = 200, body = KeyInfo)))]
async fn key_info(caller: Caller) -> Json<KeyInfo> {
    info(&caller)
}

/// The key in use
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "account",
    responses((status = 200, body = KeyInfo)))]
async fn me(caller: Caller) -> Json<KeyInfo> {
    info(&caller)
}

/// A count, in all and in windows that begin with the hour, the day and the month (UTC).
#[derive(Debug, Serialize, ToSchema)]
struct Windows<T> {
    total: T,
    hour: T,
    day: T,
    month: T,
}

impl From<Count> for Windows<u64> {
    fn from(count: Count) -> Self {
        Self {
            total: count.total,
            hour: count.hour,
            day: count.day,
            month: count.month,
        }
    }
}

/// What a key and its owner used.
#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    owner_id: String,
    key_id: String,
    counting_since: Stamp,
    /// Of this key.
    requests: Windows<u64>,
    /// Of this key: refused for its scopes or its limits.
    requests_refused: Windows<u64>,
    /// All running workspaces of the owner together.
    running_hours: Windows<f64>,
    workspaces: usize,
    workspaces_ready: usize,
    workspaces_running: usize,
    /// Only where the owner has a quota of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_mb: Option<f64>,
    quota: QuotaInfo,
}

/// What an owner may have; absent: as much as there is.
#[derive(Debug, Serialize, ToSchema)]
struct QuotaInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    workspaces: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_mib: Option<u64>,
}

async fn used(state: &ApiState, caller: &Caller) -> Json<Usage> {
    let now = OffsetDateTime::now_utc();
    let owner = &caller.owner;
    let Holdings {
        workspaces,
        running,
        disk_bytes,
    } = state.workspaces.holdings(owner).await;
    let ready = state
        .workspaces
        .list(owner, Some(ApiStatus::Ready), 1, 1)
        .total;
    let ran = caller.running_ms.look(now);
    let hours = |millis: u64| (millis as f64 / 3.6).round() / 1e6;
    let quota = state.workspaces.quota(owner);
    Json(Usage {
        owner_id: owner.to_string(),
        key_id: caller.key.id.to_string(),
        counting_since: Stamp(caller.usage.since()),
        requests: caller.usage.requests.look(now).into(),
        requests_refused: caller.usage.refused.look(now).into(),
        running_hours: Windows {
            total: hours(ran.total),
            hour: hours(ran.hour),
            day: hours(ran.day),
            month: hours(ran.month),
        },
        workspaces,
        workspaces_ready: ready,
        workspaces_running: running,
        disk_mb: disk_bytes.map(|bytes| (bytes as f64 / 1048.576).round() / 1_000.0),
        quota: QuotaInfo {
            workspaces: quota.workspaces,
            running: quota.running,
            disk_mib: quota.disk_mib,
        },
    })
}

/// What the key and its owner used
#[utoipa::path(get, path = "/api/v1/sdk/usage/stats", tag = "account",
    responses((status = 200, body = Usage)))]
async fn usage(State(state): State<ApiState>, caller: Caller) -> Json<Usage> {
    used(&state, &caller).await
}

/// What the key and its owner used
#[utoipa::path(get, path = "/api/v1/billing/usage", tag = "account",
    responses((status = 200, body = Usage)))]
async fn billing(State(state): State<ApiState>, caller: Caller) -> Json<Usage> {
    used(&state, &caller).await
}
