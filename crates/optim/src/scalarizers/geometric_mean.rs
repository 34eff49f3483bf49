//! The product of the losses.

use super::{seen, spread};
use crate::scalarizers::function_of_losses;
use crate::state::Memory;
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result};

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

    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<f64>)> {
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
        let value = if at.is_empty() { 0.0 } else { log.exp() };
        let weights = at.iter().zip(&exponents).map(|(&i, e)| (e * value / losses[i]).min(f64::MAX));
        Ok((value, spread(self.objectives.len(), &at, weights)))
    }
}

function_of_losses!(GeometricMean);
