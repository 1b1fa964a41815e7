//! What the API's description has besides the calls: who it is, how one shows a key, and the shape
//! of errors, which every call may answer; and it tells calls of the same name apart.
//!
//! Must never happen here: a call described. Their handlers do that.

use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};

/// An error, whatever its status.
#[derive(Debug, Serialize, ToSchema)]
struct ProblemBody {
    /// What is wrong: a sentence, or an object with a code where a client wants one.
    #[schema(schema_with = detail)]
    detail: serde_json::Value,
    /// Name it when you ask somebody.
    request_id: String,
}

fn detail() -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let object = ObjectBuilder::new().schema_type(Type::Object);
    OneOfBuilder::new().item(text).item(object).into()
}

/// A `RunBody` that must say where, for the calls whose path does not.
pub(crate) enum RunInProject {}

impl PartialSchema for RunInProject {
    fn schema() -> RefOr<Schema> {
        let project = ObjectBuilder::new().schema_type(Type::String);
        let placed = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("project_id", project)
            .required("project_id");
        AllOfBuilder::new()
            .item(Ref::from_schema_name("RunBody"))
            .item(placed)
            .into()
    }
}

// `RunBody` itself is described by the call that needs no project.
impl ToSchema for RunInProject {}

/// The whole description, of the calls in `api`.
pub fn described(mut api: OpenApi) -> OpenApi {
    api.info = InfoBuilder::new()
        .title("fleeks")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Sandboxes with URLs. What fleeks-sdk speaks, and some more.",
        ))
        .license(Some(
            utoipa::openapi::LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build();
    let mut components = api
        .components
        .take()
        .unwrap_or_else(|| ComponentsBuilder::new().build());
    components
        .schemas
        .insert("Problem".to_owned(), ProblemBody::schema());
    let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
    components.add_security_scheme("key", SecurityScheme::ApiKey(key));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    api.components = Some(components);
    let none: [&str; 0] = [];
    api.security = Some(vec![
        SecurityRequirement::new("key", none),
        SecurityRequirement::new("bearer", none),
    ]);
    let problem = || {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        ResponseBuilder::new()
            .description("An error: what is wrong is in `detail`.")
            .content("application/json", content.build())
            .build()
    };
    for item in api.paths.paths.values_mut() {
        let calls = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        for call in calls.into_iter().flatten() {
            name(call);
            let responses = &mut call.responses.responses;
            for (status, response) in responses.iter_mut() {
                let RefOr::T(response) = response else {
                    continue;
                };
                // An error that has a word of its own has the shape of all others.
                if status.starts_with(['4', '5']) && response.content.is_empty() {
                    response.content = problem().content;
                }
            }
            responses.insert("default".to_owned(), RefOr::T(problem()));
        }
    }
    api
}

/// Handlers are called `list` in many modules, and each module has a tag: the id is of both. Within a
/// tag names differ, which the test sees to.
fn name(call: &mut Operation) {
    let tag = call.tags.iter().flatten().next();
    if let (Some(tag), Some(id)) = (tag, &mut call.operation_id) {
        *id = format!("{}_{id}", tag.replace(' ', "_"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        let (_, calls) = crate::calls().split_for_parts();
        serde_json::to_value(described(calls)).unwrap()
    }

    #[test]
    fn every_call_has_an_id_of_its_own() {
        let document = document();
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for call in item.as_object().unwrap().values() {
                let id = call["operationId"].as_str().unwrap();
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                assert!(id.bytes().all(plain), "{id}");
                assert!(ids.insert(id.to_owned()), "two calls are called {id}");
            }
        }
        assert!(ids.len() > 60 && ids.contains("workspaces_list"), "{ids:?}");
    }

    #[test]
    fn a_command_needs_a_project_where_the_path_has_none() {
        let document = document();
        let paths = &document["paths"];
        let body = |path: &str| {
            let body = &paths[path]["post"]["requestBody"]["content"]["application/json"];
            body["schema"]["$ref"].as_str().unwrap().to_owned()
        };
        for call in ["execute", "background"] {
            let body = body(&format!("/api/v1/sdk/terminal/{call}"));
            assert_eq!(body, "#/components/schemas/RunInProject");
        }
        let exec = body("/api/v1/sdk/containers/{container_id}/exec");
        assert_eq!(exec, "#/components/schemas/RunBody");
        let schemas = &document["components"]["schemas"];
        assert!(schemas["RunBody"].is_object());
        let parts = &schemas["RunInProject"]["allOf"];
        assert_eq!(parts[0]["$ref"], "#/components/schemas/RunBody");
        assert_eq!(parts[1]["required"][0], "project_id");
    }

    #[test]
    fn errors_with_a_status_have_the_shape_of_all() {
        let document = document();
        let call = "/api/v1/sdk/workspaces/{project_id}/terminals/{terminal_id}/ws";
        let answer = &document["paths"][call]["get"]["responses"]["426"];
        assert_eq!(answer["description"], "No websocket was asked for");
        let shape = &answer["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(shape, "#/components/schemas/Problem");
    }
}
