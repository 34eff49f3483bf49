//! Further pretraining on a user's own texts, without labels: masked language modelling ([`masked_words`], Devlin et al. 2019) teaches
//! the words and phrases of a catalogue, contrastive tuning ([`contrast`], Gao et al. 2021) spreads its sentence vectors.
//!
//! Both change the encoder that they are given, and measure it on held-out texts before and after. The same seed gives the same
//! weights.

mod contrast;
mod head;
mod masking;
mod run;
mod words;

use serde::Serialize;

use crate::TrainError;

pub use contrast::{Spread, contrast, contrastive_loss, spread};
pub use head::MaskedWordHead;
pub use masking::{Masked, Masking};
pub use words::{WordLoss, masked_words};

/// How to pretrain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PretrainConfig {
    /// Passes over the texts.
    pub epochs: usize,
    /// Steps, whatever `epochs` says; 0 = as `epochs` says.
    pub steps: usize,
    /// Texts of a step; all there are, where they are fewer.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate rises from zero; it falls along a cosine then.
    pub warmup: f64,
    /// Weight decay, on matrices only.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub clip: f64,
    /// Tokens that go through the encoder at once, where the objective lets a batch be cut.
    pub token_budget: usize,
    /// Seed.
    pub seed: u64,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            steps: 0,
            batch: 64,
            learning_rate: 1e-4,
            warmup: 0.1,
            weight_decay: 0.01,
            clip: 1.0,
            token_budget: 8192,
            seed: 1,
        }
    }
}

impl PretrainConfig {
    fn check(&self, texts: usize, fewest: usize) -> Result<(), TrainError> {
        let bad = |field, value: String, problem| Err(TrainError::BadConfig { field, value, problem });
        if texts < fewest {
            return bad("texts", texts.to_string(), "are too few: give more");
        }
        if self.batch < fewest {
            return bad("batch", self.batch.to_string(), "is too small: masked words need 1 text, contrasts 2");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad("learning_rate", self.learning_rate.to_string(), "must be positive");
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return bad("warmup", self.warmup.to_string(), "is a share of the steps, 0 to 1");
        }
        if self.clip.is_nan() || self.clip <= 0.0 {
            return bad("clip", self.clip.to_string(), "must be positive");
        }
        if self.steps == 0 && self.epochs == 0 {
            return bad("epochs", "0".into(), "and no steps: nothing would be learned");
        }
        Ok(())
    }
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PretrainStep {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The loss of its batch.
    pub loss: f64,
    /// The learning rate it took.
    pub learning_rate: f64,
}

/// What pretraining did; `M` is what is measured on held-out texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pretrained<M> {
    /// Of the encoder as it came.
    pub before: M,
    /// Of the trained one.
    pub after: M,
    /// Every step.
    pub curve: Vec<PretrainStep>,
}
