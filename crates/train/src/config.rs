//! How to train.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Passes over the training rows.
    pub epochs: usize,
    /// Stops after this many steps, whatever `epochs` says; 0 = no limit.
    pub max_steps: usize,
    /// Samples of a step, negatives included.
    pub batch: usize,
    /// Steps whose gradients are averaged before the parameters move.
    pub accumulate: usize,
    /// Peak learning rate of the towers.
    pub learning_rate: f64,
    /// Peak learning rate of the text encoder (or the id table).
    pub backbone_learning_rate: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Share of the steps over which the learning rate rises from zero; then it falls along a cosine.
    pub warmup: f64,
    /// Largest norm of the whole gradient.
    pub clip: f64,
    /// Sampled negatives for each engaged row: needed where the log holds only positives, and useful where the whole catalogue
    /// is to be ranked; 0 = none.
    pub negatives: usize,
    /// Items that the negatives of one batch are drawn from, freshly for each batch: they share their encodings, so that many
    /// negatives cost little. 0 = the whole catalogue.
    pub negative_pool: usize,
    /// Share of the samples whose item's past (counts, rates, recency) is hidden, so that the model learns to judge an item by its
    /// text alone: it will meet items without a past.
    pub hide_past: f64,
    /// How histories meet the encoder.
    pub history: HistoryMode,
    /// Steps between two embeddings of the catalogue for the histories, with `history = "cached"`.
    pub refresh_every: usize,
    /// Validations in an epoch.
    pub validations: usize,
    /// Validations without improvement after which training stops; 0 = never.
    pub patience: usize,
    /// What early stopping and the choice of the best weights look at: metric → weight, for example
    /// `{"click.auc" = 1.0, "satisfaction.rmse" = 0.5, "ndcg@10" = 1.0}` (metrics where lower is better count negatively).
    /// Empty: the mean over the objectives of AUC (binary) or R² (regression).
    pub monitor: BTreeMap<String, f64>,
    /// Steps between two checkpoints; 0 = at validations only.
    pub checkpoint_every: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 2,
            max_steps: 0,
            batch: 512,
            accumulate: 1,
            learning_rate: 2e-3,
            backbone_learning_rate: 1e-4,
            weight_decay: 0.01,
            warmup: 0.1,
            clip: 1.0,
            negatives: 0,
            negative_pool: 256,
            hide_past: 0.1,
            history: HistoryMode::Cached,
            refresh_every: 100,
            validations: 2,
            patience: 4,
            monitor: BTreeMap::new(),
            checkpoint_every: 0,
        }
    }
}

/// Whether gradients flow through the items of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryMode {
    /// Histories look up vectors that were embedded up to `refresh_every` steps ago. Cheap, a little stale.
    #[default]
    Cached,
    /// Histories are encoded with gradient. Exact, several times the cost.
    Trained,
}
