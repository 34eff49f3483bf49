//! How to train.

use std::collections::BTreeMap;

use paretune_optim::{Decay, EmaConfig, OptimError, OptimizerConfig, Sam, Schedule};
use serde::{Deserialize, Serialize};

use crate::TrainError;

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
    /// What moves the parameters: `"adamw"`, `"lamb"`, `"adafactor"`, `"sgd"`, or a table with the name and parameters, such as
    /// `{ name = "sgd", momentum = 0.8 }`.
    pub optimizer: OptimizerConfig,
    /// Peak learning rate of the towers.
    pub learning_rate: f64,
    /// Peak learning rate of the text encoder (or the id table).
    pub backbone_learning_rate: f64,
    /// Factor of the text encoder's learning rate from one layer to the one below it (Howard and Ruder 2018): 1 is the same rate for
    /// all, .9 lets what is general at the bottom change less than what is specific at the top.
    pub layer_decay: f64,
    /// Share of the steps over which the text encoder is unfrozen from the top down, one layer after the other; 0 = all of it is
    /// trained from the first step.
    pub unfreeze: f64,
    /// Weight decay, on matrices only: decoupled, but for SGD, where it is part of the gradient.
    pub weight_decay: f64,
    /// Share of the steps over which the learning rate rises from zero.
    pub warmup: f64,
    /// What it does then: `"constant"`, `"linear"`, `"cosine"`, `"inverse-root"`; or `"one-cycle"`, which rises along a cosine as well.
    pub schedule: Decay,
    /// Sharpness-aware minimization, `{ rho = 0.05, adaptive = false }`: every step takes two passes over its batch. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sam: Option<Sam>,
    /// Decay of the moving average of weights that is validated and kept, such as 0.999, with a warm-up of its own
    /// ([`EmaConfig::warmup`]); 0 = none.
    pub ema: f64,
    /// Largest norm of the whole gradient.
    pub clip: f64,
    /// Sampled negatives for each engaged row: needed where the log holds only positives, and useful where the whole catalogue
    /// is to be ranked; 0 = none.
    pub negatives: usize,
    /// Which objectives a batch is for: `"mixed"`, all of them on whatever rows come, or `"alternate"`.
    #[serde(skip_serializing_if = "Loaders::is_mixed")]
    pub loaders: Loaders,
    /// Items that the negatives of one batch are drawn from, freshly for each batch: they share their encodings, so that many
    /// negatives cost little. 0 = the whole catalogue.
    pub negative_pool: usize,
    /// Negatives that all requests of a batch share, for objectives that are rankings whose loss takes a sample of the catalogue.
    pub shared_negatives: usize,
    /// How likely those are: each item's engagements in training to this power. 0 draws all alike, 1 draws the popular ones as often as
    /// they are met; sampled softmax corrects for it.
    pub negative_power: f64,
    /// Share of a sequence's events that training hides and asks for, of models that are trained so (`user.kind = "bert4rec"`).
    pub cloze: f64,
    /// Share of the samples whose item's past (counts, rates, recency) is hidden, so that the model learns to judge an item by its
    /// text alone: it will meet items without a past.
    pub hide_past: f64,
    /// Share of the requests whose user's past (history, counts, own columns) is hidden, so that the model learns what to answer
    /// somebody of whom it knows nothing. The first event of a user alone teaches what people do first.
    pub hide_users: f64,
    /// How histories meet the encoder.
    pub history: HistoryMode,
    /// One of so many steps sends items through the text encoder; the others look all vectors up and train what is above it. 1 reads
    /// texts at every step; more trades freshness against speed.
    pub encode_every: usize,
    /// Steps between two embeddings of the catalogue for the histories, with `history = "cached"`.
    pub refresh_every: usize,
    /// Validations in an epoch; below 1, one in so many epochs.
    pub validations: f64,
    /// Users that a validation ranks for, at most, where the monitor asks for a ranking.
    pub validation_users: usize,
    /// Validations without improvement after which training stops; 0 = never.
    pub patience: usize,
    /// What early stopping and the choice of the best weights look at: metric → weight, for example
    /// `{"click.auc" = 1.0, "satisfaction.rmse" = 0.5, "ndcg@10" = 1.0}` (metrics where lower is better count negatively).
    /// Empty: the mean over the objectives of AUC (binary) or R² (regression).
    pub monitor: BTreeMap<String, f64>,
    /// Concentration of the Dirichlet distribution from which every step of a model with conditioning draws its preference: 1 is
    /// uniform over all balances, less is nearer to single objectives, more is nearer to equal weights.
    pub dirichlet: f64,
    /// Steps between two checkpoints; 0 = at validations only.
    pub checkpoint_every: usize,
    /// Texts whose graph is in memory at a time: the others of a batch are encoded again for the backward pass, with the same gradients
    /// (gradient caching). 0 = all at once.
    pub chunk: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 2,
            max_steps: 0,
            batch: 512,
            accumulate: 1,
            optimizer: OptimizerConfig::default(),
            learning_rate: 2e-3,
            backbone_learning_rate: 1e-4,
            layer_decay: 1.0,
            unfreeze: 0.0,
            weight_decay: 0.01,
            warmup: 0.1,
            schedule: Decay::Cosine,
            sam: None,
            ema: 0.0,
            clip: 1.0,
            negatives: 0,
            loaders: Loaders::Mixed,
            negative_pool: 256,
            shared_negatives: 256,
            negative_power: 0.0,
            cloze: 0.2,
            hide_past: 0.1,
            hide_users: 0.0,
            history: HistoryMode::Cached,
            encode_every: 1,
            refresh_every: 100,
            validations: 2.0,
            validation_users: 300,
            patience: 4,
            monitor: BTreeMap::new(),
            dirichlet: 1.0,
            checkpoint_every: 0,
            chunk: 0,
        }
    }
}

