//! What the API's description has besides the calls: who it is, how one shows a key, and the shape
//! of errors, which every call may answer.
//!
//! Must never happen here: a call described. Their handlers do that.

use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema as _, ToSchema};

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
            let responses = &mut call.responses.responses;
            responses.insert("default".to_owned(), RefOr::T(problem()));
        }
    }
    api
}
