//! One sign for each coordinate.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::random::{stream, uniform};
use crate::solve::Combination;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Jacobian, Preference, Result, RowWeighting, Signals};

/// Parameters of [`GradDrop`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradDropConfig {
    /// Share of every gradient that passes whatever its sign: 0 to 1.
    pub leak: f64,
    /// Seed of the signs.
    pub seed: u64,
}

/// GradDrop (Chen et al., "Just pick a sign", NeurIPS 2020): in every coordinate the sign `+` is kept with probability
/// `P = ½ (1 + Σ g_i / Σ |g_i|)`, otherwise `-`, and the gradients' parts of the other sign are dropped.
///
/// Needs the rows and gives no weights. The expected direction is not the mean gradient's: in each coordinate it is
/// `P Σ g_i⁺ + (1 - P) Σ g_i⁻`. Preferences multiply the gradients (`m p_i g_i`). Zero rows, and coordinates where all are zero, add nothing.
#[derive(Debug, Clone)]
pub struct GradDrop {
    config: GradDropConfig,
    objectives: Objectives,
    memory: Memory,
}

impl GradDrop {
    /// Remembers only how many steps there were.
    ///
    /// # Errors
    /// Wrong preferences, or `leak` outside `[0, 1]`.
    pub fn new(objectives: &[Preference], config: GradDropConfig) -> Result<Self> {
        check_range("leak", config.leak, 0.0, 1.0, "it is a share between 0 and 1")?;
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory: Memory::counter("graddrop") })
    }
}

impl RowWeighting for GradDrop {
    fn name(&self) -> &'static str {
        "graddrop"
    }

    fn combine(&mut self, jacobian: &Jacobian, signals: &Signals<'_>) -> Result<Combination> {
        self.objectives.check_rows(signals, jacobian)?;
        let m = self.objectives.len();
        let mut random = stream(self.config.seed, self.memory.step);
        self.memory.step += 1;
        let factors: Vec<f64> = self.objectives.shares().iter().map(|p| p * m as f64).collect();
        let leak = self.config.leak;
        let direction = (0..jacobian.width())
            .map(|k| {
                let (mut up, mut down, mut largest) = (0.0, 0.0, 0.0_f64);
                let parts = || jacobian.rows().iter().zip(&factors).map(|(row, f)| row[k] * f);
                parts().for_each(|g| largest = largest.max(g.abs()));
                let draw = uniform(&mut random);
                if largest == 0.0 {
                    return 0.0;
                }
                // In units of the largest part: sums of finite parts may overflow.
                for g in parts() {
                    if g > 0.0 { up += g / largest } else { down -= g / largest }
                }
                let chosen = if up / (up + down) > draw { up } else { -down };
                ((leak * (up - down) + (1.0 - leak) * chosen) * largest).clamp(-f64::MAX, f64::MAX)
            })
            .collect();
        Ok(Combination { weights: Vec::new(), direction })
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_come_with_their_probability() {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 1.0)];
        let n = 20_000;
        let jacobian = Jacobian::new(vec![vec![3.0; n], vec![-1.0; n]]).unwrap();
        let signals = Signals { losses: &[1.0; 2], observed: &[1; 2], gramian: None };
        let mut method = GradDrop::new(&objectives, GradDropConfig::default()).unwrap();
        let first = method.combine(&jacobian, &signals).unwrap().direction;
        assert!(first.iter().all(|d| *d == 3.0 || *d == -1.0));
        // P = ½ (1 + 2/4)
        let up = first.iter().filter(|d| **d == 3.0).count() as f64 / n as f64;
        assert!((up - 0.75).abs() < 0.015, "{up}");
        let second = method.combine(&jacobian, &signals).unwrap().direction;
        assert_ne!(first, second);
        method.reset();
        assert_eq!(first, method.combine(&jacobian, &signals).unwrap().direction);
        let mut leaky = GradDrop::new(&objectives, GradDropConfig { leak: 1.0, seed: 3 }).unwrap();
        assert!(leaky.combine(&jacobian, &signals).unwrap().direction.iter().all(|d| (*d - 2.0).abs() < 1e-12));
    }
}