impl TrainingConfig {
    /// The learning rate's multiplier over the run.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule { warmup: self.warmup, decay: self.schedule, floor: 0.0 }
    }

    /// The average of weights, if there is to be one.
    pub(crate) fn average(&self) -> Option<EmaConfig> {
        (self.ema != 0.0).then_some(EmaConfig { decay: self.ema, warmup: true })
    }

    /// Refuses rates and sizes with which nothing can be trained.
    pub(crate) fn check_sizes(&self) -> Result<(), TrainError> {
        for (field, value) in
            [("learning_rate", self.learning_rate), ("backbone_learning_rate", self.backbone_learning_rate)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(TrainError::BadConfig { field, value: value.to_string(), problem: "must be positive" });
            }
        }
        for (field, value) in [("batch", self.batch), ("epochs", self.epochs), ("accumulate", self.accumulate)] {
            if value == 0 {
                return Err(TrainError::BadConfig { field, value: "0".into(), problem: "must be at least 1" });
            }
        }
        Ok(())
    }

    /// Refuses settings of optimizer, schedule, SAM and average that are out of range.
    pub(crate) fn check_moves(&self) -> Result<(), TrainError> {
        let named = |table: &'static str| {
            move |error| match error {
                OptimError::Setting { setting, value, rule } => {
                    OptimError::Setting { setting: format!("training.{table}{setting}"), value, rule }
                }
                other => other,
            }
        };
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            let (field, value) = ("layer_decay", self.layer_decay.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must be above 0 and at most 1" });
        }
        if !(self.validations > 0.0 && self.validations.is_finite()) {
            let (field, value) = ("validations", self.validations.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must be above 0; 0.5 is one in two epochs" });
        }
        if !(self.cloze > 0.0 && self.cloze <= 1.0) {
            let (field, value) = ("cloze", self.cloze.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must be a share, above 0 and at most 1" });
        }
        if !(0.0..=1.0).contains(&self.hide_users) {
            let (field, value) = ("hide_users", self.hide_users.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must be a share, from 0 to 1" });
        }
        if !(self.negative_power >= 0.0 && self.negative_power.is_finite()) {
            let (field, value) = ("negative_power", self.negative_power.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must not be negative" });
        }
        if self.encode_every == 0 {
            let (field, value) = ("encode_every", "0".into());
            return Err(TrainError::BadConfig {
                field,
                value,
                problem: "must be at least 1: that reads texts at every step",
            });
        }
        if !(0.0..=1.0).contains(&self.unfreeze) {
            let (field, value) = ("unfreeze", self.unfreeze.to_string());
            return Err(TrainError::BadConfig { field, value, problem: "must be a share of the steps, from 0 to 1" });
        }
        self.optimizer.check().map_err(named("optimizer."))?;
        self.schedule().check().map_err(named(""))?;
        self.sam.map_or(Ok(()), |sam| sam.check()).map_err(named("sam."))?;
        self.average().map_or(Ok(()), |average| average.check()).map_err(named("ema: "))?;
        Ok(())
    }
}

/// Which objectives a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loaders {
    /// All of them, on rows as they come: an objective has as much to say as it has labels.
    #[default]
    Mixed,
    /// One after the other: each objective in turn has a batch of requests with labels of it, drawn from those requests alone. One with few labels
    /// gets as many steps as the others, and meets its labels more often. Goals without labels count in every batch.
    Alternate,
}

impl Loaders {
    fn is_mixed(&self) -> bool {
        *self == Self::Mixed
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
