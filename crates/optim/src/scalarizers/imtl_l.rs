//! Learned scales of losses.

use serde::{Deserialize, Serialize};

use super::{seen, spread};
use crate::adam::{Adam, MOMENTS, check_rate};
use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const SCALES: usize = 0;
/// Log-scales stay in `[-LIMIT, LIMIT]`: a loss that falls to zero would send its weight to infinity.
const LIMIT: f64 = 10.0;

/// Parameters of [`ImtlL`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImtlLConfig {
    /// Learning rate of the log-scales, above 0.
    pub lr: f64,
}

impl Default for ImtlLConfig {
    fn default() -> Self {
        Self { lr: 0.01 }
    }
}

/// IMTL-L (Liu et al., "Towards impartial multi-task learning", ICLR 2021): `Σ p_i (exp(s_i) L_i - s_i)` with log-scales `s` that learn along; at
/// their optimum every scaled loss `exp(s_i) L_i` is 1.
///
/// [`super::UncertaintyWeighting`] with the sign of `s` turned. Remembers `s` and Adam's moments; an objective without labels keeps its `s`.
#[derive(Debug, Clone)]
pub struct ImtlL {
    adam: Adam,
    objectives: Objectives,
    memory: Memory,
}

impl ImtlL {
    /// Starts at `s = 0`.
    ///
    /// # Errors
    /// Wrong preferences, or a learning rate that is not positive.
    pub fn new(objectives: &[Preference], config: ImtlLConfig) -> Result<Self> {
        check_rate("lr", config.lr)?;
        const NAMES: [&str; 4] = ["log_scales", MOMENTS[0], MOMENTS[1], MOMENTS[2]];
        let memory = Memory::new("imtl-l", &NAMES, vec![vec![0.0; objectives.len()]; 4]);
        let adam = Adam { learning_rate: config.lr, weight_decay: 0.0 };
        Ok(Self { adam, objectives: Objectives::new(objectives)?, memory })
    }
}

impl Weighting for ImtlL {
    fn name(&self) -> &'static str {
        "imtl-l"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        let at = seen(&self.objectives, signals.observed);
        let scales: Vec<f64> = self.memory.values[SCALES].iter().map(|s| s.exp()).collect();
        for &i in &at {
            self.adam.step(&mut self.memory, i, scales[i] * signals.losses[i] - 1.0);
            self.memory.values[SCALES][i] = self.memory.values[SCALES][i].clamp(-LIMIT, LIMIT);
        }
        self.memory.step += 1;
        Ok(spread(self.objectives.len(), &at, at.iter().map(|&i| self.objectives.weight(i) * scales[i])))
    }

    remembers!();
}

impl Scalarizer for ImtlL {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        let s = &self.memory.values[SCALES];
        let term = |&i: &usize| self.objectives.weight(i) * (s[i].exp() * losses[i] - s[i]);
        Ok(seen(&self.objectives, observed).iter().map(term).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_losses_settle_at_one() {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 1.0), Preference::new("c", 1.0)];
        let mut method = ImtlL::new(&objectives, ImtlLConfig { lr: 0.05 }).unwrap();
        let mut last = vec![];
        for _ in 0..3000 {
            last = method.weights(&Signals { losses: &[0.2, 5.0, 0.0], observed: &[1, 1, 0], gramian: None }).unwrap();
        }
        assert!((last[0] - 5.0).abs() < 1e-2 && (last[1] - 0.2).abs() < 1e-3 && last[2] == 0.0, "{last:?}");
        assert_eq!(method.memory.values[SCALES][2], 0.0);
    }
}
