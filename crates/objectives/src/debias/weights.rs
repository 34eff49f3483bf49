//! What a batch tells a debiased objective of its samples.

use candle_core::{Device, Tensor};

use crate::{Bias, Objective, ObjectiveError, Result};

/// Inverse propensities of the samples of a batch, for one objective. `B` samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleWeights {
    /// `[B]`: `1 / p`, before clipping. `NaN` where it is not known: by selection such a sample has no label, by exposure it was looked at.
    pub inverse: Vec<f32>,
    /// What sums over observed labels are divided by: how many samples might have had one.
    pub base: usize,
    /// The samples that stand for all that a doubly robust loss is a mean over.
    pub population: Vec<u32>,
}

/// The same, ready for a loss.
#[derive(Debug, Clone)]
pub(crate) enum Weighting {
    /// Every label counts alike, or its target says how much.
    Alike,
    /// By selection.
    Selection {
        /// `[count]`, clipped.
        weights: Tensor,
        /// As [`SampleWeights::base`].
        base: f64,
        /// As [`SampleWeights::population`]; `None` where it is empty.
        population: Option<Tensor>,
    },
}

impl SampleWeights {
    /// Refuses what does not fit a batch of so many samples.
    fn check(&self, objective: &Objective, rows: usize) -> Result<()> {
        if self.inverse.len() != rows {
            let what = format!("propensities for objective {}", objective.name);
            return Err(ObjectiveError::Count { what, found: self.inverse.len(), expected: rows });
        }
        let wrong = |w: &&f32| !(w.is_nan() || (w.is_finite() && **w > 0.0));
        if let Some(weight) = self.inverse.iter().find(wrong) {
            let rule = "a propensity is above 0 and finite";
            return Err(ObjectiveError::Setting { setting: "1 / propensity", value: weight.to_string(), rule });
        }
        match self.population.iter().find(|row| **row as usize >= rows) {
            Some(row) => {
                let what = format!("a sample of number {row} in the population of objective {}", objective.name);
                Err(ObjectiveError::Count { what, found: *row as usize, expected: rows })
            }
            None => Ok(()),
        }
    }

    /// Changes an objective's targets as far as weights do, and says what else they do. `targets` are `NaN` where not observed.
    pub(crate) fn apply(&self, objective: &Objective, targets: &mut [f32], device: &Device) -> Result<Weighting> {
        let Some(debias) = &objective.debias else { return Ok(Weighting::Alike) };
        self.check(objective, targets.len())?;
        let clipped = |weight: f32| weight.min(debias.largest() as f32);
        if debias.bias_of(objective.kind) == Bias::Exposure {
            for (target, weight) in targets.iter_mut().zip(&self.inverse) {
                if !weight.is_nan() {
                    *target *= clipped(*weight);
                }
            }
            return Ok(Weighting::Alike);
        }
        let mut weights = Vec::new();
        for (target, weight) in targets.iter_mut().zip(&self.inverse) {
            match weight.is_nan() {
                true => *target = f32::NAN,
                false if !target.is_nan() => weights.push(clipped(*weight)),
                false => {}
            }
        }
        let population = match self.population.len() {
            0 => None,
            count => Some(Tensor::from_slice(&self.population, count, device)?),
        };
        let count = weights.len();
        let base = self.base.max(1) as f64;
        Ok(Weighting::Selection { weights: Tensor::from_vec(weights, count, device)?, base, population })
    }
}
