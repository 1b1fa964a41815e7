//! `/api/v1/templates`: what workspaces can start from, and installing what a template needs ahead
//! of its first workspace.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use pool_backend::Progress;
use pool_backend::workspaces::{Dependencies, TemplateInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::input::{Params, flag};
use crate::workspaces::{language_versions, template};
use crate::{ApiState, Caller, Problem};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/v1/templates", get(list))
        .route("/api/v1/templates/{name}", get(show))
        .route("/api/v1/templates/{name}/build", post(build))
}

#[derive(Debug, Serialize)]
struct Info {
    name: String,
    description: String,
    languages: Vec<String>,
    language_versions: BTreeMap<String, String>,
    main_ports: Vec<u16>,
    run: Option<String>,
    build: Option<String>,
    hot_reload: bool,
    files: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Value>,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    dependencies: Value,
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
            image: info
                .image
                .as_ref()
                .map(|image| json!({ "reference": image.reference, "digest": image.digest })),
            available: why.is_none(),
            unavailable_reason: why.map(|why| why.reason.clone()),
            fix: why.map(|why| why.fix.clone()),
            dependencies: dependencies(&info.dependencies),
        }
    }
}

fn dependencies(dependencies: &Dependencies) -> Value {
    match dependencies {
        Dependencies::None => json!({ "status": "none" }),
        Dependencies::Missing => json!({ "status": "missing" }),
        Dependencies::Ready => json!({ "status": "ready" }),
        Dependencies::Installing(Progress::Working { since, step, bytes }) => json!({
            "status": "installing", "step": step, "seconds": since.elapsed().as_secs(),
            "bytes_done": bytes.map(|(done, _)| done), "bytes_total": bytes.map(|(_, all)| all),
        }),
        Dependencies::Installing(Progress::Failed { problem, .. }) => {
            json!({ "status": "failed", "problem": problem })
        }
        Dependencies::Installing(Progress::Done { .. }) => json!({ "status": "ready" }),
    }
}

async fn list(State(state): State<ApiState>, _: Caller) -> Json<Value> {
    let infos = state.workspaces.template_infos();
    let templates: Vec<Info> = infos.iter().map(Info::new).collect();
    Json(json!({ "templates": templates }))
}

async fn show(
    State(state): State<ApiState>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Info>, Problem> {
    let name = known(&state, &name)?;
    Ok(Json(Info::new(&state.workspaces.template_info(&name)?)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wish {
    /// Ask the registry again where the image's name leads to.
    pull: Option<String>,
}

/// Returns at once; [`show`] tells how it goes.
async fn build(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Params(wish): Params<Wish>,
) -> Result<(StatusCode, Json<Info>), Problem> {
    if !caller.admin {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "templates are built with the first owner's keys",
        ));
    }
    let name = known(&state, &name)?;
    let afresh = flag("pull", wish.pull.as_deref(), false)?;
    let info = state.workspaces.build_template(&name, afresh)?;
    Ok((StatusCode::ACCEPTED, Json(Info::new(&info))))
}

fn known(state: &ApiState, name: &str) -> Result<fleet::id::TemplateName, Problem> {
    template(state, name).map_err(|problem| Problem::not_found(problem.detail()))
}
