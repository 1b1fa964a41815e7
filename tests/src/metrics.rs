//! What the platform tells its operators, as Prometheus would read it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::api::Api;
use crate::world::World;

/// One look at `/metrics`.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Looks now.
    pub fn of(world: &World) -> Result<Self> {
        let reply = Api::new(&format!("http://{}", world.ready()?.admin), None).get("/metrics")?;
        ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
        let openmetrics = "application/openmetrics-text";
        ensure!(
            reply.content_type.starts_with(openmetrics),
            "{}",
            reply.content_type
        );
        let text = String::from_utf8(reply.body).context("metrics that are not UTF-8")?;
        ensure!(text.ends_with("# EOF\n"), "metrics without an end:\n{text}");
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
                Ok((
                    name.to_owned(),
                    value.parse().with_context(|| line.to_owned())?,
                ))
            });
        Ok(Self(samples.collect::<Result<_>>()?))
    }

    /// A sample, named as in the text, e.g. `fleeks_wakes_total{cause="visit",outcome="memory"}`;
    /// zero when nothing was counted yet.
    pub fn get(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or_default()
    }

    /// All samples of a metric together.
    pub fn sum(&self, metric: &str) -> f64 {
        let of = |name: &str| name.split('{').next() == Some(metric);
        self.0
            .iter()
            .filter(|(name, _)| of(name))
            .map(|(_, value)| value)
            .sum()
    }

    /// Names with their labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
