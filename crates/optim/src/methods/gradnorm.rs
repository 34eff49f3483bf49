//! Gradient norms in step with training rates.

use serde::{Deserialize, Serialize};

use crate::adam::{Adam, MOMENTS, check_range, check_rate};
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const WEIGHTS: usize = 0;
const INITIAL: usize = 4;
/// Weights stay above this share of the mean: at 0 an objective would have no gradient norm left to learn from.
const LEAST: f64 = 1e-3;

/// Parameters of [`GradNorm`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradNormConfig {
    /// How strongly an objective that lags behind is pushed: 0 to 10. 0 asks for equal gradient norms.
    pub alpha: f64,
    /// Learning rate of the weights, above 0.
    pub lr: f64,
}

impl Default for GradNormConfig {
    fn default() -> Self {
        Self { alpha: 1.5, lr: 0.025 }
    }
}

/// GradNorm (Chen et al., "GradNorm: gradient normalization for adaptive loss balancing", ICML 2018): weights that learn to bring every
/// `‖w_i g_i‖` to the mean of all times `r_i^α`, where `r_i` is the objective's loss over its first one, relative to the others'.
///
/// Each step the weights move by Adam along the subgradient of `Σ |‖w_i g_i‖ - target_i|`, targets held fixed, and are brought back to their sum
/// `m`. Preferences scale the targets. Remembers weights, moments and first losses. Objectives without a gradient are passed over and keep
/// their weight; conflicts are not looked at.
#[derive(Debug, Clone)]
pub struct GradNorm {
    config: GradNormConfig,
    objectives: Objectives,
    memory: Memory,
}

impl GradNorm {
    /// Starts with weights of 1.
    ///
    /// # Errors
    /// Wrong preferences, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: GradNormConfig) -> Result<Self> {
        check_range("alpha", config.alpha, 0.0, 10.0, "it is between 0 and 10, such as 1.5")?;
        check_rate("lr", config.lr)?;
        let m = objectives.len();
        const NAMES: [&str; 5] = ["weights", MOMENTS[0], MOMENTS[1], MOMENTS[2], "initial"];
        let zeros = vec![0.0; m];
        // A first loss of 0 means that there has been none.
        let fresh = vec![vec![1.0; m], zeros.clone(), zeros.clone(), zeros.clone(), zeros];
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory: Memory::new("gradnorm", &NAMES, fresh) })
    }
}

impl Weighting for GradNorm {
    fn name(&self) -> &'static str {
        "gradnorm"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "gradnorm")?;
        let m = self.objectives.len();
        let shares = self.objectives.shares();
        let wanted: Vec<usize> = (0..m).filter(|&i| shares[i] > 0.0).collect();
        let mut weights = vec![0.0; m];
        wanted.iter().for_each(|&i| weights[i] = self.memory.values[WEIGHTS][i]);
        let live: Vec<usize> =
            wanted.iter().copied().filter(|&i| gramian.norm(i) > 0.0 && signals.losses[i] > 0.0).collect();
        self.memory.step += 1;
        if live.is_empty() {
            return Ok(weights);
        }
        for &i in &live {
            if self.memory.values[INITIAL][i] == 0.0 {
                self.memory.values[INITIAL][i] = signals.losses[i];
            }
        }
        let count = live.len() as f64;
        let unit = live.iter().map(|&i| gramian.norm(i)).fold(0.0, f64::max);
        let norms: Vec<f64> = live.iter().map(|&i| gramian.norm(i) / unit).collect();
        let mean = live.iter().zip(&norms).map(|(&i, n)| weights[i] * n).sum::<f64>() / count;
        let rates: Vec<f64> = live.iter().map(|&i| signals.losses[i] / self.memory.values[INITIAL][i]).collect();
        let mean_rate = rates.iter().map(|r| r / count).sum::<f64>();
        let adam = Adam { learning_rate: self.config.lr, weight_decay: 0.0 };
        for (k, &i) in live.iter().enumerate() {
            let target = mean * (rates[k] / mean_rate).powf(self.config.alpha) * (m as f64 * shares[i]);
            let apart = weights[i] * norms[k] - target;
            if apart != 0.0 {
                adam.step(&mut self.memory, i, norms[k] * apart.signum());
            }
        }
        let learned = &mut self.memory.values[WEIGHTS];
        wanted.iter().for_each(|&i| learned[i] = learned[i].max(LEAST));
        let total: f64 = wanted.iter().map(|&i| learned[i]).sum();
        wanted.iter().for_each(|&i| learned[i] *= wanted.len() as f64 / total);
        Ok(weights)
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gramian;

    #[test]
    fn norms_come_to_their_targets() {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 1.0)];
        let gramian = Gramian::from_rows(&[[4.0, 0.0], [0.0, 1.0]]).unwrap();
        let mut method = GradNorm::new(&objectives, GradNormConfig { alpha: 1.0, lr: 0.002 }).unwrap();
        let signals = |losses| Signals { losses, observed: &[1, 1], gramian: Some(&gramian) };
        assert_eq!(method.weights(&signals(&[1.0, 2.0])).unwrap(), [1.0, 1.0]);
        let mut last = vec![];
        for _ in 0..4000 {
            // Both halved: equal rates ask for equal norms, 4 w = 2 - w.
            last = method.weights(&signals(&[0.5, 1.0])).unwrap();
        }
        assert!((last[0] - 0.4).abs() < 0.01 && (last[1] - 1.6).abs() < 0.01, "{last:?}");
        for _ in 0..4000 {
            // Rates 1/2 and 1/6, so r = 3/2 and 1/2: 4 w = 3 (2 - w).
            last = method.weights(&signals(&[0.5, 1.0 / 3.0])).unwrap();
        }
        assert!((last[0] - 6.0 / 7.0).abs() < 0.01, "{last:?}");
    }
}
