//! Who may see a workspace's previews: visibility and share links. Ours, not the SDK's.
//!
//! Must never happen here: a token in an answer but the one that makes it, or in a log.

use axum::Json;
use axum::extract::{Path, State};
use fleet::id::LinkId;
use fleet::record::{ShareLink, Visibility};
use fleet::share::Grant;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::detached;
use crate::input::within;
use crate::stamp::Stamp;
use crate::workspaces::find;
use crate::{ApiState, Caller, JsonBody, Problem};

/// A day.
const EXPIRES_SECONDS: i64 = 24 * 3600;
/// A year.
const EXPIRES_SECONDS_MAX: u64 = 365 * 24 * 3600;
const LABEL_MAX: usize = 100;
/// Where the gateway looks for a token.
const PARAMETER: &str = "fleeks_share";

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(show, set))
        .routes(routes!(list, create))
        .routes(routes!(revoke))
}

/// Who may see a workspace's previews.
#[derive(Debug, Serialize, ToSchema)]
struct Access {
    project_id: String,
    /// `public`: whoever knows an address, which cannot be guessed. `private`: whoever came by a
    /// share link.
    visibility: &'static str,
    share_links: Vec<Link>,
}

/// A share link, without its token.
#[derive(Debug, Serialize, ToSchema)]
struct Link {
    link_id: String,
    /// None: whatever the workspace's own address shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    created_at: Stamp,
    expires_at: Stamp,
}

impl From<ShareLink> for Link {
    fn from(link: ShareLink) -> Self {
        Self {
            link_id: link.id.to_string(),
            port: link.port,
            label: link.label,
            created_at: Stamp(link.created_at),
            expires_at: Stamp(link.expires_at),
        }
    }
}

fn access(workspace: &pool_backend::Workspace) -> Access {
    Access {
        project_id: workspace.summary().project.to_string(),
        visibility: match workspace.visibility() {
            Visibility::Public => "public",
            Visibility::Private => "private",
        },
        share_links: workspace
            .share_links()
            .into_iter()
            .map(Link::from)
            .collect(),
    }
}

/// Who may see a workspace's previews
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/access", tag = "sharing",
    params(("project_id" = String, Path)), responses((status = 200, body = Access)))]
async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Access>, Problem> {
    Ok(Json(access(&find(&state, &caller, &project_id)?)))
}

/// The wish.
#[derive(Debug, Deserialize, ToSchema)]
struct SetAccess {
    /// `public` or `private`.
    visibility: String,
}

/// Make a workspace's previews public or private
#[utoipa::path(put, path = "/api/v1/sdk/workspaces/{project_id}/access", tag = "sharing",
    params(("project_id" = String, Path)), request_body = SetAccess,
    responses((status = 200, body = Access)))]
async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<SetAccess>,
) -> Result<Json<Access>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let visibility = match body.visibility.as_str() {
        "public" => Visibility::Public,
        "private" => Visibility::Private,
        _ => return Err(Problem::invalid("visibility must be public or private")),
    };
    let changing = workspace.clone();
    detached(async move { changing.set_visibility(visibility).await }).await?;
    Ok(Json(access(&workspace)))
}

/// A workspace's share links.
#[derive(Debug, Serialize, ToSchema)]
struct Links {
    share_links: Vec<Link>,
}

/// Share links that are good now
#[utoipa::path(get, path = "/api/v1/sdk/workspaces/{project_id}/share-links", tag = "sharing",
    params(("project_id" = String, Path)), responses((status = 200, body = Links)))]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Links>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let share_links = workspace
        .share_links()
        .into_iter()
        .map(Link::from)
        .collect();
    Ok(Json(Links { share_links }))
}

/// What a share link should open.
#[derive(Debug, Deserialize, ToSchema)]
struct CreateLink {
    /// None: whatever the workspace's own address shows.
    port: Option<i64>,
    /// A day, if nothing is said; a year at most.
    expires_in_seconds: Option<i64>,
    /// For people.
    label: Option<String>,
}

/// A share link that was just made: the only time that its URL is seen.
#[derive(Debug, Serialize, ToSchema)]
struct NewLink {
    #[serde(flatten)]
    link: Link,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_http: Option<String>,
}

/// Make a link that opens one port of a private workspace until it expires or is revoked
#[utoipa::path(post, path = "/api/v1/sdk/workspaces/{project_id}/share-links", tag = "sharing",
    params(("project_id" = String, Path)), request_body = CreateLink,
    responses((status = 201, body = NewLink)))]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(project_id): Path<String>,
    JsonBody(body): JsonBody<CreateLink>,
) -> Result<(StatusCode, Json<NewLink>), Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let port = match body.port {
        None => None,
        Some(port) => u16::try_from(within("port", port, 1..=65_535)?).ok(),
    };
    let seconds = body.expires_in_seconds.unwrap_or(EXPIRES_SECONDS);
    let seconds = within("expires_in_seconds", seconds, 1..=EXPIRES_SECONDS_MAX)?;
    let seconds = i64::try_from(seconds).unwrap_or(EXPIRES_SECONDS);
    if body
        .label
        .as_ref()
        .is_some_and(|label| label.chars().count() > LABEL_MAX)
    {
        return Err(Problem::invalid("label must have at most 100 characters"));
    }
    let created_at = OffsetDateTime::now_utc();
    let link = ShareLink {
        id: LinkId::mint(),
        port,
        label: body.label,
        created_at,
        expires_at: created_at + Duration::seconds(seconds),
    };
    let slug = workspace.summary().slug;
    let grant = Grant {
        link: link.id.clone(),
        expires_at: link.expires_at,
    };
    let token = state.share_key.sign(&slug, port, &grant);
    let with_token = |url: String| format!("{url}/?{PARAMETER}={token}");
    let made = NewLink {
        url: with_token(state.public.preview_at(&slug, port)),
        url_http: state.public.preview_http_at(&slug, port).map(with_token),
        link: link.clone().into(),
    };
    detached(async move { workspace.share(link).await }).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// What a revocation answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevokedLink)]
struct Revoked {
    link_id: String,
    revoked: bool,
}

/// End a share link, and what was let in by it
#[utoipa::path(delete, path = "/api/v1/sdk/workspaces/{project_id}/share-links/{link_id}",
    tag = "sharing", params(("project_id" = String, Path), ("link_id" = String, Path)),
    responses((status = 200, body = Revoked)))]
async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((project_id, link_id)): Path<(String, String)>,
) -> Result<Json<Revoked>, Problem> {
    let workspace = find(&state, &caller, &project_id)?;
    let absent = |error| Problem::not_found(format!("no such share link: {error}"));
    let id: LinkId = link_id.parse().map_err(absent)?;
    detached(async move { workspace.unshare(&id).await }).await?;
    Ok(Json(Revoked {
        link_id,
        revoked: true,
    }))
}
