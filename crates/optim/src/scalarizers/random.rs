//! Random weights.

use serde::{Deserialize, Serialize};

use crate::random::{normal, softmax, stream};
use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

/// Parameters of [`Random`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomConfig {
    /// Seed of the weights.
    pub seed: u64,
}

/// Random loss weighting (Lin et al., "Reasonable effectiveness of random weighting", TMLR 2022): each step the softmax of `m` standard normal
/// numbers, times the preferences' shares and brought to a sum of 1.
///
/// A function of seed and step alone.
#[derive(Debug, Clone)]
pub struct Random {
    config: RandomConfig,
    objectives: Objectives,
    memory: Memory,
}

impl Random {
    /// Remembers only how many steps there were.
    ///
    /// # Errors
    /// Wrong preferences.
    pub fn new(objectives: &[Preference], config: RandomConfig) -> Result<Self> {
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory: Memory::counter("random") })
    }

    fn draw(&self) -> Vec<f64> {
        let mut random = stream(self.config.seed, self.memory.step);
        let logits: Vec<f64> =
            self.objectives.shares().iter().map(|p| normal(&mut random) + p.max(1e-300).ln()).collect();
        let live = self.objectives.weights();
        softmax(&logits).iter().zip(live).map(|(w, p)| if p > 0.0 { *w } else { 0.0 }).collect()
    }
}

impl Weighting for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        let weights = self.draw();
        self.memory.step += 1;
        Ok(weights)
    }

    remembers!();
}

impl Scalarizer for Random {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(self.draw().iter().zip(losses).map(|(w, l)| w * l).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_normal_and_shares_shift_them() {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 3.0)];
        let mut method = Random::new(&objectives, RandomConfig { seed: 7 }).unwrap();
        let signals = Signals { losses: &[1.0, 2.0], observed: &[1, 1], gramian: None };
        let apart: Vec<f64> = (0..20_000)
            .map(|_| {
                let w = method.weights(&signals).unwrap();
                (w[1] / w[0]).ln()
            })
            .collect();
        // The difference of two standard normals, shifted by ln 3.
        let mean = apart.iter().sum::<f64>() / 20_000.0;
        let variance = apart.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 3.0_f64.ln()).abs() < 0.04 && (variance - 2.0).abs() < 0.08, "{mean} {variance}");
    }
}
