//! Fast adaptive multitask optimization.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ideal_point, seen, spread};
use crate::adam::{Adam, MOMENTS, check_range, check_rate};
use crate::random::softmax;
use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const LOGITS: usize = 0;
/// Losses of the last step, and 1 for those that were observed.
const BEFORE: usize = 4;
const SEEN: usize = 5;
const SMALL: f64 = 1e-8;

/// Which losses tell [`Famo`] how a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamoUpdate {
    /// Those of the next batch: free, but with the noise of the batches.
    #[default]
    NextBatch,
    /// Those of the same batch after the step, which the loop passes to [`Weighting::after_step`]: the paper's form, for one forward pass more.
    SameBatch,
}

/// Parameters of [`Famo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FamoConfig {
    /// Learning rate of the logits, above 0.
    pub lr: f64,
    /// Weight decay of the logits, at least 0.
    pub weight_decay: f64,
    /// Which losses tell how a step went.
    pub update: FamoUpdate,
    /// The best loss there could be, by objective; 0 for those that are not named. Losses stay above it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ideal: BTreeMap<String, f64>,
}

impl Default for FamoConfig {
    fn default() -> Self {
        Self { lr: 0.025, weight_decay: 1e-3, update: FamoUpdate::default(), ideal: BTreeMap::new() }
    }
}

/// FAMO (Liu et al., NeurIPS 2023): `c Σ z_i ln(L_i - b_i)` with `z = softmax(ξ)` and `c = 1 / Σ (z_i / (L_i - b_i))`, held fixed; the logits `ξ` learn by
/// Adam to let all losses fall at one relative rate.
///
/// Looks for the steepest decrease of the objective that falls slowest, as balanced gradients would, from losses alone. Weights sum to 1
/// over the objectives observed. Preferences multiply `z`. A loss at or below its ideal counts as just above it. Remembers logits,
/// moments and the last losses.
#[derive(Debug, Clone)]
pub struct Famo {
    adam: Adam,
    update: FamoUpdate,
    ideal: Vec<f64>,
    objectives: Objectives,
    memory: Memory,
}

impl Famo {
    /// Starts with equal logits.
    ///
    /// # Errors
    /// Wrong preferences, an ideal loss of an unknown objective, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: &FamoConfig) -> Result<Self> {
        check_rate("lr", config.lr)?;
        check_range("weight_decay", config.weight_decay, 0.0, 1e6, "it is at least 0, such as 1e-3")?;
        let objectives = Objectives::new(objectives)?;
        const NAMES: [&str; 6] = ["logits", MOMENTS[0], MOMENTS[1], MOMENTS[2], "before", "seen"];
        let memory = Memory::new("famo", &NAMES, vec![vec![0.0; objectives.len()]; 6]);
        let adam = Adam { learning_rate: config.lr, weight_decay: config.weight_decay };
        Ok(Self { adam, update: config.update, ideal: ideal_point(&config.ideal, &objectives)?, objectives, memory })
    }

    /// `L_i - b_i`, above 0.
    fn height(&self, i: usize, loss: f64) -> f64 {
        (loss - self.ideal[i] + SMALL).max(SMALL)
    }

    /// `z` for the objectives at `at`, summing to 1.
    fn parts(&self, at: &[usize]) -> Vec<f64> {
        let shares = self.objectives.shares();
        softmax(&at.iter().map(|&i| self.memory.values[LOGITS][i] + shares[i].ln()).collect::<Vec<_>>())
    }

    /// One step of the logits from the change between the remembered losses and these.
    fn learn(&mut self, after: &[f64], at: &[usize]) {
        let at: Vec<usize> = at.iter().copied().filter(|&i| self.memory.values[SEEN][i] > 0.0).collect();
        let z = self.parts(&at);
        let fall: Vec<f64> = at
            .iter()
            .map(|&i| self.height(i, self.memory.values[BEFORE][i]).ln() - self.height(i, after[i]).ln())
            .collect();
        let mean: f64 = z.iter().zip(&fall).map(|(z, f)| z * f).sum();
        for (k, &i) in at.iter().enumerate() {
            self.adam.step(&mut self.memory, i, z[k] * (fall[k] - mean));
        }
        self.memory.values[SEEN].fill(0.0);
    }

    fn weigh(&self, losses: &[f64], at: &[usize]) -> Vec<f64> {
        let raw: Vec<f64> = self.parts(at).iter().zip(at).map(|(z, &i)| z / self.height(i, losses[i])).collect();
        let total: f64 = raw.iter().sum();
        raw.iter().map(|w| w / total).collect()
    }
}

impl Weighting for Famo {
    fn name(&self) -> &'static str {
        "famo"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        let at = seen(&self.objectives, signals.observed);
        if self.update == FamoUpdate::NextBatch {
            self.learn(signals.losses, &at);
        }
        let weights = self.weigh(signals.losses, &at);
        self.memory.values[BEFORE] = signals.losses.to_vec();
        self.memory.values[SEEN] = spread(self.objectives.len(), &at, at.iter().map(|_| 1.0));
        self.memory.step += 1;
        Ok(spread(self.objectives.len(), &at, weights))
    }

    fn listens(&self) -> bool {
        self.update == FamoUpdate::SameBatch
    }

    fn after_step(&mut self, losses: &[f64]) -> Result<()> {
        let observed: Vec<usize> = self.memory.values[SEEN].iter().map(|s| usize::from(*s > 0.0)).collect();
        self.objectives.check(&Signals { losses, observed: &observed, gramian: None })?;
        if self.update == FamoUpdate::SameBatch {
            self.learn(losses, &seen(&self.objectives, &observed));
        }
        Ok(())
    }

    remembers!();
}

impl Scalarizer for Famo {
    /// With `c` at its value for these losses.
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        let at = seen(&self.objectives, observed);
        let z = self.parts(&at);
        let heights: Vec<f64> = at.iter().map(|&i| self.height(i, losses[i])).collect();
        let c = 1.0 / z.iter().zip(&heights).map(|(z, h)| z / h).sum::<f64>();
        Ok(if at.is_empty() { 0.0 } else { c * z.iter().zip(&heights).map(|(z, h)| z * h.ln()).sum::<f64>() })
    }
}
