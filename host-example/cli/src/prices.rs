//! What tokens count for, by their model and kind: the weights of the router.

use super::Failure;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use thread_budget_router_core::Upstream;
use thread_budget_router_core::usage::Tokens;
use thread_budget_router_core::weights::{Rates, Weights};
use thread_budget_serve::Config;

/// Every token counts for 1 without upstreams.
#[derive(Default)]
pub(super) struct Prices {
    upstreams: Vec<Upstream>,
}

/// A file of nothing but weights, each as an upstream has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsFile {
    weights: Vec<Weights>,
}

impl Prices {
    /// Read a router's configuration, or a file of weights.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let cannot = |why: &dyn std::fmt::Display| {
            Failure::Input(format!("cannot use the weights in {}: {why}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| cannot(&error))?;
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| cannot(&error.to_string().trim_end()))?;
        let upstreams = if table.contains_key("upstreams") {
            Config::from_toml(&text).map_err(|error| cannot(&error))?.upstreams
        } else {
            let file: WeightsFile =
                toml::from_str(&text).map_err(|error| cannot(&error.to_string().trim_end()))?;
            vec![Upstream { weights: file.weights, ..Upstream::default() }]
        };
        Ok(Self { upstreams })
    }

    /// What tokens of a model count for: prompt and completion. They are those of the first upstream for the model.
    pub(super) fn of(&self, model: &str, tokens: Tokens) -> [u64; 2] {
        let answers = |upstream: &&Upstream| {
            upstream.models.is_empty() || upstream.models.iter().any(|prefix| model.starts_with(prefix))
        };
        match self.upstreams.iter().find(answers) {
            Some(upstream) => Rates::by(&upstream.weights, model).weigh(tokens),
            None => [tokens.prompt(), tokens.completion()],
        }
    }
}
