//! What a key may know of itself: `auth/key-info` and `usage/stats`, with the SDK's other names.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use fleet::lifecycle::ApiStatus;
use serde_json::{Value, json};

use crate::stamp::Stamp;
use crate::{ApiState, Caller};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/v1/sdk/auth/key-info", get(key_info))
        .route("/api/v1/auth/me", get(key_info))
        .route("/api/v1/sdk/usage/stats", get(usage))
        .route("/api/v1/billing/usage", get(usage))
}

async fn key_info(caller: Caller) -> Json<Value> {
    Json(json!({
        "key_id": caller.key,
        "owner_id": caller.owner,
        "owner_name": &*caller.owner_name,
        "created_at": Stamp(caller.key_created_at),
        "is_active": true,
        "admin": caller.admin,
    }))
}

async fn usage(State(state): State<ApiState>, caller: Caller) -> Json<Value> {
    let count = |status| state.workspaces.list(&caller.owner, status, 1, 1).total;
    Json(json!({
        "owner_id": caller.owner,
        "key_id": caller.key,
        "counting_since": Stamp(caller.usage.since()),
        "requests": caller.usage.requests(),
        "workspaces": count(None),
        "workspaces_ready": count(Some(ApiStatus::Ready)),
    }))
}
