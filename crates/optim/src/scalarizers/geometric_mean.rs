//! The product of the losses.

use super::{seen, spread};
use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result, Signals, Weighting};

/// Geometric loss strategy (Chennupati et al., "MultiNet++", CVPR workshops 2019): `Π L_i^(p_i)` with shares `p`; the geometric mean for equal ones.
///
/// Invariant, but for one factor, to the scale of each loss. Losses must not be negative; one that is 0 has been solved and is
/// left out, as its weight would have no end.
#[derive(Debug, Clone)]
pub struct GeometricMean {
    objectives: Objectives,
    memory: Memory,
}

impl GeometricMean {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Ok(Self { objectives: Objectives::new(objectives)?, memory: Memory::counter("geometric-mean") })
    }

    /// `f`, with the exponents of the objectives that have a part in it.
    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<usize>, Vec<f64>)> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        let mut at = seen(&self.objectives, observed);
        if let Some(&i) = at.iter().find(|&&i| losses[i] < 0.0) {
            let setting = format!("the loss of objective {}", self.objectives.name(i));
            let rule = "the geometric mean is for losses that are not negative; choose another method";
            return Err(OptimError::Setting { setting, value: losses[i].to_string(), rule });
        }
        at.retain(|&i| losses[i] > 0.0);
        let shares = self.objectives.shares();
        let total: f64 = at.iter().map(|&i| shares[i]).sum();
        let exponents: Vec<f64> = at.iter().map(|&i| shares[i] / total).collect();
        let log: f64 = at.iter().zip(&exponents).map(|(&i, e)| e * losses[i].ln()).sum();
        Ok((if at.is_empty() { 0.0 } else { log.exp() }, at, exponents))
    }
}

impl Weighting for GeometricMean {
    fn name(&self) -> &'static str {
        "geometric-mean"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let (value, at, exponents) = self.solve(signals.losses, signals.observed)?;
        let weights = at.iter().zip(&exponents).map(|(&i, e)| (e * value / signals.losses[i]).min(f64::MAX));
        Ok(spread(self.objectives.len(), &at, weights))
    }

    remembers!();
}

impl Scalarizer for GeometricMean {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        Ok(self.solve(losses, observed)?.0)
    }
}
