//! Fixed weights.

use crate::weighting::check_signals;
use crate::{Preference, Result, Signals, Weighting, WeightingState};

/// `Σ p_i L_i` with the preferences `p` as they were given.
#[derive(Debug, Clone)]
pub struct WeightedSum {
    objectives: Vec<Preference>,
}

impl WeightedSum {
    /// The weights are the preferences, not rescaled.
    ///
    /// # Errors
    /// No objectives, a weight that is negative or not finite, or none above 0.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Preference::check(objectives)?;
        Ok(Self { objectives: objectives.to_vec() })
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
        check_signals(signals, &self.objectives)?;
        Ok(self.objectives.iter().map(|p| p.weight).collect())
    }

    fn state(&self) -> WeightingState {
        WeightingState::of(self.name())
    }

    fn restore(&mut self, state: &WeightingState) -> Result<()> {
        state.check(self.name())
    }
}
