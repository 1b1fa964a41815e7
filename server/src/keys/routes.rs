//! `/api/v1/keys`: for keys of the first owner.

use std::sync::Arc;

use agent_api::{Caller, JsonBody, Problem};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use fleet::id::KeyId;
use fleet::record::{KeyRecord, RecordError};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{KeyError, KeyStore};

pub(crate) fn routes(keys: Arc<KeyStore>) -> Router {
    Router::new()
        .route("/api/v1/keys", get(list).post(create))
        .route("/api/v1/keys/{key_id}", axum::routing::delete(revoke))
        .with_state(keys)
}

fn admin_only(caller: &Caller) -> Result<(), Problem> {
    if caller.admin {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "keys are managed with a key of the first owner",
    ))
}

fn shown(record: &KeyRecord, owner_name: &str) -> Value {
    json!({
        "key_id": record.id,
        "owner_id": record.owner,
        "owner_name": owner_name,
        "created_at": record.created_at.format(&Rfc3339).ok(),
        "revoked": record.revoked,
    })
}

#[derive(Deserialize)]
struct Create {
    owner_name: Option<String>,
}

async fn create(
    State(keys): State<Arc<KeyStore>>,
    caller: Caller,
    JsonBody(body): JsonBody<Create>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    admin_only(&caller)?;
    // Goes on if the caller hangs up: half a change must not stay.
    let made =
        tokio::spawn(async move { keys.create(&caller.owner, body.owner_name.as_deref()).await });
    let minted = made.await.map_err(|_| Problem::internal())??;
    let mut answer = shown(&minted.record, &minted.owner_name);
    answer["key"] = minted.secret.into();
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn list(State(keys): State<Arc<KeyStore>>, caller: Caller) -> Result<Json<Value>, Problem> {
    admin_only(&caller)?;
    let all = keys.list();
    let all: Vec<Value> = all
        .iter()
        .map(|(record, name)| shown(record, name))
        .collect();
    Ok(Json(json!({ "keys": all })))
}

async fn revoke(
    State(keys): State<Arc<KeyStore>>,
    caller: Caller,
    Path(key_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin_only(&caller)?;
    let id: KeyId = key_id
        .parse()
        .map_err(|_| Problem::from(KeyError::Absent))?;
    let gone = id.clone();
    let revoked = tokio::spawn(async move { keys.revoke(&gone).await });
    revoked.await.map_err(|_| Problem::internal())??;
    Ok(Json(json!({ "key_id": id, "revoked": true })))
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let status = match &error {
            KeyError::Absent => StatusCode::NOT_FOUND,
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
