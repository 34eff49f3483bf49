//! Fixed weights.

use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

/// `Σ p_i L_i` with the preferences `p` as they were given.
#[derive(Debug, Clone)]
pub struct WeightedSum {
    objectives: Objectives,
    memory: Memory,
}

impl WeightedSum {
    /// The weights are the preferences, not rescaled.
    ///
    /// # Errors
    /// No objectives, a weight that is negative or not finite, or none above 0.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Ok(Self { objectives: Objectives::new(objectives)?, memory: Memory::counter("weighted-sum") })
    }
}

impl Weighting for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted-sum"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        Ok(self.objectives.weights())
    }

    remembers!();
}

impl Scalarizer for WeightedSum {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(losses.iter().zip(self.objectives.weights()).map(|(l, w)| l * w).sum())
    }
}
