//! `/api/v1/templates`: what workspaces can start from, installing what a template needs ahead of its
//! first workspace, and taking away what none needs any more.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use pool_backend::workspaces::{Dependencies, TemplateInfo};
use pool_backend::{Progress, Unused};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Params, flag};
use crate::workspaces::{language_versions, template};
use crate::{ApiState, Caller, Problem};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(build))
        .routes(routes!(prune))
}

/// What workspaces can start from.
#[derive(Debug, Serialize, ToSchema)]
struct Templates {
    templates: Vec<Info>,
}

/// A template, and what it comes to on this machine.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
struct Info {
    name: String,
    description: String,
    /// As found.
    languages: Vec<String>,
    /// As far as they are known yet.
    language_versions: BTreeMap<String, String>,
    /// Where its app listens, the likeliest first.
    main_ports: Vec<u16>,
    /// The shell line that starts its app.
    run: Option<String>,
    /// The shell line that builds it.
    build: Option<String>,
    hot_reload: bool,
    /// How many it starts with.
    files: usize,
    /// Absent if its root is not made from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image>,
    /// Whether workspaces can be made of it.
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable_reason: Option<String>,
    /// What the operator can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    dependencies: Installed,
}

/// The image that a template's root is made from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateImage)]
struct Image {
    reference: String,
    /// None before it was pulled.
    digest: Option<String>,
}

/// What is installed for a template, once for all of its workspaces.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
#[schema(as = TemplateDependencies)]
enum Installed {
    /// It has none.
    None,
    /// They come with its first workspace, or when they are built.
    Missing,
    Ready,
    Installing {
        /// For people.
        step: String,
        /// Since it began.
        seconds: u64,
        bytes_done: Option<u64>,
        bytes_total: Option<u64>,
    },
    Failed {
        problem: String,
    },
}

impl From<&Dependencies> for Installed {
    fn from(dependencies: &Dependencies) -> Self {
        match dependencies {
            Dependencies::None => Self::None,
            Dependencies::Missing => Self::Missing,
            Dependencies::Ready | Dependencies::Installing(Progress::Done { .. }) => Self::Ready,
            Dependencies::Installing(Progress::Working { since, step, bytes }) => {
                Self::Installing {
                    step: step.clone(),
                    seconds: since.elapsed().as_secs(),
                    bytes_done: bytes.map(|(done, _)| done),
                    bytes_total: bytes.map(|(_, all)| all),
                }
            }
            Dependencies::Installing(Progress::Failed { problem, .. }) => Self::Failed {
                problem: problem.clone(),
            },
        }
    }
}

impl Info {
    fn new(info: &TemplateInfo) -> Self {
        let (template, why) = (&info.template, info.unavailable.as_ref());
        Self {
            name: template.name.to_string(),
            description: template.description.clone(),
            languages: info.languages.clone(),
            language_versions: language_versions(&info.versions),
            main_ports: info.main_ports.clone(),
            run: info.run.clone(),
            build: template.build.clone(),
            hot_reload: template.hot_reload,
            files: template.files.len(),
            image: info.image.as_ref().map(|image| Image {
                reference: image.reference.clone(),
                digest: image.digest.clone(),
            }),
            available: why.is_none(),
            unavailable_reason: why.map(|why| why.reason.clone()),
            fix: why.map(|why| why.fix.clone()),
            dependencies: Installed::from(&info.dependencies),
        }
    }
}

/// Templates
#[utoipa::path(get, path = "/api/v1/templates", tag = "templates",
    responses((status = 200, body = Templates)))]
async fn list(State(state): State<ApiState>, _: Caller) -> Json<Templates> {
    let infos = state.workspaces.template_infos();
    let templates = infos.iter().map(Info::new).collect();
    Json(Templates { templates })
}

/// One template
#[utoipa::path(get, path = "/api/v1/templates/{name}", tag = "templates",
    params(("name" = String, Path)), responses((status = 200, body = Info)))]
async fn show(
    State(state): State<ApiState>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Info>, Problem> {
    let name = known(&state, &name)?;
    Ok(Json(Info::new(&state.workspaces.template_info(&name)?)))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Wish {
    /// Ask the registry again where the image's name leads to.
    #[param(value_type = Option<bool>)]
    pull: Option<String>,
}

/// Install what a template needs, ahead of its first workspace
///
/// Answers at once; `dependencies` of the template tells how it goes. For keys of the first owner.
#[utoipa::path(post, path = "/api/v1/templates/{name}/build", tag = "templates",
    params(("name" = String, Path), Wish), responses((status = 202, body = Info)))]
async fn build(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Params(wish): Params<Wish>,
) -> Result<(StatusCode, Json<Info>), Problem> {
    operator(&caller)?;
    let name = known(&state, &name)?;
    let afresh = flag("pull", wish.pull.as_deref(), false)?;
    let info = state.workspaces.build_template(&name, afresh)?;
    Ok((StatusCode::ACCEPTED, Json(Info::new(&info))))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Trial {
    /// Only say what would go.
    #[param(value_type = Option<bool>)]
    dry_run: Option<String>,
}

/// What nobody uses any more, of what was made for templates.
#[derive(Debug, Serialize, ToSchema)]
struct Pruned {
    /// Whether all of it is still there.
    dry_run: bool,
    /// Disk space of all together.
    bytes: u64,
    items: Vec<PrunedItem>,
}

/// A layer of dependencies, an image or a root that nobody uses.
#[derive(Debug, Serialize, ToSchema)]
struct PrunedItem {
    /// `layer`, `image` or `root`.
    kind: &'static str,
    /// Below the data dir.
    name: String,
    bytes: u64,
}

impl From<&Unused> for PrunedItem {
    fn from(unused: &Unused) -> Self {
        Self {
            kind: unused.kind.name(),
            name: unused.name.clone(),
            bytes: unused.bytes,
        }
    }
}

/// Take away layers, images and roots that no template and no container uses
///
/// What containers have, also frozen and warm ones, stays. 409 while something is being installed. For
/// keys of the first owner.
#[utoipa::path(post, path = "/api/v1/prune", tag = "templates",
    params(Trial), responses((status = 200, body = Pruned)))]
async fn prune(
    State(state): State<ApiState>,
    caller: Caller,
    Params(trial): Params<Trial>,
) -> Result<Json<Pruned>, Problem> {
    operator(&caller)?;
    let dry_run = flag("dry_run", trial.dry_run.as_deref(), false)?;
    let unused = state.workspaces.prune_templates(!dry_run).await?;
    Ok(Json(Pruned {
        dry_run,
        bytes: unused.iter().map(|one| one.bytes).sum(),
        items: unused.iter().map(PrunedItem::from).collect(),
    }))
}

fn operator(caller: &Caller) -> Result<(), Problem> {
    if caller.admin {
        return Ok(());
    }
    let message = "what templates need is the business of the first owner's keys";
    Err(Problem::new(StatusCode::FORBIDDEN, message))
}

fn known(state: &ApiState, name: &str) -> Result<fleet::id::TemplateName, Problem> {
    template(state, name).map_err(|problem| Problem::not_found(problem.detail()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_installed_is_told_by_its_status() {
        let told = |one: Dependencies| serde_json::to_value(Installed::from(&one)).unwrap();
        assert_eq!(told(Dependencies::None), json!({"status": "none"}));
        let working = Progress::Working {
            since: std::time::Instant::now(),
            step: "pulling".to_owned(),
            bytes: None,
        };
        assert_eq!(
            told(Dependencies::Installing(working)),
            json!({"status": "installing", "step": "pulling", "seconds": 0,
                "bytes_done": null, "bytes_total": null})
        );
    }
}
