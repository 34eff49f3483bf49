//! The configuration of a run: what the data set suggests, what the user's file says, what the flags say, in that order.

mod layers;
mod model;
mod resolve;
mod start;

use std::{collections::BTreeMap, path::PathBuf};

use paretune_data::{FeatureSpec, Part, SplitStrategy, leaks::LeakThresholds};
use paretune_objectives::Objective;
use paretune_train::{
    BalanceConfig, TrainingConfig,
    evaluation::{CalibrationConfig, Candidates},
};
use serde::{Deserialize, Serialize};

pub(crate) use layers::parse;
pub(crate) use model::ModelConfig;

/// Everything that determines a run. Written resolved to `config.toml`, which reproduces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// Seed of everything random.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    pub(crate) data: DataConfig,
    #[serde(default)]
    pub(crate) model: ModelConfig,
    #[serde(default)]
    pub(crate) balance: BalanceConfig,
    #[serde(default)]
    pub(crate) training: TrainingConfig,
    #[serde(default)]
    pub(crate) evaluation: EvaluationConfig,
    /// How probabilities are made frequencies after training: `none`, `platt`, `isotonic`, or a table.
    #[serde(default, skip_serializing_if = "CalibrationConfig::is_none")]
    pub(crate) calibration: CalibrationConfig,
    /// Whether the model is trained once more when validation has chosen its length: from the beginning, for as many passes, on the rows of
    /// training and of validation, which are the newest.
    #[serde(default)]
    pub(crate) refit: bool,
    /// From where on a column that knows too much is reported, and refused.
    #[serde(default)]
    pub(crate) leaks: LeakThresholds,
    pub(crate) objectives: Vec<Objective>,
    /// Features of columns of users and items, and of moments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) features: Vec<FeatureSpec>,
}

fn one() -> u64 {
    1
}

fn all() -> f64 {
    1.0
}

fn is_all(share: &f64) -> bool {
    *share == 1.0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// `marketplace`, a known data set, a descriptor, or a folder of Parquet tables.
    pub(crate) dataset: String,
    /// Folder with the raw files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<PathBuf>,
    /// How the log is divided.
    pub(crate) split: SplitStrategy,
    /// Feedback column whose positive value makes an event part of the history.
    pub(crate) engaged: String,
    /// How an item's fields become its text.
    pub(crate) template: String,
    /// Share of the rows of training and validation that are kept, by whole requests and by chance: how it would be with a shorter log.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub(crate) train_share: f64,
    /// Stop when more than this share of the raw rows is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_bad_share: Option<f64>,
    /// Whether the log is read shard by shard instead of kept in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stream: bool,
    /// Number of shards, with `stream`.
    #[serde(default = "shards", skip_serializing_if = "is_shards")]
    pub(crate) shards: usize,
    /// Users that validation and evaluation look at, with `stream`, about.
    #[serde(default = "sample", skip_serializing_if = "is_sample")]
    pub(crate) sample: usize,
}

fn shards() -> usize {
    64
}

fn is_shards(count: &usize) -> bool {
    *count == shards()
}

fn sample() -> usize {
    10_000
}

fn is_sample(users: &usize) -> bool {
    *users == sample()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// What to compare with.
    pub(crate) baselines: Vec<Baseline>,
    /// Cut-offs of the ranking metrics; list metrics use the first.
    pub(crate) top: Vec<usize>,
    /// Users that are ranked for, at most.
    pub(crate) users: usize,
    /// Test rows, at most.
    pub(crate) rows: usize,
    /// What the full ranking ranks by; the first objective by default.
    pub(crate) rank_by: BTreeMap<String, f64>,
    /// The items that are ranked and that negatives are drawn from: `all`, `seen` in training, or `unseen`; absent = `unseen` for a split
    /// by items, `all` for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) candidates: Option<Candidates>,
    /// Whether rankings keep the prior of `model.popularity` that they were trained with.
    #[serde(skip_serializing_if = "is_true")]
    pub(crate) popularity: bool,
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        use Baseline::{ItemMean, Popularity, SingleObjective, Untrained};
        Self {
            baselines: vec![Untrained, Popularity, ItemMean, SingleObjective],
            top: vec![10, 20],
            users: 1000,
            rows: 100_000,
            rank_by: BTreeMap::new(),
            candidates: None,
            popularity: true,
        }
    }
}

/// What a model is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Baseline {
    /// The same model before training: pretrained encoder, fresh towers.
    Untrained,
    /// The item's popularity alone.
    Popularity,
    /// The item's mean label.
    ItemMean,
    /// Item neighbours by cosine (Sarwar et al. 2001); ranks only.
    ItemKnn,
    /// Item weights in closed form (EASE: Steck 2019); ranks only.
    Ease,
    /// Matrix factorization by alternating least squares (Hu et al. 2008); ranks only.
    Mf,
    /// A ranking by chance.
    Random,
    /// For each objective a model trained on it alone.
    SingleObjective,
    /// The same model with an id table in place of the text encoder.
    Ids,
}

impl RunConfig {
    /// The items that an evaluation of this part holds against each other.
    pub(crate) fn candidates(&self, part: Part) -> Candidates {
        self.evaluation.candidates.unwrap_or_else(|| Candidates::usual(&self.data.split, part))
    }

    /// Weights of the objectives for the full ranking.
    pub(crate) fn rank_weights(&self) -> Vec<f64> {
        let by = &self.evaluation.rank_by;
        let first = self.objectives.iter().position(|objective| objective.kind.has_labels());
        self.objectives
            .iter()
            .enumerate()
            .map(|(k, objective)| match by.is_empty() {
                true => f64::from(u8::from(Some(k) == first)),
                false => by.get(&objective.name).copied().unwrap_or(0.0),
            })
            .collect()
    }
}
