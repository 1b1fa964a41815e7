//! What operators are told.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleeks_tests::api::Api;
use fleeks_tests::curl::Version;
use fleeks_tests::metrics::Metrics;
use fleeks_tests::world::Runtime;
use fleeks_tests::{Curl, World, apps, wait};

/// A visit, a sleep and a wake are all counted, nobody is named, and visitors cannot ask.
pub fn metrics_tell_what_happened(runtime: Runtime) -> Result<()> {
    let world = World::builder(runtime).pool("python", 1).open()?;
    {
        let workspace = world.workspace("python")?;
        apps::serve_python(&workspace, "0.0.0.0", 5000)?;
        let url = workspace.preview_url()?;
        let visit = || Curl::new(&world, Version::H2, &url)?.send();
        ensure!(visit()?.status == 200);
        let before = Metrics::of(&world)?;
        ensure!(
            before.get("fleeks_workspaces{state=\"running\"}") == 1.0,
            "{before:?}"
        );
        ensure!(before.get("fleeks_snapshots") == 0.0, "{before:?}");

        let container = format!("/api/v1/sdk/containers/{}", workspace.container);
        world
            .api()?
            .call("POST", &format!("{container}/hibernate"), &[])?
            .ok()?;
        let asleep = Metrics::of(&world)?;
        ensure!(
            asleep.get("fleeks_workspaces{state=\"hibernated\"}") == 1.0,
            "{asleep:?}"
        );
        let hibernated = "fleeks_step_duration_seconds_count{step=\"hibernate\"}";
        ensure!(asleep.get(hibernated) == 1.0, "{asleep:?}");

        // Where nothing listens: whether an app outlives a sleep is another story.
        let closed = url.replace("://", "://4999--");
        ensure!(Curl::new(&world, Version::H2, &closed)?.send()?.status == 502);
        let awake = Metrics::of(&world)?;
        let woken = "fleeks_wakes_total{cause=\"visit\",outcome=\"memory\"}";
        ensure!(awake.get(woken) == 1.0, "{awake:?}");
        ensure!(awake.get("fleeks_restores_peak") == 1.0, "{awake:?}");
        let answered = "fleeks_gateway_requests_total{target=\"preview\",status=\"2xx\"}";
        ensure!(awake.get(answered) >= 1.0, "{awake:?}");
        ensure!(
            awake.sum("fleeks_gateway_wake_wait_seconds_count") >= 1.0,
            "{awake:?}"
        );

        for name in awake.names() {
            let told = [&workspace.container, &workspace.project, &workspace.host()?];
            ensure!(
                !told.iter().any(|secret| name.contains(*secret)),
                "{name} names somebody"
            );
        }
        wait::until_true("the snapshot to be spent", Duration::from_secs(60), || {
            Ok(Metrics::of(&world)?.get("fleeks_snapshots") == 0.0)
        })?;
    }
    let admin = Api::new(&format!("http://{}", world.ready()?.admin), None);
    ensure!(admin.get("/health")?.status == 200);
    ensure!(admin.call("POST", "/metrics", b"{}")?.status == 405);
    ensure!(admin.get("/")?.status == 404);
    // The public listeners know nothing of it, whoever asks.
    let public = world.api()?.get("/metrics")?;
    ensure!(public.status == 404, "{}: {}", public.status, public.text());
    world.stop()
}
