//! Whether the description has every call. What is served is asked of the routers themselves, so that
//! no list has to be kept of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use fleet::record::RecordStore;
use tokio::sync::watch;
use utoipa::openapi::OpenApi;

use crate::keys::{self, KeyStore};
use crate::{app, console, docs};

/// Pages, files and signs of life: no calls, and named in the documentation.
const PAGES: [&str; 8] = [
    "GET /",
    "GET /console",
    "GET /console/{*path}",
    "GET /docs",
    "GET /docs/page.css",
    "GET /docs/page.js",
    "GET /health",
    "GET /openapi.json",
];

/// `METHOD path` of all that a router answers, as it shows itself to programmers: axum has no other
/// way to ask. A path that answers to any method is `ANY`.
fn served<S>(router: &Router<S>) -> BTreeSet<String> {
    let shown = format!("{router:?}");
    let (shown, _) = shown.split_once("fallback_router").expect("a router");
    let (routes, node) = shown.split_once("node: Node").expect("its paths");
    let numbered = |text: &'static str, shown: &str| -> BTreeMap<String, String> {
        let parts = shown.split("RouteId(").skip(1);
        let pairs = parts.filter_map(|part| {
            let (number, rest) = part.split_once(')')?;
            let (_, value) = rest.split_once(text)?;
            Some((number.to_owned(), value.to_owned()))
        });
        pairs.collect()
    };
    let paths = numbered(": \"", node);
    let methods = numbered("allow_header: ", routes);
    assert!(!paths.is_empty() && paths.keys().eq(methods.keys()));
    let calls = paths.iter().flat_map(|(number, path)| {
        let path = path.split('"').next().unwrap_or_default();
        let allowed = methods[number].strip_prefix("Bytes(b\"");
        let allowed = allowed.map_or("ANY", |text| text.split('"').next().unwrap_or_default());
        // Whoever serves GET serves HEAD.
        let named = allowed.split(',').filter(|method| *method != "HEAD");
        named.map(move |method| format!("{method} {path}"))
    });
    calls.collect()
}

/// The same of a description; each call has words for people and says what it answers.
fn described(document: &OpenApi) -> BTreeSet<String> {
    let document = serde_json::to_value(document).unwrap();
    let paths = document["paths"].as_object().expect("paths");
    let mut calls = BTreeSet::new();
    for (path, item) in paths {
        for (method, call) in item.as_object().expect("calls") {
            let name = format!("{} {path}", method.to_uppercase());
            assert!(call["summary"].is_string(), "{name} has no summary");
            assert!(call["tags"][0].is_string(), "{name} has no tag");
            let answers = call["responses"].as_object().expect("answers");
            let good = |status: &String| status.starts_with(['1', '2']);
            assert!(answers.keys().any(good), "{name}: what does it answer?");
            calls.insert(name);
        }
    }
    calls
}

async fn keys() -> (tempfile::TempDir, Arc<KeyStore>) {
    let dir = tempfile::tempdir().unwrap();
    let records = RecordStore::open(dir.path()).unwrap();
    let keys = KeyStore::open(records, dir.path().to_owned()).await;
    (dir, Arc::new(keys.unwrap()))
}

#[tokio::test]
async fn every_call_is_described() {
    let (_dir, keys) = keys().await;
    let (calls, document) = agent_api::calls()
        .merge(keys::routes(keys, None).with_state(()))
        .split_for_parts();
    let (served, described) = (served(&calls), described(&document));
    assert!(served.len() > 100, "only {} calls", served.len());
    let missing: BTreeSet<_> = served.difference(&described).cloned().collect();
    // What is another's business is told in docs/api/README.md.
    let refused = self::served(&agent_api::refusals());
    let forgotten: Vec<_> = missing.difference(&refused).collect();
    assert!(
        forgotten.is_empty(),
        "served and not described: {forgotten:#?}"
    );
    let untrue: Vec<_> = described.difference(&served).collect();
    assert!(untrue.is_empty(), "described and not served: {untrue:#?}");
}

#[tokio::test]
async fn what_is_around_the_calls_is_pages() {
    let (_dir, keys) = keys().await;
    let document = OpenApi::default();
    let (_ready, is_ready) = watch::channel(true);
    let around = app::app(
        docs::routes(document),
        keys,
        is_ready,
        console::tests::console(),
    );
    assert_eq!(served(&around), PAGES.map(str::to_owned).into());
}
