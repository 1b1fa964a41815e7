//! `/api/v1/pools`: how the warm containers of this node stand, for keys of the first owner.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use pool_backend::workspaces::PoolStatus;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{ApiState, Caller, Problem};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(pools))
}

/// How the pools of warm containers stand
#[utoipa::path(get, path = "/api/v1/pools", tag = "node",
    responses((status = 200, body = Object)))]
async fn pools(State(state): State<ApiState>, caller: Caller) -> Result<Json<Value>, Problem> {
    if !caller.admin {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pools are for the first owner's keys",
        ));
    }
    let pools: Vec<Value> = state.workspaces.pools().iter().map(pool).collect();
    let room = state.workspaces.pool_room();
    Ok(Json(json!({
        "pools": pools,
        "room": { "containers": room.containers, "memory_bytes_each": room.memory_each },
    })))
}

fn pool(pool: &PoolStatus) -> Value {
    let claims = pool.hits + pool.misses;
    let hit_rate = (claims > 0).then(|| pool.hits as f64 / claims as f64);
    json!({
        "template": pool.template,
        "min": pool.size.min,
        "max": pool.size.max,
        "target": pool.target,
        "ready": pool.ready,
        "refilling": pool.refilling,
        "short_of_room": pool.short_of_room,
        "hits": pool.hits,
        "misses": pool.misses,
        "hit_rate": hit_rate,
        "claim_p95_ms": pool.claim_p95.map(|time| time.as_secs_f64() * 1000.0),
        "refill_ms": pool.refill.as_secs_f64() * 1000.0,
        "breaker": pool.broken.as_ref().map(|broken| json!({
            "failures": broken.failures,
            "retry_in_seconds": broken.retry_in.as_secs_f64(),
            "reason": broken.reason,
        })),
    })
}
