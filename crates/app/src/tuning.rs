//! What of the text encoder is trained: all of it, its last layers, its biases, or an adapter.

use std::path::Path;

use paretune_encoder::{Encoder, Ia3Config, LoraConfig, Targets, Trainable};
use serde::{Deserialize, Serialize};

use crate::{config::ModelConfig, failure::wrong_input};

/// The name under which a run's encoder holds its adapter.
const NAME: &str = "run";
/// The folder of a saved model that holds the adapter alone.
const FOLDER: &str = "adapter";

/// How the text encoder is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tune {
    /// Its own weights: all of them, or those of the last layers (`train_layers`).
    #[default]
    Full,
    /// Its biases alone.
    Biases,
    /// A low-rank adapter.
    Lora,
    /// An adapter that scales keys, values and inner vectors.
    Ia3,
}

/// A low-rank adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LoraSettings {
    /// Rank of the change.
    pub(crate) rank: usize,
    /// Numerator of its factor; absent = twice the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alpha: Option<f64>,
    /// Dropout of its input.
    pub(crate) dropout: f64,
    /// Divide by the root of the rank rather than by the rank.
    pub(crate) rank_stabilized: bool,
    /// Ends of the names of the linear layers that are changed, or `all`; empty = queries and values.
    pub(crate) targets: Vec<String>,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self { rank: 8, alpha: None, dropout: 0.0, rank_stabilized: false, targets: Vec::new() }
    }
}

/// A learning rate to begin with: what is small or starts at nothing has farther to go.
pub(crate) fn learning_rate(tune: Tune, is_builtin: bool) -> f64 {
    match (tune, is_builtin) {
        (Tune::Full, true) => 5e-4,
        (Tune::Full, false) => 1e-4,
        (Tune::Biases, _) => 1e-3,
        (Tune::Lora, _) => 3e-3,
        (Tune::Ia3, _) => 5e-3,
    }
}

/// Which of the encoder's own weights are trained.
pub(crate) fn trainable(model: &ModelConfig) -> Trainable {
    match (model.tune, model.train_layers) {
        (Tune::Full, None) => Trainable::All,
        (Tune::Full, Some(0)) => Trainable::Nothing,
        (Tune::Full, Some(layers)) => Trainable::LastLayers(layers),
        (Tune::Biases, _) => Trainable::Biases,
        // An adapter is trained alone.
        (Tune::Lora | Tune::Ia3, _) => Trainable::Nothing,
    }
}

/// Adds the adapter that is configured.
pub(crate) fn adapt(encoder: &mut Encoder, model: &ModelConfig, seed: u64) -> anyhow::Result<()> {
    if let Some(folder) = &model.adapter {
        if !matches!(model.tune, Tune::Lora | Tune::Ia3) {
            return Err(wrong_input("model.adapter goes on with an adapter: set model.tune to lora or ia3".to_owned()));
        }
        if model.train_layers.is_some() {
            return Err(wrong_input(
                "model.adapter brings the layers that it sits on: leave model.train_layers out".to_owned(),
            ));
        }
        return Ok(encoder.load_adapter(NAME, folder)?);
    }
    if model.tune == Tune::Biases && encoder.parameters().is_empty() {
        return Err(wrong_input(format!(
            "model.tune = biases, but models of the family {} have none; use lora or ia3",
            encoder.config().model_type()
        )));
    }
    let layers = encoder.config().layers();
    let last = match model.train_layers {
        Some(asked) if model.tune != Tune::Full && (asked == 0 || asked > layers || model.tune != Tune::Lora) => {
            return Err(wrong_input(format!(
                "model.train_layers = {asked} with model.tune = {:?}: only lora can be put on the last layers alone, 1 to {layers} here",
                model.tune
            )));
        }
        Some(asked) => (layers.saturating_sub(asked)..layers).collect(),
        None => Vec::new(),
    };
    match model.tune {
        Tune::Full | Tune::Biases => Ok(()),
        Tune::Ia3 => Ok(encoder.add_adapter(NAME, Ia3Config::default(), seed)?),
        Tune::Lora => {
            let LoraSettings { rank, alpha, dropout, rank_stabilized, targets } = model.lora.clone();
            let usual = LoraConfig::rank(rank);
            let targets = match &targets[..] {
                [] => Targets::QueriesAndValues,
                [all] if all == "all" => Targets::All,
                _ => Targets::Names(targets),
            };
            let alpha = alpha.unwrap_or(usual.alpha);
            let config = LoraConfig { alpha, dropout, rank_stabilized, targets, layers: last, ..usual };
            Ok(encoder.add_adapter(NAME, config, seed)?)
        }
    }
}

/// Saves the adapter of a trained encoder beside its model, whose weights hold it already: as `peft` reads it.
pub(crate) fn save(encoder: Option<&Encoder>, model: &Path, base: &str) -> anyhow::Result<()> {
    if let Some((encoder, name)) = encoder.and_then(|encoder| Some((encoder, encoder.active_adapter()?))) {
        encoder.save_adapter(name, &model.join(FOLDER), base)?;
    }
    Ok(())
}

/// How much of the text encoder is trained, where it is not simply its weights.
pub(crate) fn describe(encoder: &Encoder) -> Option<String> {
    let numbers = |count: usize| match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{:.0} k", count as f64 / 1e3),
        _ => format!("{:.1} M", count as f64 / 1e6),
    };
    let trained: usize = encoder.parameters().iter().map(|(_, var)| var.elem_count()).sum();
    let all: usize = encoder.tensors().ok()?.values().map(|tensor| tensor.elem_count()).sum();
    let what = match encoder.active_adapter() {
        Some(_) => "an adapter",
        None => "weights",
    };
    (10 * trained < 9 * all)
        .then(|| format!("text encoder: {what} of {} numbers trained, {} frozen", numbers(trained), numbers(all)))
}
